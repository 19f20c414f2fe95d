import { assert, describe, it } from "@effect/vitest"
import * as Executor from "@skillscale/server/Executor"
import * as NativeExecutor from "@skillscale/server/NativeExecutor"
import * as Effect from "effect/Effect"
import * as ChildProcess from "node:child_process"
import * as Fs from "node:fs"
import * as Path from "node:path"
import { skipUnless } from "../../../../test/support/mustRun.ts"
import * as ControlGroups from "../../src/internal/controlGroups.ts"
import { carrying, marker } from "../executorSuite.ts"
import * as Support from "../fixtures/support.ts"

const found = await Effect.runPromise(Effect.scoped(ControlGroups.make({ probe: true })))
const parent = Path.dirname(found.folder)
const run = (spec: Executor.Spec) => Effect.flatMap(Executor.Executor, (executor) => executor.run(spec))
const shell = (script: string, more?: Partial<Executor.Spec>): Executor.Spec => ({
  file: "/bin/sh",
  args: ["-c", script],
  cwd: "/",
  ...more
})
const ours = () => Fs.readdirSync(parent).filter((name) => name.includes(`-${process.pid}-`))

describe.skipIf(skipUnless(found.folder !== "", "a control group of version 2 that can be written"))(
  "control groups",
  () => {
    it.live("every reaper has one, with bounds for what it has controllers for, and nothing is left of them", () =>
      Effect.gen(function*() {
        const before = ours()
        yield* Effect.gen(function*() {
          const limits = { treeBytes: 2 ** 30, treeTasks: 100, diskBytes: 2 ** 20 }
          const { stdout } = yield* run(shell("cat /proc/self/cgroup", { limits }))
          const group = /^0::(\/.*)$/m.exec(Support.text(stdout))?.[1] ?? assert.fail(Support.text(stdout))
          assert.match(group, new RegExp(`/skillscale-\\d+-${process.pid}-\\d+\\.cells-\\d+/\\d+$`))
          const folder = Path.join(parent, ...group.split("/").slice(-2))
          const bounds: Record<string, string> = { memory: `${2 ** 30 + 2 ** 20 + 2 ** 29}\n`, pids: "116\n" }
          for (const name of found.controllers) {
            assert.strictEqual(Fs.readFileSync(Path.join(folder, `${name}.max`), "utf8"), bounds[name])
          }
        }).pipe(Effect.provide(NativeExecutor.layer({ sandbox: { cells: false } })))
        assert.deepStrictEqual(ours(), before)
      }))

    it.live("a run in a cell does not see where that is", () =>
      Effect.gen(function*() {
        const confinement: Executor.Confinement = { network: false, systemCalls: "deny", writable: [] }
        const { stdout } = yield* run(shell("cat /proc/self/cgroup", { confinement }))
        assert.match(Support.text(stdout), /^0::\/$/m)
        assert.notInclude(Support.text(stdout), "skillscale")
      }).pipe(Effect.provide(NativeExecutor.layer())))

    it.live("a run that ends its reaper leaves nothing, whatever it detached", () =>
      Effect.gen(function*() {
        const mark = marker()
        const script =
          "setsid sh -c 'setsid sleep 1000 & setsid sleep 1000 & sleep 1000' & sleep 0.2; kill -KILL $PPID; sleep 1000"
        const error = yield* Effect.flip(run(shell(script, { env: { MARK: mark, PATH: process.env["PATH"] ?? "" } })))
        assert.strictEqual(error.reason._tag, "Killed")
        yield* Support.eventually("all of them are gone", () => carrying(mark).length === 0)
      }).pipe(Effect.provide(NativeExecutor.layer({ sandbox: { cells: false } }))))

    it.live("what a server left that was killed is ended and removed by the next one", () =>
      Effect.gen(function*() {
        const namespace = /\d+/.exec(Fs.readlinkSync("/proc/self/ns/pid"))?.[0] ?? ""
        const gone = ChildProcess.spawnSync("true").pid
        const left = Path.join(parent, `skillscale-${namespace}-${gone}-1.cells-1`)
        Fs.mkdirSync(Path.join(left, "1"), { recursive: true })
        const sleep = ChildProcess.spawn("sleep", ["1000"])
        const ended = new Promise((resolve) => sleep.on("exit", (_code, signal) => resolve(signal)))
        Fs.writeFileSync(Path.join(left, "1", "cgroup.procs"), String(sleep.pid))
        const others = ["skillscale-1-2-3.cells-1", `skillscale-${namespace}-${gone}-1.other`]
        for (const name of others) Fs.mkdirSync(Path.join(parent, name))
        try {
          yield* Effect.scoped(ControlGroups.make())
          assert.strictEqual(yield* Effect.promise(() => ended), "SIGKILL")
          assert.isFalse(Fs.existsSync(left))
          for (const name of others) assert.isTrue(Fs.existsSync(Path.join(parent, name)), name)
        } finally {
          for (const name of others) Fs.rmdirSync(Path.join(parent, name))
        }
      }))

    it.skipIf(skipUnless(Support.isRoot, "root, to become somebody else"))(
      "without the right to make any it says so, and runs go on without",
      () => {
        const module = new URL("../../src/internal/controlGroups.ts", import.meta.url).href
        const script = `
        const Effect = await import("effect/Effect")
        const { make } = await import(${JSON.stringify(module)})
        process.setgid(65534)
        process.setuid(65534)
        console.log(JSON.stringify(await Effect.runPromise(Effect.scoped(make()))))`
        const { stderr, stdout } = ChildProcess.spawnSync(process.execPath, ["--input-type=module", "-e", script], {
          cwd: import.meta.dirname,
          encoding: "utf8"
        })
        assert.deepStrictEqual(JSON.parse(stdout || stderr), {
          folder: "",
          controllers: [],
          lacking: `${parent} cannot be written: EACCES`
        })
      }
    )
  }
)
