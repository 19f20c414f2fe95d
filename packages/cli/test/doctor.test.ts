import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { spawnSync } from "node:child_process"
import * as Fs from "node:fs"
import * as Os from "node:os"
import * as Path from "node:path"
import * as Cli from "./support/cli.ts"

const native = Path.join(import.meta.dirname, "../../../native/build/Release")

/** What the helper answers when it is asked about the machine: name, errno, system call and version of each mechanism. */
const answers = (lines: ReadonlyArray<readonly [name: string, errno: number, syscall: string, version: number]>) =>
  lines.map((line) => line.join("\t")).join("\n")

/** A build of the addon whose helper gives these answers. */
const nativeThatSays = (text: string) =>
  Effect.acquireRelease(
    Effect.sync(() => {
      const folder = Fs.mkdtempSync(Path.join(Os.tmpdir(), "doctor-"))
      Fs.symlinkSync(Path.join(native, "skillscale.node"), Path.join(folder, "skillscale.node"))
      const script = `#!/bin/sh\n[ "$1" = --probe ] && cat <<'END'\n${text}\nEND\n`
      Fs.writeFileSync(Path.join(folder, "skillscale-reaper"), script, { mode: 0o755 })
      return folder
    }),
    (folder) => Effect.sync(() => Fs.rmSync(folder, { recursive: true }))
  )

const doctor = Effect.fnUntraced(function*(lines: Parameters<typeof answers>[0], flags: ReadonlyArray<string> = []) {
  const folder = yield* nativeThatSays(answers(lines))
  return yield* Cli.run(["doctor", ...flags], { env: { SKILLSCALE_NATIVE_DIR: folder } })
}, Effect.scoped)

const lines = (text: string) => text.trimEnd().split("\n")

/** A user namespace in which there are no others, as in many containers. */
const withoutNamespaces = "echo 0 > /proc/sys/user/max_user_namespaces"
const canMakeNamespaces = spawnSync("unshare", ["--map-root-user", "sh", "-c", withoutNamespaces]).status === 0
if (!canMakeNamespaces && process.env["SKILLSCALE_MUST_RUN"] === "1") {
  it("must run, but this machine has no user namespaces to take away", () => assert.fail())
}

/** Commands in a mount namespace in which a folder is on a file system whose owners cannot be mapped. */
const onRamfs = (folder: string, commands: string) =>
  `export -f skillscale; unshare --mount bash -c 'mount -t ramfs none ${folder} && ${commands}'`
const canMountRamfs = process.getuid?.() === 0 &&
  spawnSync("bash", ["-c", "unshare --mount mount -t ramfs none /mnt"]).status === 0
if (!canMountRamfs && process.getuid?.() === 0 && process.env["SKILLSCALE_MUST_RUN"] === "1") {
  it("must run, but this machine mounts no ramfs", () => assert.fail())
}

describe("doctor", () => {
  it.live("exits with 0 and says so where everything is there", () =>
    Effect.gen(function*() {
      const { code, stderr, stdout } = yield* doctor([["cell", 0, "", 0], ["landlock", 0, "", 7]])
      const [head = "", rule = "", cell = "", landlock = "", group = ""] = lines(stdout)
      // Which is that of this machine.
      assert.match(group, /^\| control-group +\| (?:yes|no ) \| \S/)
      assert.strictEqual(
        stderr,
        group.includes("| yes |")
          ? "skills are confined with everything that SkillScale has\n"
          : "skills are confined; what would help, and is not required: control-group\n"
      )
      assert.strictEqual(code, 0)
      assert.match(head, /^\| mechanism +\| +\| the kernel says +\| protects +\| without it +\|$/)
      assert.match(rule, /^(?:\| -+ )+\|$/)
      assert.match(cell, /^\| cell +\| yes \| works +\|/)
      assert.match(landlock, /^\| landlock +\| yes \| version 7 +\|/)
    }))

  it.live("exits with 1 and names what is missing, last of all, also with --json", () =>
    Effect.gen(function*() {
      const missing = [["cell", 1, "unshare", 0], ["overlay", 19, "mount overlay", 0], ["seccomp", 0, "", 0]] as const
      const last = "skillscale: this machine lacks what --require-sandbox asks for: cell, overlay\n"
      const plain = yield* doctor(missing)
      assert.deepStrictEqual([plain.code, plain.stderr], [1, last])
      const [, , cell = "", overlay = "", seccomp = ""] = lines(plain.stdout)
      assert.match(cell, /^\| cell +\| NO +\| unshare: EPERM +\|/)
      assert.match(overlay, /^\| overlay +\| NO +\| mount overlay: ENODEV +\|/)
      assert.match(seccomp, /^\| seccomp +\| yes \|/)
      const json = yield* doctor(missing, ["--json"])
      assert.deepStrictEqual([json.code, json.stderr], [1, last])
      const mechanisms: ReadonlyArray<{ readonly name: string; readonly isThere: boolean }> = JSON.parse(json.stdout)
      assert.deepStrictEqual(mechanisms.map(({ name }) => name), ["cell", "overlay", "seccomp", "control-group"])
      assert.deepStrictEqual(mechanisms.slice(0, 3).map(({ isThere }) => isThere), [false, false, true])
    }))

  it.live("exits with 4 where it cannot be found out", () =>
    Effect.gen(function*() {
      const { code, stderr, stdout } = yield* Cli.run(["doctor"], { env: { SKILLSCALE_NATIVE_DIR: "/nope" } })
      assert.deepStrictEqual([code, stdout], [4, ""])
      assert.match(stderr, /^skillscale: cannot find out how runs are confined: \/nope\/skillscale\.node is missing/)
    }))

  it.live("tells its exit codes in its help", () =>
    Effect.gen(function*() {
      const { stdout } = yield* Cli.run(["doctor", "--help"])
      assert.match(stdout, /Exit codes: 0 .*; 1 .*--require-sandbox/)
    }))

  it.live.skipIf(!canMakeNamespaces)(
    "exits with 1 where there really are no user namespaces, and --require-sandbox refuses to start there",
    () =>
      Effect.gen(function*() {
        const commands = `${withoutNamespaces}
skillscale doctor; echo "exit $?"
skillscale up --require-sandbox --xsub-port 0 --xpub-port 0 --metrics-port 0; echo "exit $?"`
        const { stderr, stdout } = yield* Cli.shell(
          `export -f skillscale; unshare --map-root-user bash -c '${commands}'`
        )
        assert.include(stdout, "exit 1\n")
        assert.match(stdout, /\| user-namespace +\| NO /)
        assert.match(stderr, /lacks what --require-sandbox asks for: user-namespace, /)
        assert.isTrue(stdout.endsWith("exit 2\n"), stdout)
        assert.match(stderr, /lacks what --require-sandbox asks for: user-namespace \(unshare: /)
      }),
    60_000
  )
})

describe("--require-sandbox", () => {
  it.live.skipIf(!canMountRamfs)(
    "refuses to start where neither skills nor their copies can be mapped; without it that is logged",
    () =>
      Effect.gen(function*() {
        const folder = Fs.mkdtempSync(Path.join(Os.tmpdir(), "doctor-ramfs-"))
        const up = (flags: string) =>
          `skillscale up ${flags} --skills-dir ${folder}/skills --xsub-port 0 --xpub-port 0 --metrics-port 0`
        const { stderr, stdout } = yield* Cli.shell(onRamfs(
          folder,
          `set -m; mkdir -p ${folder}/skills ${folder}/tmp
export TMPDIR=${folder}/tmp
${up("--require-sandbox")}; echo "exit $?"
${up("")} 2> ${folder}/log &
until grep -q "message=\\"proxy is ready" ${folder}/log; do kill -0 $! || break; sleep 0.05; done
kill -TERM -- -$!; wait; cat ${folder}/log >&2`
        ))
        assert.match(
          stderr,
          /--require-sandbox asks for namespaces of their own, .*; put the skills or TMPDIR on another one/
        )
        assert.include(stdout, "exit 2\n")
        assert.match(stderr, /message="skills run in copies and not in namespaces of their own/)
        Fs.rmSync(folder, { recursive: true })
      }),
    60_000
  )
})
