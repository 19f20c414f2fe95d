import { assert, describe, it } from "@effect/vitest"
import * as ChildProcess from "node:child_process"
import * as Fs from "node:fs"
import * as Path from "node:path"
import { fileURLToPath } from "node:url"
import * as Native from "@skillscale/native/native"
import { handled, open, options, pool, until, withGate } from "./host.ts"

const hostPath = fileURLToPath(new URL("./host.ts", import.meta.url))
const python =
  (process.env["PATH"] ?? "").split(":").map((folder) => Path.join(folder, "python3")).find((path) =>
    Fs.existsSync(path)
  ) ?? ""

let markers = 0
const freshMarker = () => `host${process.pid}x${Date.now().toString(36)}x${markers++}`

const carrying = (marker: string): Array<string> =>
  Fs.readdirSync("/proc").filter((pid) => {
    if (!/^\d+$/.test(pid)) return false
    try {
      return Fs.readFileSync(`/proc/${pid}/environ`, "latin1").includes(`MARKER=${marker}`)
    } catch {
      return false
    }
  })

interface Host {
  readonly child: ChildProcess.ChildProcess
  readonly lines: Array<unknown>
  readonly ended: Promise<readonly [number | null, NodeJS.Signals | null, string]>
}

const host = (scenario: string, marker: string): Host => {
  const child = ChildProcess.spawn(process.execPath, ["--conditions=skillscale", hostPath, scenario, marker], {
    stdio: ["ignore", "pipe", "pipe"],
    env: { ...process.env, PYTHON: python }
  })
  const lines: Array<unknown> = []
  let rest = ""
  let errors = ""
  child.stdout?.on("data", (data: Buffer) => {
    const parts = (rest + data.toString()).split("\n")
    rest = parts.pop() ?? ""
    for (const part of parts) lines.push(JSON.parse(part))
  })
  child.stderr?.on("data", (data: Buffer) => {
    errors += data.toString()
  })
  return {
    child,
    lines,
    ended: new Promise((resolve) => child.on("close", (code, signal) => resolve([code, signal, errors])))
  }
}

const reapersOf = (pid: number): Array<number> =>
  Fs.readdirSync(`/proc/${pid}/task`).flatMap((task) =>
    Fs.readFileSync(`/proc/${pid}/task/${task}/children`, "latin1").trim().split(" ").filter((child) => child !== "")
      .map(Number)
  ).filter((child) => {
    try {
      return Fs.readFileSync(`/proc/${child}/comm`, "latin1") === "skillscale-reap\n"
    } catch {
      return false
    }
  })

describe("when the host ends", () => {
  it("SIGKILL leaves nothing of a tree, its daemons or the reapers", async () => {
    const marker = freshMarker()
    const { child, ended, lines } = host("hang", marker)
    await until("the tree is not up", () => lines.includes("up"))
    const reapers = reapersOf(child.pid ?? 0)
    assert.isAtLeast(reapers.length, 2)
    assert.isAtLeast(carrying(marker).length, 3)
    child.kill("SIGKILL")
    assert.strictEqual((await ended)[1], "SIGKILL")
    await until(`left: ${carrying(marker)}`, () => carrying(marker).length === 0)
    await until("a reaper is left", () => reapers.every((pid) => !Fs.existsSync(`/proc/${pid}/exe`)))
  })

  for (const [scenario, code] of [["exit", 7], ["exitAtOnce", 7], ["crash", 1]] as const) {
    it(`${scenario}: nothing is left and the exit code is its own`, async () => {
      const marker = freshMarker()
      const [status, signal, errors] = await host(scenario, marker).ended
      assert.deepStrictEqual([status, signal], [code, null], errors)
      // process.exit runs no cleanup hook of the main thread: the reapers learn of the end from their sockets.
      await until(`left: ${carrying(marker)}`, () => carrying(marker).length === 0)
    })
  }

  it("an idle supervisor does not keep it alive", async () => {
    const [status, , errors] = await host("idle", "").ended
    assert.strictEqual(status, 0, errors)
  })

  it("a worker that is terminated in the middle of a run leaves no process, thread or descriptor", async () => {
    const marker = freshMarker()
    const { ended, lines } = host("worker", marker)
    const [status, , errors] = await ended
    assert.strictEqual(status, 0, errors)
    assert.deepStrictEqual(carrying(marker), [])
    assert.deepStrictEqual(lines[1], lines[0])
    assert.deepInclude(lines[1], { children: "" })
    assert.strictEqual(lines[2], "usable")
  })
})

describe("supervisors", () => {
  it("work beside each other and end apart", () =>
    withGate(async (gate) => {
      const first = await open()
      const second = await open()
      first.native.spawn(first.supervisor, 1, options(["/bin/sh", "-c", `${gate.pass}; echo first`], []), null)
      second.native.spawn(second.supervisor, 1, options(["/bin/sh", "-c", "echo second"], []), null)
      const output = async (opened: typeof first) =>
        Buffer.from((await opened.next("done", 1))[13] as Uint8Array).toString()
      assert.strictEqual(await output(second), "second\n")
      second.native.close(second.supervisor)
      await second.next("closed")
      gate.open()
      assert.strictEqual(await output(first), "first\n")
      first.native.close(first.supervisor)
      await first.next("closed")
      assert.deepStrictEqual(reapersOf(process.pid), [])
    }))

  it("end running and waiting runs when they are closed, and refuse later ones", async () => {
    const opened = await open({ minReapers: 1, maxReapers: 1 })
    const marker = freshMarker()
    const sleep = options(["/bin/sleep", "1000"], [`MARKER=${marker}`])
    opened.native.spawn(opened.supervisor, 1, sleep, null)
    opened.native.spawn(opened.supervisor, 2, sleep, null)
    await until("not running", () => carrying(marker).length === 1)
    opened.native.close(opened.supervisor)
    opened.native.spawn(opened.supervisor, 3, sleep, null)
    await opened.next("closed")
    assert.deepStrictEqual(opened.events.filter((event) => event[0] === "done").map((event) => event[2]), [
      "closing",
      "closing",
      "closing"
    ])
    assert.strictEqual(opened.events.at(-1)?.[0], "closed")
    assert.deepStrictEqual(carrying(marker), [])
  })

  it("hold further runs until a reaper is free", () =>
    withGate(async (gate) => {
      const opened = await open({ minReapers: 1, maxReapers: 2 })
      for (let id = 1; id <= 10; id++) {
        opened.native.spawn(opened.supervisor, id, options(["/bin/sh", "-c", gate.pass], []), null)
      }
      await handled(opened, 11)
      assert.strictEqual(reapersOf(process.pid).length, 2)
      gate.open()
      for (let id = 1; id <= 10; id++) assert.strictEqual((await opened.next("done", id))[2], "ended")
      assert.strictEqual(reapersOf(process.pid).length, 2)
      opened.native.close(opened.supervisor)
      await opened.next("closed")
    }))

  it("report a helper that cannot be started or that is not one", async () => {
    const attempt = (reaperPath: string) =>
      new Promise<Array<unknown>>((resolve) => {
        const events: Array<unknown> = []
        Native.load().native.createSupervisor(
          pool(reaperPath),
          (...event) => {
            events.push(event)
            if (event[0] === "closed") resolve(events)
          }
        )
      })
    assert.deepStrictEqual(await attempt("/does/not/exist"), [["failed", 2, "execve"], ["closed"]])
    const [failed] = await attempt("/bin/false")
    assert.strictEqual((failed as ReadonlyArray<unknown>)[0], "failed")
  })

  it("keep within the window of a streamed run", async () => {
    const opened = await open()
    opened.native.spawn(
      opened.supervisor,
      1,
      options(["/bin/sh", "-c", "head -c 3000000 /dev/zero"], ["PATH=/bin:/usr/bin"], {
        windowBytes: 10_000,
        stdoutBytes: 1 << 30
      }),
      null
    )
    let received = 0
    let seen = 0
    while (!opened.events.some((event) => event[0] === "done")) {
      await new Promise((resolve) => setImmediate(resolve))
      let waiting = 0
      for (; seen < opened.events.length; seen++) {
        const event = opened.events[seen]
        if (event?.[0] !== "output") continue
        waiting += event[3].byteLength
        opened.native.acknowledge(opened.supervisor, 1, event[3].byteLength)
      }
      assert.isAtMost(waiting, 20_000)
      received += waiting
    }
    assert.strictEqual(received, 3_000_000)
    opened.native.close(opened.supervisor)
    await opened.next("closed")
  })
})

describe("reapers", () => {
  it("lead a session of their own with nothing open and an empty environment", async () => {
    const opened = await open({ minReapers: 1 })
    const [pid] = reapersOf(process.pid)
    const stat = Fs.readFileSync(`/proc/${pid}/stat`, "latin1").split(") ")[1]?.split(" ") ?? []
    assert.deepStrictEqual([stat[2], stat[3]], [String(pid), String(pid)])
    assert.deepStrictEqual(Fs.readdirSync(`/proc/${pid}/fd`).sort(), ["0", "1", "2", "3", "4"])
    assert.strictEqual(Fs.readFileSync(`/proc/${pid}/environ`, "latin1"), "")
    assert.strictEqual(Fs.readlinkSync(`/proc/${pid}/cwd`), "/")
    opened.native.close(opened.supervisor)
    await opened.next("closed")
  })

  it("that are killed lose their run, take its main process along and are replaced", async () => {
    const opened = await open({ minReapers: 1 })
    for (let round = 0; round < 5; round++) {
      const marker = freshMarker()
      const id = round * 10 + 1
      opened.native.spawn(opened.supervisor, id, options(["/bin/sleep", "1000"], [`MARKER=${marker}`]), null)
      await until("not running", () => carrying(marker).length === 1)
      for (const pid of reapersOf(process.pid)) process.kill(pid, "SIGKILL")
      assert.strictEqual((await opened.next("done", id))[2], "lost")
      await until("the main process is left", () => carrying(marker).length === 0)
      // Idle ones were killed as well and their ends may not be known yet.
      opened.native.spawn(opened.supervisor, id + 1, options(["/bin/echo", "again"], []), null)
      assert.strictEqual((await opened.next("done", id + 1))[2], "ended")
    }
    opened.native.close(opened.supervisor)
    await opened.next("closed")
    assert.deepStrictEqual(reapersOf(process.pid), [])
  })

  it("cannot be stopped by their script with less than SIGKILL", async () => {
    const opened = await open({ minReapers: 1 })
    opened.native.spawn(
      opened.supervisor,
      1,
      options(["/bin/sh", "-c", "for s in HUP INT TERM USR1 ALRM; do kill -$s $PPID; done; echo alive"], []),
      null
    )
    const done = await opened.next("done", 1)
    assert.strictEqual(done[2], "ended")
    opened.native.close(opened.supervisor)
    await opened.next("closed")
  })

  it("answer malformed packets by leaving with status 2", () => {
    const { reaperPath } = Native.load()
    const output = ChildProcess.execFileSync(python, [
      fileURLToPath(new URL("./reaper-garbage.py", import.meta.url)),
      reaperPath
    ], {
      encoding: "utf8"
    })
    const lines = output.trim().split("\n")
    assert.deepStrictEqual(lines.slice(0, 3), ["valid 0 [3]", "valid-memfd 0 [3]", "valid-kill 0 [5, 3]"])
    const bad = lines.filter((line) => line.startsWith("bad:"))
    assert.strictEqual(bad.length, 27)
    const first = lines.filter((line) => line.startsWith("first:"))
    assert.strictEqual(first.length, 5)
    for (const line of [...bad, ...first]) assert.match(line, / 2 \[/, line)
    const fuzz = lines.filter((line) => line.startsWith("fuzz:"))
    assert.isAtLeast(fuzz.length, 140)
    for (const line of fuzz) assert.match(line, / [02] \[/, line)
  }, 120_000)
})

describe("loading", () => {
  it("names the path that is missing", () => {
    process.env["SKILLSCALE_NATIVE_DIR"] = "/does/not/exist"
    try {
      assert.throws(() => Native.load(), /\/does\/not\/exist\/skillscale\.node is missing/)
    } finally {
      delete process.env["SKILLSCALE_NATIVE_DIR"]
    }
  })
})
