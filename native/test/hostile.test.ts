import { assert, describe, it } from "@effect/vitest"
import * as ChildProcess from "node:child_process"
import * as Fs from "node:fs"
import * as Os from "node:os"
import * as Path from "node:path"
import * as Readline from "node:readline"
import { fileURLToPath } from "node:url"
import * as Native from "@skillscale/native/native"
import { open, options, pool, until, withFolder, withGate } from "./host.ts"

type Done = Extract<Native.Event, readonly ["done", ...ReadonlyArray<unknown>]>

const timeout = 20_000
const beside = (name: string) => fileURLToPath(new URL(name, import.meta.url))
const program = [process.execPath, "--conditions=skillscale", beside("./hostile.ts")]
const sanitized = process.env["SKILLSCALE_SANITIZED"] === "1"
const isRoot = process.getuid?.() === 0

const python =
  (process.env["PATH"] ?? "").split(":").map((folder) => Path.join(folder, "python3")).find((path) =>
    Fs.existsSync(path)
  ) ?? ""
/**
 * Another user, to whom the kernel's limits apply, but who may read the checkout wherever it lies. The limits count all of a
 * user's processes, so it is one of this test's own: 65534 has the confined runs of other tests.
 */
const user = String(60_000 + process.pid % 5_000)
const reading = "+dac_override,+dac_read_search"
const asUser = ["setpriv", "--reuid", user, "--clear-groups", `--inh-caps=${reading}`, `--ambient-caps=${reading}`]

/** Runs a scenario of `hostile.ts` below a command and expects that it holds. */
const holds = (
  command: ReadonlyArray<string>,
  scenario: ReadonlyArray<string>,
  env?: NodeJS.ProcessEnv
): Promise<string> =>
  new Promise((resolve, reject) => {
    const [file = "", ...args] = [...command, ...program, ...scenario]
    ChildProcess.execFile(file, args, { env: { ...process.env, ...env }, timeout }, (error, stdout, stderr) => {
      if (error === null) resolve(stdout)
      else reject(new Error(`${scenario.join(" ")}: ${error.code ?? error.signal}\n${stderr}`))
    })
  })

const skipped = (condition: boolean, why: string) => {
  if (condition && process.env["SKILLSCALE_MUST_RUN"] === "1" && !sanitized) assert.fail(`must run, but: ${why}`)
  return condition
}

describe("a shortage", () => {
  it.skipIf(skipped(sanitized, "the sanitizer's own interposition"))(
    "of one system call at any place fails a run with its name, or nothing",
    async () => {
      const folder = Fs.mkdtempSync(Path.join(Os.tmpdir(), "faults-"))
      const library = Path.join(folder, "faults.so")
      const plan = Path.join(folder, "plan")
      try {
        ChildProcess.execFileSync("cc", ["-shared", "-fPIC", "-O1", "-o", library, beside("./faults.c"), "-ldl"])
        Fs.writeFileSync(plan, new Uint8Array(16))
        const injected = await holds([], ["faults", ""], { LD_PRELOAD: library, FAULTS_PLAN: plan })
        assert.isAtLeast(Number(injected), 50)
      } finally {
        Fs.rmSync(folder, { recursive: true })
      }
    },
    timeout
  )

  it.skipIf(skipped(sanitized, "the sanitizer's descriptors"))(
    "of descriptors fails some runs with EMFILE and passes",
    () => holds(["prlimit", "--nofile=60:60"], ["descriptors"]),
    timeout
  )

  const needsRoot = skipped(!isRoot || sanitized, "changing the user needs root")

  it.skipIf(needsRoot)(
    "of processes fails some runs with EAGAIN and passes",
    () => holds([...asUser, "prlimit", "--nproc=16:16"], ["processes"]),
    timeout
  )

  it.skipIf(needsRoot)(
    "of descriptors in flight fails a run with ETOOMANYREFS",
    () => holds([...asUser, "/usr/bin/python3", beside("./rights.py"), "200"], ["rights"]),
    timeout
  )
})

describe("misuse", () => {
  it("of arguments throws and never crashes", () => holds([], ["arguments"]), timeout)
  it("by a callback that throws loses no event", () => holds([], ["throwing"]), timeout)
  it("by ending a worker inside its callback ends that worker only", () => holds([], ["callback"]), timeout)
  it("by thousands of waiting runs ends at once when they are refused", () => holds([], ["queue"]), timeout)
})

describe("a reaper that its script stops", () => {
  const script = (then: string) => options([python, "-c", `import os, signal, time\n${then}`], [], { graceMs: 200 })
  const stop = "os.kill(os.getppid(), signal.SIGSTOP)"

  it("goes on within seconds", async () => {
    const opened = await open({ minReapers: 1, maxReapers: 1 })
    opened.native.spawn(opened.supervisor, 1, script(stop), null)
    const done = await opened.next("done", 1)
    assert.deepStrictEqual([done[2], done[3]], ["ended", 0])
    opened.native.close(opened.supervisor)
    await opened.next("closed")
  }, timeout)

  it("for ever cannot keep its run from ending", async () => {
    const opened = await open({ minReapers: 1, maxReapers: 2 })
    const stubborn = script(
      `signal.signal(signal.SIGTERM, signal.SIG_IGN)\nreaper = os.getppid()\nos.fork()\nwhile os.getppid() > 1: os.kill(reaper, signal.SIGSTOP)`
    )
    opened.native.spawn(opened.supervisor, 1, { ...stubborn, timeoutMs: 300 }, null)
    opened.native.spawn(opened.supervisor, 2, options(["/bin/true"], []), null)
    assert.strictEqual((await opened.next("done", 2))[2], "ended")
    assert.strictEqual((await opened.next("done", 1))[2], "timedOut")
    opened.native.close(opened.supervisor)
    await opened.next("closed")
  }, timeout)

  it("is ended with its supervisor", async () => {
    const opened = await open({ minReapers: 1 })
    const stopping = script(`${stop}\nos.write(1, b'stopped')\ntime.sleep(1000)`)
    opened.native.spawn(opened.supervisor, 1, { ...stopping, windowBytes: 1024 }, null)
    await opened.next("output", 1)
    opened.native.close(opened.supervisor)
    await opened.next("closed")
    assert.strictEqual((await opened.next("done", 1))[2], "closing")
  }, timeout)
})

describe("a tree that never becomes clean", () => {
  const needsRoot = skipped(!isRoot, "tracing the processes of others needs root")

  it.skipIf(needsRoot)(
    "does not keep its run from ending, nor a reaper or the supervisor",
    () =>
      withGate((gate) =>
        withFolder(async (folder) => {
          const tracer = ChildProcess.spawn(python, [beside("./trace.py")], { stdio: ["pipe", "pipe", "inherit"] })
          const said = Readline.createInterface({ input: tracer.stdout })[Symbol.asyncIterator]()
          const opened = await open({ minReapers: 1, idleReapers: 4, maxReapers: 4 })
          const closing = await open({ minReapers: 1 })
          const noted = (id: number) => Path.join(folder, `pid${id}`)
          const start = (target: typeof opened, id: number, script: string, more?: Partial<Native.SpawnOptions>) => {
            const note = `note() { echo $1 > '${noted(id)}.new'; mv '${noted(id)}.new' '${noted(id)}'; }`
            const run = options(["/bin/sh", "-c", `${note}\n${script}`], ["PATH=/usr/bin:/bin"], more)
            target.native.spawn(target.supervisor, id, run, null)
          }
          try {
            start(opened, 1, "note $$; exec sleep 1000", { timeoutMs: 3_000 })
            start(opened, 2, `sleep 1000 > /dev/null 2>&1 & note $!; ${gate.pass}; exit 3`)
            // One that is traced stops at any signal, so it must get none.
            start(
              opened,
              3,
              `note $$; ${gate.pass}; i=0; while [ $i -lt 40 ]; do sleep 1000 & i=$((i + 1)); done; wait`,
              { treeTasks: 20 }
            )
            start(closing, 4, "note $$; exec sleep 1000")
            for (let id = 1; id <= 4; id++) {
              await until(`run ${id} is not up`, () => Fs.existsSync(noted(id)))
              tracer.stdin.write(Fs.readFileSync(noted(id)))
              assert.strictEqual((await said.next()).value, "traced")
            }
            const began = performance.now()
            gate.open()
            closing.native.close(closing.supervisor)
            const dones = await Promise.all([1, 2, 3].map((id) => opened.next("done", id) as Promise<Done>))
            assert.deepStrictEqual(dones.map((done) => [done[2], done[3], done[15]]), [
              ["timedOut", 0, ""],
              ["ended", 3, ""],
              ["ended", 0, "processes"]
            ])
            await closing.next("closed")
            const done = await closing.next("done", 4) as Done
            assert.strictEqual(done[2], "closing")
            assert.isBelow(performance.now() - began, 20_000)
            // Four are at work at a time.
            for (let id = 10; id < 14; id++) {
              opened.native.spawn(opened.supervisor, id, options(["/bin/true"], []), null)
            }
            for (let id = 10; id < 14; id++) {
              assert.strictEqual((await opened.next("done", id))[2], "ended")
            }
            opened.native.close(opened.supervisor)
            await opened.next("closed")
            assert.strictEqual(tracer.exitCode, null)
          } finally {
            tracer.kill("SIGKILL")
          }
        })
      ),
    40_000
  )
})

describe("a helper that never says hello", () => {
  it("is given up", async () => {
    const folder = Fs.mkdtempSync(Path.join(Os.tmpdir(), "mute-"))
    const reaperPath = Path.join(folder, "mute")
    Fs.writeFileSync(reaperPath, "#!/bin/sh\nexec sleep 1000\n", { mode: 0o755 })
    const { native } = Native.load()
    const sizes = pool(reaperPath)
    let supervisor: Native.Supervisor | null = null
    const event = await new Promise<Native.Event>((resolve) => {
      supervisor = native.createSupervisor(sizes, (...event) => resolve(event))
    })
    assert.deepStrictEqual([event[0], supervisor === null], ["failed", false])
    Fs.rmSync(folder, { recursive: true })
  }, timeout)
})

describe("output", () => {
  it("of a stranger who was given the pipe holds up nobody", () =>
    withFolder(async (folder) => {
      const path = JSON.stringify(Path.join(folder, "socket"))
      // It lets the run go on when it has written more than a pipe holds, so while the supervisor is reading.
      const stranger = ChildProcess.spawn(python, [
        "-c",
        `import os, socket
server = socket.socket(socket.AF_UNIX); server.bind(${path}); server.listen()
print('listening', flush=True)
run = server.accept()[0]
_, fds, _, _ = socket.recv_fds(run, 1, 1)
helps = os.fork() == 0 or os.fork() == 0 or os.fork() == 0
try:
    if not helps:
        for _ in range(32): os.write(fds[0], b'x' * 65536)
        run.send(b'x')
        run.recv(1)
        print('the run is gone', flush=True)
    while True: os.write(fds[0], b'x' * 65536)
except OSError: pass`
      ])
      const said = Readline.createInterface({ input: stranger.stdout })[Symbol.asyncIterator]()
      const opened = await open()
      try {
        assert.strictEqual((await said.next()).value, "listening")
        opened.native.spawn(
          opened.supervisor,
          1,
          options([
            python,
            "-c",
            `import socket
s = socket.socket(socket.AF_UNIX); s.connect(${path}); socket.send_fds(s, [b'x'], [1]); s.recv(1)`
          ], []),
          null
        )
        assert.strictEqual((await said.next()).value, "the run is gone")
        const start = performance.now()
        opened.native.spawn(opened.supervisor, 2, options(["/bin/true"], []), null)
        assert.strictEqual((await opened.next("done", 2))[2], "ended")
        const done = await opened.next("done", 1)
        assert.deepStrictEqual([done[2], done[3]], ["ended", 0])
        assert.isBelow(performance.now() - start, 5_000)
      } finally {
        stranger.kill("SIGKILL")
        opened.native.close(opened.supervisor)
      }
      await opened.next("closed")
    }), timeout)

  it("in single bytes makes no more pieces than the window has room for", () =>
    withFolder(async (folder) => {
      const written = Path.join(folder, "written")
      const opened = await open()
      // Of the first 64 bytes each is read before the next is written; as one piece each they fill the window.
      const bytes = `import fcntl, os, termios
for i in range(20000):
    os.write(1, b'x')
    while i < 63 and fcntl.ioctl(1, termios.FIONREAD, bytes(4)) != bytes(4): os.sched_yield()
open(${JSON.stringify(written)}, 'w').close()`
      opened.native.spawn(opened.supervisor, 1, options([python, "-c", bytes], [], { windowBytes: 65_536 }), null)
      await until("the script has not written all", () => Fs.existsSync(written))
      // While this one starts and ends, the supervisor would read what there is.
      opened.native.spawn(opened.supervisor, 2, options(["/bin/true"], []), null)
      await opened.next("done", 2)
      assert.strictEqual(opened.events.filter((event) => event[0] === "output").length, 64)
      opened.native.terminate(opened.supervisor, 1)
      await opened.next("done", 1)
      opened.native.close(opened.supervisor)
      await opened.next("closed")
    }), timeout)
})
