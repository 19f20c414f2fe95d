/**
 * Real attempts to get out of a confined run. Each must fail inside, and succeed with the sandbox off, so that the attempt
 * is known to attempt something. What an executor never lets a run do, confined or not, has to succeed as a process that
 * no executor started.
 */
import { assert, describe, it, layer } from "@effect/vitest"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import type * as Scope from "effect/Scope"
import { spawn } from "node:child_process"
import * as Fs from "node:fs"
import * as Os from "node:os"
import * as Path from "node:path"
import { fileURLToPath } from "node:url"
import type * as Executor from "../src/Executor.ts"
import * as NativeExecutor from "../src/NativeExecutor.ts"
import * as Sandbox from "../src/Sandbox.ts"
import { attempts } from "./escapeAttempts.ts"
import { floods } from "./escapeFloods.ts"
import * as Kit from "./escapeKit.ts"
import { open } from "./escapeOpen.ts"
import { eventually, skipUnless, text } from "./executorKit.ts"

const temporary = Fs.realpathSync(Os.tmpdir())
const options = { excludeTestServices: true, timeout: 60_000 }

const limits: Executor.Limits = {
  memoryBytes: 4 * 1024 ** 3,
  fileBytes: 32 * 1024 ** 2,
  treeBytes: 512 * 1024 ** 2,
  treeTasks: 64,
  diskBytes: 32 * 1024 ** 2,
  openFiles: 256
}

const cold: Kit.Mode = (at) => ({
  confinement: { network: false, systemCalls: "deny", writable: [] },
  overlay: { at: at.skill, onWritten: () => Effect.void },
  limits
})

const warm = (): Kit.Mode => (at) => ({
  ...cold(at),
  warm: { kind: "python", key: "attempts" }
})

const plain: Kit.Mode = (at) => ({
  file: Kit.anybodysPython,
  confinement: { network: false, systemCalls: "deny", writable: [Path.dirname(at.skill)] },
  limits
})

const connected: Kit.Mode = (at) => ({
  ...cold(at),
  confinement: { network: true, systemCalls: "deny", writable: [] }
})

const cells = NativeExecutor.layer({ sandbox: { folders: [temporary] } })
const oneCell = NativeExecutor.layer({ concurrency: 1, sandbox: { folders: [temporary] } })
const withoutCells = NativeExecutor.layer({ sandbox: { cells: false } })

const reasonOf = (at: Kit.Host, code: string, more: Partial<Executor.Spec>) =>
  Effect.map(Effect.result(Kit.run(at, code, more)), (result) =>
    result._tag === "Success"
      ? assert.fail(`it was not ended: ${text(result.success.stdout)}${text(result.success.stderr)}`)
      : { tag: result.failure.reason._tag, stderr: text(result.failure.stderr) })

const outputOf = (at: Kit.Host, code: string, more: Partial<Executor.Spec>) =>
  Effect.map(Kit.run(at, code, more), ({ stderr, stdout }) => text(stdout) + text(stderr).replace("tried\n", ""))

const held = <A, E, R>(open: ReadonlyArray<string>, title: string, body: Effect.Effect<A, E, R>) =>
  open.includes(title) ? Kit.isOpen(body) : Effect.asVoid(body)

layer(cells, options)("a confined run cannot", (it) => {
  for (const [title, attempt] of Object.entries(attempts)) {
    it.effect(title, () => held(open.cold, title, Effect.flatMap(Kit.host, (at) => Kit.fails(attempt, at, cold))))
  }
})

layer(cells, options)("without the sandbox a run, or else a process, can", (it) => {
  for (const [title, attempt] of Object.entries(attempts)) {
    const canTry = attempt.asRoot !== true || Kit.isRoot
    skipUnless(canTry, "needs root", title, (title) => it.effect(title, () => Kit.succeeds(attempt)))
  }
})

/** One host for all, so that they have one fork server. */
class WarmHost extends Context.Service<WarmHost, Kit.Host>()("@skillscale/server/test/WarmHost") {}

const warmLayer = Layer.merge(cells, Layer.effect(WarmHost, Kit.host))

layer(warmLayer, options)("a run that starts warm cannot", (it) => {
  for (const [title, attempt] of Object.entries(attempts)) {
    const body = Effect.flatMap(WarmHost, (at) => Kit.fails(attempt, at, warm(), true))
    it.effect(title, () => held(open.warm, title, body))
  }
})

layer(withoutCells, options)("without namespaces a confined run cannot", (it) => {
  for (const [title, attempt] of Object.entries(attempts)) {
    const body = Effect.flatMap(Kit.host, (at) => Kit.fails(attempt, Kit.inCopies(at), plain))
    it.effect(title, () => held(open.plain, title, body))
  }
})

const bounded = (title: string, mode: Kit.Mode, copy: (at: Kit.Host) => Kit.Host = (at) => at) =>
  Effect.gen(function*() {
    const [reason = "", code = ""] = floods[title] ?? []
    const at = copy(yield* Kit.host)
    const ended = yield* reasonOf(at, code, mode(at))
    assert.strictEqual(ended.tag, reason, ended.stderr)
    assert.strictEqual(yield* outputOf(at, "print(6 * 7)", mode(at)), "42\n")
    assert.strictEqual(yield* outputOf(at, code, {}), "escaped\n")
  })

const threads = "threads that outlive the first one of their process"

layer(cells, options)("a confined run is ended for", (it) => {
  for (const title of Object.keys(floods)) {
    // These the kernel stops in a cell.
    if (title === threads) continue
    it.effect(title, () => held(open.floods, title, bounded(title, cold)))
  }
})

layer(withoutCells, options)("without namespaces a confined run is ended for", (it) => {
  const seen = [
    "processes without end",
    "threads without end",
    threads,
    "memory of one process",
    "memory spread over processes"
  ]
  for (const title of seen) {
    it.effect(title, () => held(open.floods, title, bounded(title, plain, Kit.inCopies)))
  }
})

const lookAtLimits = `limits = [resource.getrlimit(n) for n in range(16)]
niceness = os.getpriority(os.PRIO_PROCESS, 0)
print(limits, niceness, os.sched_getaffinity(0), os.sched_getscheduler(0))`

/** Connects in the way that lets the kernel note something of the peer, and tells the options that it then sends. */
const askFastOpen = `import socket, struct
def fast_open(address):
    server = socket.socket(); server.bind(("0.0.0.0", 0)); server.setsockopt(6, 27, 1); server.listen(8)
    client = socket.socket(); client.sendto(b"x", 0x20000000, (address, server.getsockname()[1])); other = server.accept()[0]
    seen = other.getsockopt(6, 28, 200)
    for s in (other, client): s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)); s.close()
    start = (seen[0] & 15) * 4; options = seen[start + 20:start + (seen[start + 12] >> 4) * 4]; kinds = []
    while options and options[0] != 0:
        kinds.append(options[0]); options = options[1:] if options[0] == 1 else options[options[1]:]
    return kinds`

/** Tries to leave as much as it can with whoever starts the runs of its cell. */
const leaveLimits = `def attempt(what):
    try: what()
    except (OSError, ValueError): pass
for limit in range(16):
    soft, hard = resource.prlimit(PARENT, limit)
    for value in (4711, 471147114711): attempt(lambda: resource.prlimit(PARENT, limit, (value, hard)))
attempt(lambda: os.setpriority(os.PRIO_PROCESS, PARENT, 3))
attempt(lambda: os.sched_setaffinity(PARENT, {min(os.sched_getaffinity(0))}))
attempt(lambda: os.sched_setscheduler(PARENT, os.SCHED_BATCH, os.sched_param(0)))`

describe("a confined run leaves", () => {
  /** In a cell that no other test has. */
  const test = (title: string, body: Effect.Effect<void, unknown, Executor.Executor | Scope.Scope>) =>
    it.live(title, () => Effect.provide(held(open.state, title, body), oneCell), options.timeout)

  test(
    "the rules of Landlock to the next one in the same cell, but for its own paths",
    Effect.gen(function*() {
      const at = yield* Kit.host
      // What nothing but Landlock keeps from a run in a cell.
      const look = `open("/tmp/own", "w").write("x"); print(open("/tmp/own").read(), os.listdir(SKILL) != [])
try: print(os.listdir("/"))
except PermissionError: print("denied")`
      for (let round = 0; round < 4; round++) {
        assert.strictEqual(yield* outputOf(at, look, cold(at)), "x True\ndenied\n")
      }
    })
  )

  test(
    "no files and no processes to the next one in the same cell",
    Effect.gen(function*() {
      const at = yield* Kit.host
      const paths = `("/tmp/left", "/dev/shm/left", "/var/tmp/left2", SKILL + "/left")`
      const leave = `for path in ${paths}: open(path, "w").write("x")
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        for number in range(3): os.close(number)
        time.sleep(60)
    os._exit(0)
print(os.getpid())`
      const look = `print([p for p in ${paths} if os.path.exists(p)],
  [p for p in os.listdir("/proc") if p.isdigit() and int(p) not in (1, os.getpid())])`
      for (let round = 0; round < 10; round++) {
        yield* Kit.run(at, leave, cold(at))
        assert.strictEqual(yield* outputOf(at, look, cold(at)), "[] []\n")
      }
    })
  )

  for (
    const [what, leave, look] of [
      [
        "no changed terminals",
        `os.utime("/dev/pts/ptmx", ns=(7, 7)); os.chmod("/dev/pts/ptmx", 0); print("left")`,
        `import pty
about = [os.stat(path) for path in ("/dev/pts", "/dev/pts/ptmx")]
print([oct(a.st_mode) for a in about], [a.st_mtime_ns == 7 for a in about], len(pty.openpty()))`
      ],
      [
        "no ports in use",
        `import socket
server = socket.create_server(("127.0.0.1", 31337))
client = socket.create_connection(("127.0.0.1", 31337), source_address=("127.0.0.1", 22222))
client.close(); server.accept()[0].close(); print("left")`,
        `import socket
print([line.split()[1] for line in open("/proc/net/tcp")][1:], socket.create_server(("127.0.0.1", 22222)).getsockname())`
      ],
      [
        "nothing that its network learned",
        `${askFastOpen}
fast_open("127.77.0.6"); print("left")`,
        `${askFastOpen}
print(fast_open("127.77.0.5"))`
      ],
      [
        "no counter of its network",
        `import socket
try: socket.socket(socket.AF_INET, socket.SOCK_DGRAM).connect(("192.0.2.1", 9))
except OSError: print("left")`,
        `print([open("/proc/net/" + name).read() for name in ("snmp", "netstat", "snmp6")])`
      ],
      [
        "no labels of flows",
        `import socket, struct
label = struct.pack("!16sI", socket.inet_pton(socket.AF_INET6, "::1"), 0x12345) + struct.pack("=BBHHHI", 0, 1, 1, 60, 60, 0)
socket.socket(socket.AF_INET6, socket.SOCK_DGRAM).setsockopt(41, 32, label); print("left")`,
        `print(open("/proc/net/ip6_flowlabel").readlines()[1:])`
      ],
      [
        "no times at which it looked at /proc",
        `os.stat("/proc/sys/kernel/acct"); print("left")`,
        `now = os.stat("/proc/self/limits").st_ctime_ns; print(os.stat("/proc/sys/kernel/acct").st_ctime_ns >= now)`
      ]
    ] as const
  ) {
    test(
      `${what} to the next one in the same cell`,
      Effect.gen(function*() {
        const at = yield* Kit.host
        const before = yield* outputOf(at, look, cold(at))
        for (let round = 0; round < 3; round++) {
          assert.strictEqual(yield* outputOf(at, leave, cold(at)), "left\n")
          assert.strictEqual(yield* outputOf(at, look, cold(at)), before)
        }
      })
    )
  }

  test(
    "its network to the next one only if it has made nothing there",
    Effect.gen(function*() {
      const at = yield* Kit.host
      const look = `print(os.readlink("/proc/self/ns/net"))`
      // The kernel finds these by itself, at any time, and then they are gone.
      const leave = `import socket
one, other = socket.socketpair()
sockets = [one, other, socket.socket(socket.AF_INET, socket.SOCK_DGRAM), socket.socket(), socket.socket(socket.AF_UNIX)]
for s, name in zip(sockets[2:], [("127.0.0.1", 22223), ("127.0.0.1", 22224), "\\0left"]): s.bind(name)
socket.send_fds(one, [b"x"], [s.fileno() for s in sockets])`
      const first = yield* outputOf(at, look, cold(at))
      for (let round = 0; round < 3; round++) assert.strictEqual(yield* outputOf(at, look, cold(at)), first)
      for (let round = 0;; round++) {
        assert.isBelow(round, 20, "the next run has the same network")
        yield* Kit.run(at, leave, cold(at))
        if (first !== (yield* outputOf(at, look, cold(at)))) break
      }
    })
  )

  test(
    "no network and no fork server to the next one when it started warm and used the network",
    Effect.gen(function*() {
      const at = yield* Kit.host
      const look = `print(os.readlink("/proc/self/ns/net"))`
      const first = text((yield* Kit.runWarm(at, look, warm()(at))).stdout)
      assert.strictEqual(text((yield* Kit.run(at, look, warm()(at))).stdout), first)
      const use = `socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b"x", ("127.0.0.1", 9))`
      assert.strictEqual(text((yield* Kit.runWarm(at, `${use}; ${look}`, warm()(at))).stdout), first)
      const next = yield* Kit.run(at, look, warm()(at))
      assert.strictEqual(next.warm, false)
      assert.notStrictEqual(text(next.stdout), first)
      assert.strictEqual(text((yield* Kit.runWarm(at, look, warm()(at))).stdout), text(next.stdout))
    })
  )

  const noLimits = (mode: Kit.Mode, run: typeof Kit.run) =>
    Effect.gen(function*() {
      const at = yield* Kit.host
      const before = text((yield* run(at, lookAtLimits, mode(at))).stdout)
      yield* run(at, leaveLimits, mode(at))
      assert.strictEqual(text((yield* run(at, lookAtLimits, mode(at))).stdout), before)
    })

  test("no limits and no priority to the next one in the same cell", noLimits(cold, Kit.run))

  test(
    "no limits and no priority to the next one that starts warm",
    noLimits(warm(), (at, code, more = {}) => Kit.runWarm(at, code, more))
  )
})

layer(cells, options)("a confined run", (it) => {
  it.effect("has no descriptor but its three", () =>
    Effect.gen(function*() {
      const at = yield* Kit.host
      const code =
        `fds = os.listdir("/proc/self/fd")\nprint([fd for fd in fds if os.path.exists(f"/proc/self/fd/{fd}")])`
      assert.strictEqual(yield* outputOf(at, code, cold(at)), "['0', '1', '2']\n")
    }))

  it.effect("does not inherit what its server was started with", () =>
    Effect.gen(function*() {
      const secret = Path.join((yield* Kit.host).folder, "secret")
      const code = `import os
for number in range(3, 1024):
    try: print(os.pread(number, 100, 0).decode())
    except OSError: pass`
      const [inside, outside] = yield* Effect.callback<ReadonlyArray<string>>((resume) => {
        const descriptor = Fs.openSync(secret, "r")
        const program = fileURLToPath(new URL("./escapeServer.ts", import.meta.url))
        const server = spawn(process.execPath, ["--conditions=skillscale", program, code], {
          // Node itself keeps its children from what it finds up to the first gap.
          stdio: ["ignore", "pipe", "inherit", ...Array.from({ length: 37 }, () => "ignore" as const), descriptor]
        })
        Fs.closeSync(descriptor)
        let said = ""
        server.stdout?.on("data", (data: Buffer) => {
          said += data.toString()
        })
        server.once("close", () => resume(Effect.sync((): ReadonlyArray<string> => JSON.parse(said))))
        return Effect.sync(() => void server.kill("SIGKILL"))
      })
      assert.strictEqual(inside, "")
      assert.include(outside, Fs.readFileSync(secret, "utf8"))
    }))

  it.effect("cannot flood its server with output", () =>
    Effect.gen(function*() {
      const at = yield* Kit.host
      const code = `for _ in range(1024):
    for stream in (sys.stdout, sys.stderr): stream.buffer.write(b"x" * 65536)`
      const execution = yield* Kit.run(at, code, { ...cold(at), stdoutBytes: 100_000, stderrBytes: 10_000 })
      assert.deepStrictEqual([execution.stdout.byteLength, execution.stderr.byteLength], [100_000, 10_000])
      assert.deepStrictEqual([execution.stdoutTruncated, execution.stderrTruncated], [true, true])
      const outside = yield* Kit.runBare(at, code)
      assert.isAtLeast(Math.min(outside.stdout.length, outside.stderr.length), 64 * 1024 * 1024)
    }))

  it.effect("has a loopback of its own", () =>
    Effect.gen(function*() {
      const at = yield* Kit.host
      const code = `server = socket.create_server(("127.0.0.1", TCP))
client = socket.create_connection(("127.0.0.1", TCP))
print(socket.gethostname(), len(socket.if_nameindex()))`
      assert.strictEqual(yield* outputOf(at, code, cold(at)), "skill 1\n")
    }))

  it.effect("reaches the host's network when it is allowed to, and nothing else of the host", () =>
    Effect.gen(function*() {
      const at = yield* Kit.host
      const connect = attempts["connect over TCP"]?.code ?? ""
      const arrived = (count: number) =>
        eventually("connections", at.received, (received) => received.filter((name) => name === "tcp").length === count)
      yield* Kit.run(at, connect, connected(at))
      yield* arrived(1)
      for (const way of ["connect to an abstract socket", "connect to a Unix socket", "signal another process"]) {
        yield* Kit.run(at, attempts[way]?.code ?? "", connected(at))
      }
      // What these sent would have come before it.
      yield* Kit.run(at, connect, connected(at))
      yield* arrived(2)
      assert.deepStrictEqual(at.received(), ["tcp", "tcp"])
    }))

  it.effect("works with the filter as a list of what is allowed", () =>
    Effect.gen(function*() {
      const at = yield* Kit.host
      const strict = { ...cold(at), confinement: { network: false, systemCalls: "allow", writable: [] } } as const
      const code = `print(subprocess.run(["bash", "-c", "ls / | wc -l"], capture_output=True, text=True).returncode)`
      assert.strictEqual(yield* outputOf(at, code, strict), "0\n")
    }))
})

/** A module that only the standard library imports, of which the skill has one of its own. */
const shadow = `import os, sys
ascii_letters = digits = "a"
seen = []
def look():
    import time
    while True:
        for folder in ("/tmp", "/dev/shm", OTHER):
            for path in [os.path.join(at, name) for at, _, names in os.walk(folder) for name in names]:
                try:
                    with open(path) as file: seen.append(file.read(200))
                except OSError: pass
        time.sleep(0.01)
def after():
    if len(seen) == 0:
        import _thread
        seen.append("started")
        _thread.start_new_thread(look, ())
if not sys.argv[0].endswith("attempt.py"): os.register_at_fork(after_in_parent=after)
else: seen.append("run")
`

const shadowed = Effect.gen(function*() {
  const at = yield* Kit.host
  Fs.writeFileSync(
    Path.join(at.skill, "string.py"),
    shadow.replace("OTHER", JSON.stringify(at.sibling))
  )
  const see = `import cmd\nprint(sys.modules["string"].seen)`
  return { at, see }
})

layer(oneCell, options)("a fork server", (it) => {
  it.effect("runs no code of a skill outside of its runs", () =>
    Effect.gen(function*() {
      const { at, see } = yield* shadowed
      for (let round = 0; round < 12; round++) {
        assert.strictEqual(text((yield* Kit.run(at, see, warm()(at))).stdout), "['run']\n")
      }
    }))

  it.effect("keeps a skill away from the runs of another one in its cell", () =>
    Effect.gen(function*() {
      const { at, see } = yield* shadowed
      const other = { ...at, skill: at.sibling, sibling: at.skill }
      const use = `with open("/tmp/of-the-other", "w") as file: file.write("used " * 3)\ntime.sleep(0.1)`
      for (let round = 0; round < 6; round++) {
        assert.notInclude(text((yield* Kit.run(at, see, warm()(at))).stdout), "used used")
        yield* Kit.run(other, use, cold(other))
      }
    }))

  it.effect("is gone before a run that is not its own begins", () =>
    Effect.gen(function*() {
      const at = yield* Kit.host
      const servers = () =>
        Fs.readdirSync("/proc").filter((pid) => {
          try {
            const words = Fs.readFileSync(`/proc/${pid}/cmdline`, "utf8").split("\0")
            return words.some((word) => word.endsWith("/zygote.py")) && words.some((word) => word.startsWith(at.skill))
          } catch {
            return false
          }
        })
      yield* Kit.runWarm(at, "print(1)", warm()(at))
      assert.isAbove(servers().length, 0)
      const other = { ...at, skill: at.sibling, sibling: at.skill }
      const running = yield* Effect.forkChild(Kit.run(other, "open('began', 'w')\ntime.sleep(1)", cold(other)))
      yield* eventually("it is still there", () => servers().length === 0, (gone) => gone)
      assert.isUndefined(running.pollUnsafe())
      yield* Fiber.join(running)
    }))

  it.effect("keeps nothing of a call's arguments and environment for the next one", () =>
    Effect.gen(function*() {
      const at = yield* Kit.host
      const look = `import re
found = set()
for line in open("/proc/self/maps"):
    (start, end), mode = [int(part, 16) for part in line.split()[0].split("-")], line.split()[1]
    if "r" not in mode or "[v" in line: continue
    try:
        with open("/proc/self/mem", "rb", 0) as memory:
            memory.seek(start)
            found |= set(re.findall(b"of-a" + rb"-call-[a-z]+", memory.read(end - start) or b""))
    except OSError: pass
print(sorted(found))`
      const mode = warm()
      const given = {
        args: [Path.join(at.skill, "attempt.py"), "x".repeat(2_000), "of-a-call-argument"],
        env: { PATH: "/usr/bin:/bin", LANG: "C.UTF-8", FIRST: "x".repeat(2_000), TOKEN: "of-a-call-variable" }
      }
      const seen = yield* Kit.runWarm(at, look, { ...mode(at), ...given })
      assert.include(text(seen.stdout), "of-a-call-argument", "it does not find its own")
      assert.strictEqual(text((yield* Kit.runWarm(at, look, mode(at))).stdout), "[]\n")
    }))
})

describe("what confined runs may read", () => {
  it.live("is nothing that belongs to a user", () =>
    Effect.gen(function*() {
      const paths = yield* Sandbox.readable()
      assert.includeMembers([...paths], ["/usr", "/etc/ssl/certs"].filter((path) => Fs.existsSync(path)))
      for (const path of ["/", "/etc", "/root", "/home", Os.homedir(), "/etc/shadow", "/run", "/var", "/proc"]) {
        assert.notInclude(paths, path)
      }
    }))
})
