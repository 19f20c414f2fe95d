/** Folders that a program filled which hides what it can in them. */
import { assert, describe, it } from "@effect/vitest"
import { execFileSync, spawnSync } from "node:child_process"
import * as Fs from "node:fs"
import * as Os from "node:os"
import * as Path from "node:path"
import * as Tree from "../../src/internal/dependenciesTree.ts"

const source = Path.join(import.meta.dirname, "../../src/internal/dependenciesTree.ts")
const isRoot = process.getuid?.() === 0
const user = 1000

const withFolder = async (body: (folder: string) => Promise<void>) => {
  const folder = Fs.realpathSync(Fs.mkdtempSync(Path.join(Os.tmpdir(), "tree-test-")))
  try {
    await body(folder)
  } finally {
    execFileSync("rm", ["-rf", folder])
  }
}

/** Fills a folder by a script, and calls functions of the module, all as an ordinary user, whom modes hold. */
const asUser = (folder: string, script: string, body: string) => {
  const module = Path.join(folder, "tree.mts")
  Fs.copyFileSync(source, module)
  Fs.writeFileSync(
    Path.join(folder, "main.mts"),
    `import * as Tree from "./tree.mts"\nconst folder = ${JSON.stringify(Path.join(folder, "built"))}\n${body}\n`
  )
  Fs.chmodSync(folder, 0o755)
  const as = isRoot ? { uid: user, gid: user } : {}
  Fs.mkdirSync(Path.join(folder, "built"))
  if (isRoot) { for (const name of ["", "built"]) Fs.chownSync(Path.join(folder, name), user, user) }
  execFileSync("/bin/bash", ["-ec", script], { cwd: Path.join(folder, "built"), ...as })
  const run = spawnSync(process.execPath, [Path.join(folder, "main.mts")], { cwd: folder, encoding: "utf8", ...as })
  return run.stdout + run.stderr.replaceAll(/.*ExperimentalWarning.*\n.*--trace-warnings.*\n/g, "")
}

/** A chain of folders whose path is longer than the kernel takes, with something in the last one. */
const deep = (levels: number, last: string) =>
  `top=$PWD; name=$(printf 'd%.0s' {1..250}); for i in $(seq ${levels}); do mkdir $name; cd -P $name; done; ${last}; cd $top`

/** Folders in one another, without a shell that keeps their path. */
const nested = (levels: number) =>
  `${process.execPath} -e 'for (let i = 0; i < ${levels}; i++) { fs.mkdirSync("d"); process.chdir("d") }; fs.chmodSync(".", 0)'`

/** What find sees, which goes by short steps as well: files and folders that may not be left there. */
const strange = (folder: string) =>
  execFileSync("find", [
    folder,
    "(",
    "-perm",
    "/6022",
    "-o",
    "-not",
    "-type",
    "f",
    "-not",
    "-type",
    "d",
    ")",
    "-not",
    "-type",
    "l"
  ], {
    encoding: "utf8"
  }).split("\n").filter((line) => line !== "").map((line) => Path.basename(line))

describe("what a program left", () => {
  it("is disarmed wherever it is", () =>
    withFolder(async (folder) => {
      const said = asUser(
        folder,
        [
          "umask 0; touch plain script; chmod 4755 plain; chmod 6711 script; mkfifo pipe; ln -s /etc/passwd link",
          "mkdir hidden setgid; touch hidden/one; chmod 4755 hidden/one; chmod 2777 setgid; chmod 0311 hidden",
          "mkdir closed; touch closed/two; chmod 6755 closed/two; chmod 0 closed",
          "mkdir listed; touch listed/three; chmod 4755 listed/three; chmod 0400 listed",
          "mkdir $'bytes\\xff'; touch $'bytes\\xff/four\\xfe'; chmod 4755 $'bytes\\xff/four\\xfe'",
          deep(18, "touch five; chmod 4755 five; mkdir -m 0 six")
        ].join("\n"),
        "await Tree.handOver(folder); console.log('done')"
      )
      assert.strictEqual(said, "done\n")
      const built = Path.join(folder, "built")
      assert.deepStrictEqual(strange(built), [])
      const count = (name: string) =>
        execFileSync("find", [built, "-name", name, "-perm", "755"], { encoding: "utf8" }).trim().split("\n").length
      assert.deepStrictEqual(["plain", "one", "two", "three", "four*", "five", "six"].map(count), [1, 1, 1, 1, 1, 1, 1])
      assert.isTrue(Fs.lstatSync(Path.join(built, "link")).isSymbolicLink())
      assert.isFalse(Fs.existsSync(Path.join(built, "pipe")))
    }))

  it("is counted wherever it is", () =>
    withFolder(async (folder) => {
      const million = "head -c 1000000 /dev/zero"
      const said = asUser(
        folder,
        `mkdir hidden; ${million} > hidden/one; chmod 0311 hidden; ${deep(18, `${million} > two`)}`,
        "console.log(await Tree.sizeOf(folder) > 2_000_000)"
      )
      assert.strictEqual(said, "true\n")
    }))

  it("is refused where it is deeper than can be meant", () =>
    withFolder(async (folder) => {
      const said = asUser(
        folder,
        nested(300),
        "for (const look of [Tree.handOver, Tree.sizeOf]) await look(folder).catch((error) => console.log(error instanceof Tree.Unfit))"
      )
      assert.strictEqual(said, "true\ntrue\n")
    }))

  it("is removed wherever it is, and nothing besides", () =>
    withFolder(async (folder) => {
      Fs.writeFileSync(Path.join(folder, "outside"), "")
      Fs.mkdirSync(Path.join(folder, "beside"))
      Fs.writeFileSync(Path.join(folder, "beside", "file"), "")
      const said = asUser(
        folder,
        [
          "mkdir -p a/b/c; touch a/b/c/x; chmod 0 a/b/c; chmod 0111 a/b; chmod 0400 a; mkfifo pipe",
          "ln -s ../outside one; ln -s ../beside two; mkdir $'\\xff'; touch $'\\xff/\\xfe'",
          deep(18, "touch x; mkdir -m 0 closed"),
          nested(400)
        ].join("\n"),
        "await Tree.remove(folder); await Tree.remove(folder); console.log('done')"
      )
      assert.strictEqual(said, "done\n")
      assert.isFalse(Fs.existsSync(Path.join(folder, "built")))
      assert.isTrue(Fs.existsSync(Path.join(folder, "outside")) && Fs.existsSync(Path.join(folder, "beside", "file")))
    }))

  it.skipIf(!isRoot)("belongs to root where the server does", () =>
    withFolder(async (folder) => {
      const built = Path.join(folder, "built")
      asUser(folder, `umask 0; touch a; ln -s a b; mkdir c; ${deep(18, "touch d")}`, "")
      await Tree.handOver(built)
      assert.strictEqual(execFileSync("find", [built, "-not", "-user", "0"], { encoding: "utf8" }), "")
      assert.deepStrictEqual(strange(built), [])
    }))

  it.skipIf(!isRoot)("has no list of rights that lets others write", () =>
    withFolder(async (folder) => {
      const built = Path.join(folder, "built")
      asUser(folder, "touch a; chmod 644 a", "")
      const writes = () =>
        spawnSync("/bin/sh", ["-c", "echo x > a"], { cwd: built, uid: 65_534, gid: 65_534 }).status === 0
      // Owner, 65534, group, mask, others.
      const list = "struct.pack('<I' + 'HHI' * 5, 2, 1, 6, no, 2, 7, 65534, 4, 4, no, 16, 7, no, 32, 4, no)"
      const set = `import os, struct; no = 2 ** 32 - 1; os.setxattr('a', 'system.posix_acl_access', ${list})`
      execFileSync("python3", ["-c", set], { cwd: built })
      assert.isTrue(writes())
      await Tree.handOver(built)
      assert.isFalse(writes())
    }))
})
