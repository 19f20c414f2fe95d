/** What a program that installs packages can do to the host when a package has made it its own. */
import * as NodeServices from "@effect/platform-node/NodeServices"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Fs from "node:fs"
import * as Path from "node:path"
import * as Dependencies from "../../src/Dependencies.ts"
import * as SandboxSupport from "../../src/SandboxSupport.ts"
import { skipUnless } from "../executorSuite.ts"
import * as Fixture from "../fixtures/dependencies.ts"
import * as Support from "../fixtures/support.ts"

const executor = Layer.provide(Dependencies.layerExecutor, NodeServices.layer)

/** A program named uv that makes an environment, and tries what is given for each of its letters, into `report`. */
const uv = (attempts: Readonly<Record<string, string>>) =>
  `#!/bin/sh
if [ "$1" = venv ]; then
  for last; do :; done
  mkdir -p "$last/bin" "$last/lib"
  printf '#!/bin/sh\\nexec python3 "$@"\\n' > "$last/bin/python"
  chmod +x "$last/bin/python"
  exit 0
fi
${
    Object.entries(attempts).map(([name, script]) => `(${script}) 2> /dev/null && printf '%s ' ${name} >> report\n`)
      .join("")
  }
echo >> report
`

/** Prepares a skill with that program, and tells which attempts succeeded, and where the environment is. */
const attempted = Effect.fnUntraced(function*(
  home: string,
  attempts: Readonly<Record<string, string>>,
  options: Partial<Dependencies.Options>
) {
  const bin = Path.join(home, "bin")
  Fs.mkdirSync(bin, { recursive: true })
  Fs.writeFileSync(Path.join(bin, "uv"), uv(attempts), { mode: 0o755 })
  const directory = yield* Effect.orDie(Dependencies.prepareDirectory(Path.join(home, `cache-${options.sandbox}`)))
  const layer = Dependencies.layer({
    directory,
    env: { HOME: home, PATH: `${bin}:${process.env["PATH"] ?? ""}` },
    ...options
  }).pipe(Layer.provide(executor))
  const skill = yield* Support.skill({ "run.py": "", "requirements.txt": "six\n" })
  const result = yield* Effect.gen(function*() {
    const service = yield* Dependencies.Dependencies
    return yield* service.prepare(skill)
  }).pipe(Effect.provide(layer))
  const folder = result.readable[0] ?? assert.fail()
  return { folder, directory, succeeded: Fs.readFileSync(Path.join(folder, "report"), "utf8").trim().split(" ") }
})

const mechanisms = await Effect.runPromise(SandboxSupport.probe())
const isConfinable = mechanisms.some(({ isThere, name }) => name === "landlock" && isThere)

describe("a program that installs packages", () => {
  skipUnless(
    isConfinable,
    "the kernel has no Landlock",
    "writes its environment and nothing else of the host",
    (title) =>
      it.live(title, () =>
        Effect.gen(function*() {
          const home = yield* Fixture.folder
          Fs.writeFileSync(Path.join(home, "secret"), "hush", { mode: 0o600 })
          Fs.writeFileSync(Path.join(home, ".npmrc"), "registry=https://registry.example/\n", { mode: 0o600 })
          const other = Path.join(home, "cache-on", "environments", "python-other")
          const attempts = {
            inside: "touch venv/inside && [ -e venv/inside ]",
            temporary: "touch \"${TMPDIR:-/tmp}/x\"",
            settings: `cat ${home}/.npmrc`,
            home: `touch ${home}/pwned`,
            above: "touch ../../pwned",
            other: `mkdir -p ${other} && touch ${other}/pwned`,
            tmp: `touch /tmp/pwned-$$ && rm /tmp/pwned-$$`,
            secret: `cat ${home}/secret`,
            server: `tr '\\0' '\\n' < /proc/${process.pid}/environ | grep -q .`,
            signal: `kill -0 ${process.pid}`,
            program: `printf '' >> ${home}/bin/uv`,
            ...process.getuid?.() === 0 ? { mount: "unshare -m true" } : {}
          }
          const off = yield* attempted(home, attempts, { sandbox: "off" })
          assert.deepStrictEqual(off.succeeded, Object.keys(attempts))
          for (const name of ["pwned", "cache-off/pwned"]) Fs.rmSync(Path.join(home, name))
          Fs.rmSync(other, { recursive: true })
          const on = yield* attempted(home, attempts, { sandbox: "on" })
          assert.deepStrictEqual(on.succeeded, ["inside", "temporary", "settings"])
          assert.isFalse(Fs.existsSync(Path.join(on.folder, ".work")))
        }), 60_000)
  )

  it.live("leaves nothing with rights of the server's, and no mark that it was done", () =>
    Effect.gen(function*() {
      const home = yield* Fixture.folder
      const { directory, folder } = yield* attempted(home, {
        a: "cp /bin/true venv/bin/mine; chmod 6755 venv/bin/mine; chmod 2755 venv/lib",
        b: "mkfifo venv/pipe",
        c: `ln -s ${home}/outside venv/link`,
        d: `chmod 4755 venv/bin/python`
      }, {})
      const modeOf = (name: string) => Fs.statSync(Path.join(folder, name)).mode & 0o7777
      assert.deepStrictEqual(["", "venv/bin/mine", "venv/lib", "venv/bin/python"].map(modeOf), [
        0o755,
        0o755,
        0o755,
        0o755
      ])
      assert.isFalse(Fs.existsSync(Path.join(folder, "venv/pipe")))
      assert.isTrue(Fs.lstatSync(Path.join(folder, "venv/link")).isSymbolicLink())
      assert.deepStrictEqual(Fs.readdirSync(Path.join(directory, "complete")), [Path.basename(folder)])
    }))

  it.live("is ended when what it makes is more than the cache may have", () =>
    Effect.gen(function*() {
      const home = yield* Fixture.folder
      const error = yield* Effect.flip(
        attempted(home, { a: "head -c 4M /dev/zero > big; sleep 60" }, { maxBytes: 1024 ** 2 })
      )
      assert.match(String(error), /takes more than the 1048576 bytes that the cache may have/)
      assert.deepStrictEqual(Fs.readdirSync(Path.join(home, "cache-undefined", "environments")), [])
    }))
})
