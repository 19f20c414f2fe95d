/**
 * Real attempts to get out of a confined run. Each must fail inside, and succeed with the sandbox off, so that the attempt
 * is known to attempt something. An attempt is a Python program that prints `escaped` when it got what it wanted, or one
 * whose effect on the host is looked at from outside.
 */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import { type ChildProcess, execFileSync, spawn } from "node:child_process"
import * as Dgram from "node:dgram"
import * as Fs from "node:fs"
import * as Net from "node:net"
import * as Os from "node:os"
import * as Path from "node:path"
import * as Executor from "../src/Executor.ts"
import * as NativeExecutor from "../src/NativeExecutor.ts"
import * as Sandbox from "../src/Sandbox.ts"
import { python as found, text } from "./executorKit.ts"

/** Behind a version manager's shim, which is a script of the user. */
const python = execFileSync(found, ["-c", "import sys; print(sys.executable)"], { encoding: "utf8" }).trim()
const isRoot = process.getuid?.() === 0
const secret = "the-secret-of-the-host-4711"

/** What an attempt may want: things of the host that a run has no business with. */
interface Host {
  readonly folder: string
  readonly skill: string
  readonly sibling: string
  readonly victim: number
  readonly tcp: number
  readonly udp: number
  readonly unix: string
  readonly abstract: string
  readonly received: () => ReadonlyArray<string>
}

const listening = (server: Net.Server, where: Net.ListenOptions) =>
  Effect.acquireRelease(
    Effect.callback<Net.Server>((resume) => {
      server.listen(where, () => resume(Effect.succeed(server)))
    }),
    () => Effect.callback<void>((resume) => void server.close(() => resume(Effect.void)))
  )

/** Sleeps with a secret in its environment, and says when somebody sent it a signal. */
const victim = `import os, signal, sys, time
signal.signal(signal.SIGUSR1, lambda *_: (sys.stdout.write("signalled\\n"), sys.stdout.flush()))
print("up", flush=True)
while True: time.sleep(60)`

const startVictim = Effect.acquireRelease(
  Effect.callback<ChildProcess>((resume) => {
    const child = spawn(python, ["-c", victim], { env: { SECRET: secret }, stdio: ["ignore", "pipe", "inherit"] })
    child.stdout?.once("data", () => resume(Effect.succeed(child)))
  }),
  (child) =>
    Effect.callback<void>((resume) => {
      child.once("exit", () => resume(Effect.void))
      child.kill("SIGKILL")
    })
)

const host = Effect.gen(function*() {
  const folder = yield* Effect.acquireRelease(
    Effect.sync(() => Fs.realpathSync(Fs.mkdtempSync(Path.join(Os.tmpdir(), "escape-")))),
    (path) => Effect.sync(() => Fs.rmSync(path, { recursive: true, force: true }))
  )
  const [skill, sibling] = ["skills/own", "skills/sibling"].map((name) => Path.join(folder, name))
  if (skill === undefined || sibling === undefined) return assert.fail("unreachable")
  for (const one of [skill, sibling]) {
    Fs.mkdirSync(one, { recursive: true })
    Fs.writeFileSync(Path.join(one, "SKILL.md"), "unchanged")
  }
  Fs.chmodSync(folder, 0o755)
  Fs.writeFileSync(Path.join(sibling, "secret"), secret)
  Fs.writeFileSync(Path.join(folder, "secret"), secret, { mode: 0o644 })
  const received: Array<string> = []
  const accept = (name: string) =>
    Net.createServer((socket) => {
      received.push(name)
      socket.on("error", () => {}).end()
    })
  const tcp = yield* listening(accept("tcp"), { port: 0, host: "127.0.0.1" })
  const unix = Path.join(folder, "socket")
  yield* listening(accept("unix"), { path: unix })
  const abstract = `skillscale-escape-${process.pid}`
  yield* listening(accept("abstract"), { path: `\0${abstract}` })
  const udp = yield* Effect.acquireRelease(
    Effect.callback<Dgram.Socket>((resume) => {
      const socket = Dgram.createSocket("udp4", () => received.push("udp"))
      socket.bind(0, "127.0.0.1", () => resume(Effect.succeed(socket)))
    }),
    (socket) => Effect.callback<void>((resume) => void socket.close(() => resume(Effect.void)))
  )
  const child = yield* startVictim
  child.stdout?.on("data", (data: Buffer) => received.push(data.toString().trim()))
  const address = tcp.address()
  return {
    folder,
    skill,
    sibling,
    victim: child.pid ?? 0,
    tcp: typeof address === "object" && address !== null ? address.port : 0,
    udp: udp.address().port,
    unix,
    abstract,
    received: () => received
  }
})

const prelude = (at: Host) =>
  `import ctypes, os, signal, socket, subprocess, sys, time
FOLDER, SKILL, SIBLING, SECRET = ${JSON.stringify([at.folder, at.skill, at.sibling, secret])}
SERVER, VICTIM, TCP, UDP = ${JSON.stringify([process.pid, at.victim, at.tcp, at.udp])}
UNIX, ABSTRACT = ${JSON.stringify([at.unix, at.abstract])}
libc = ctypes.CDLL(None, use_errno=True)
def escaped(): print("escaped", flush=True)
print("tried", file=sys.stderr, flush=True)
def read(path):
    with open(path, "rb") as file: return file.read()
def syscall(*arguments):
    result = libc.syscall(*arguments)
    if result < 0: raise OSError(ctypes.get_errno(), "system call")
    return result
`

interface Attempt {
  readonly code: string
  /** Needs a server that is root to succeed without the sandbox. */
  readonly asRoot?: true
  /** Tells whether the host saw it; otherwise the program says so. */
  readonly seen?: (at: Host) => boolean
}

const attempts: Readonly<Record<string, Attempt>> = {
  "read the server's environment": { code: `if b"PATH=" in read(f"/proc/{SERVER}/environ"): escaped()` },
  "read another process's environment": { code: `if SECRET.encode() in read(f"/proc/{VICTIM}/environ"): escaped()` },
  "see other processes": { code: `if os.path.exists(f"/proc/{VICTIM}/stat"): escaped()` },
  "read the server's memory": {
    asRoot: true,
    code: `line = next(l for l in open(f"/proc/{SERVER}/maps") if " rw-p " in l and "[heap]" in l)
start = int(line.split("-")[0], 16)
memory = os.open(f"/proc/{SERVER}/mem", os.O_RDONLY)
if len(os.pread(memory, 64, start)) == 64: escaped()`
  },
  "read the memory of its own reaper": {
    asRoot: true,
    code: `parent = os.getppid()
start = int(next(l for l in open(f"/proc/{parent}/maps") if " rw-p " in l).split("-")[0], 16)
if len(os.pread(os.open(f"/proc/{parent}/mem", os.O_RDONLY), 8, start)) == 8: escaped()`
  },
  "read /etc/shadow": { asRoot: true, code: `if read("/etc/shadow"): escaped()` },
  "read a file of the host": { code: `if SECRET.encode() in read(FOLDER + "/secret"): escaped()` },
  "read another skill": { code: `if SECRET.encode() in read(SIBLING + "/secret"): escaped()` },
  "read another run's folder through ..": {
    code: `os.chdir(SKILL)\nif SECRET.encode() in read("../sibling/secret"): escaped()`
  },
  "read the host's file through a symbolic link": {
    code: `os.chdir(SKILL)\nos.symlink(FOLDER + "/secret", "link")\nif SECRET.encode() in read("link"): escaped()`
  },
  "read the host's file through a hard link": {
    code: `os.chdir(SKILL)\nos.link(FOLDER + "/secret", "hard")\nif SECRET.encode() in read("hard"): escaped()`
  },
  "read through /proc/self/root and the like": {
    code: `for way in ("/proc/self/root", "/proc/1/root", f"/proc/{SERVER}/root", f"/proc/{os.getppid()}/root"):
    try:
        if SECRET.encode() in read(way + FOLDER + "/secret"): escaped()
    except OSError: pass`
  },
  "read through a folder's descriptor": {
    code: `root = os.open("/", os.O_RDONLY | os.O_DIRECTORY)
file = os.open("../../.." + FOLDER + "/secret", os.O_RDONLY, dir_fd=root)
if SECRET.encode() in os.read(file, 100): escaped()`
  },
  "change its skill for later runs": {
    code: `open(SKILL + "/SKILL.md", "w").write("changed")`,
    seen: ({ skill }) => Fs.readFileSync(Path.join(skill, "SKILL.md"), "utf8") !== "unchanged"
  },
  "write outside": {
    code: `open(FOLDER + "/written", "w").write("x")`,
    seen: ({ folder }) => Fs.existsSync(Path.join(folder, "written"))
  },
  "write through a link out of its folder": {
    code: `os.chdir(SKILL)\nos.symlink(FOLDER, "out")\nopen("out/linked", "w").write("x")`,
    seen: ({ folder }) => Fs.existsSync(Path.join(folder, "linked"))
  },
  "write to the system": {
    asRoot: true,
    code: `open("/usr/skillscale-escape", "w").close()\nos.remove("/usr/skillscale-escape")\nescaped()`
  },
  "connect over TCP": {
    code: `socket.create_connection(("127.0.0.1", TCP), 2)`,
    seen: ({ received }) => received().includes("tcp")
  },
  "send over UDP": {
    code:
      `s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\nfor _ in range(20): s.sendto(b"x", ("127.0.0.1", UDP))`,
    seen: ({ received }) => received().includes("udp")
  },
  "connect to a Unix socket": {
    code: `s = socket.socket(socket.AF_UNIX)\ns.connect(UNIX)`,
    seen: ({ received }) => received().includes("unix")
  },
  "connect to an abstract socket": {
    code: `s = socket.socket(socket.AF_UNIX)\ns.connect("\\0" + ABSTRACT)`,
    seen: ({ received }) => received().includes("abstract")
  },
  "open a raw socket": { asRoot: true, code: `socket.socket(socket.AF_PACKET, socket.SOCK_RAW)\nescaped()` },
  "signal another process": {
    code: `os.kill(VICTIM, signal.SIGUSR1)`,
    seen: ({ received }) => received().includes("signalled")
  },
  "trace another process": {
    asRoot: true,
    code: `if libc.ptrace(0x4206, VICTIM, 0, 0) == 0: escaped()`
  },
  "take a descriptor of another process": {
    asRoot: true,
    code: `pidfd = os.pidfd_open(VICTIM)\nif syscall(438, pidfd, 1, 0) >= 0: escaped()`
  },
  "become root": { asRoot: true, code: `os.setuid(0)\nif os.geteuid() == 0: escaped()` },
  "gain privileges from a set-user-ID program": {
    asRoot: true,
    code:
      `found = subprocess.run(["su", "-c", "id -u", "root"], capture_output=True, stdin=subprocess.DEVNULL, text=True)
if found.stdout.strip() == "0": escaped()`
  },
  "make namespaces": { asRoot: true, code: `if libc.unshare(0x10000000 | 0x20000) == 0: escaped()` },
  "mount": {
    asRoot: true,
    code: `if libc.unshare(0x20000) == 0 and libc.mount(b"x", b"/mnt", b"tmpfs", 0, None) == 0: escaped()`
  },
  "change the root": { asRoot: true, code: `os.chroot("/usr")\nescaped()` },
  "enter the server's namespaces": {
    asRoot: true,
    code: `if libc.setns(os.open(f"/proc/{SERVER}/ns/uts", os.O_RDONLY), 0) == 0: escaped()`
  },
  "load a program into the kernel": {
    asRoot: true,
    code:
      `class Map(ctypes.Structure): _fields_ = [(n, ctypes.c_uint) for n in ("type", "key", "value", "entries", "flags")]
map = Map(2, 4, 4, 1, 0)
if syscall(321, 0, ctypes.byref(map), ctypes.sizeof(map)) >= 0: escaped()`
  },
  "use the kernel's keys": { code: `if syscall(248, b"user", b"skillscale", b"x", 1, -3) > 0: escaped()` },
  "leave shared memory behind": {
    code: `id = libc.shmget(0, 4096, 0o1600)\nif id >= 0: escaped(); libc.shmctl(id, 0, None)`
  },
  "use io_uring": { code: `if syscall(425, 4, ctypes.byref(ctypes.create_string_buffer(120))) >= 0: escaped()` },
  "read the kernel's log": { asRoot: true, code: `if libc.klogctl(10, None, 0) >= 0: escaped()` },
  "make a device": {
    asRoot: true,
    code: `import stat\nos.chdir("/tmp")\nos.mknod("skillscale-device", 0o600 | stat.S_IFCHR, os.makedev(1, 1))
os.remove("skillscale-device")\nescaped()`
  },
  "rename the host": {
    asRoot: true,
    code: `if libc.sethostname(*(lambda n: (n, len(n)))(socket.gethostname().encode())) == 0: escaped()`
  },
  "set the clock": { asRoot: true, code: `time.clock_settime(time.CLOCK_REALTIME, time.time())\nescaped()` }
}

const executor = NativeExecutor.layer({ sandbox: { folders: [Fs.realpathSync(Os.tmpdir())] } })

const confined = (at: Host): Partial<Executor.Spec> => ({
  confinement: { network: false, systemCalls: "deny", writable: [] },
  overlay: { at: at.skill, onWritten: () => Effect.void },
  limits: { treeBytes: 512 * 1024 ** 2, treeTasks: 64, diskBytes: 32 * 1024 ** 2, openFiles: 256 }
})

const run = Effect.fnUntraced(function*(at: Host, code: string, more: Partial<Executor.Spec>) {
  const { run } = yield* Executor.Executor
  return yield* run({
    file: python,
    args: ["-c", prelude(at) + code],
    cwd: "/",
    env: { PATH: process.env["PATH"] ?? "", LANG: "C.UTF-8" },
    timeout: "20 seconds",
    ...more
  })
})

const outcome = Effect.fnUntraced(function*(attempt: Attempt, more: (at: Host) => Partial<Executor.Spec>) {
  const at = yield* host
  const execution = yield* run(at, attempt.code, more(at))
  assert.include(text(execution.stderr), "tried", "the attempt did not even start")
  const said = text(execution.stdout).includes("escaped")
  if (attempt.seen === undefined) return { escaped: said, execution }
  const { seen } = attempt
  // What went out has arrived when it is going to: the run is over.
  yield* Effect.sleep(20)
  return { escaped: seen(at), execution }
}, Effect.scoped)

const test = (title: string, body: () => Effect.Effect<unknown, unknown, Executor.Executor | Scope.Scope>) =>
  it.live(title, () => Effect.suspend(body).pipe(Effect.provide(executor), Effect.asVoid), 60_000)

describe("a confined run cannot", () => {
  for (const [title, attempt] of Object.entries(attempts)) {
    test(title, () =>
      Effect.gen(function*() {
        const inside = yield* outcome(attempt, confined)
        assert.isFalse(inside.escaped, `${text(inside.execution.stdout)}\n${text(inside.execution.stderr)}`)
        if (attempt.asRoot === true && !isRoot) return
        const outside = yield* outcome(attempt, () => ({}))
        assert.isTrue(outside.escaped, `it does not work without the sandbox: ${text(outside.execution.stderr)}`)
      }))
  }
})

const floods: Readonly<Record<string, readonly [reason: Executor.Reason["_tag"], code: string, harmless: string]>> = {
  "processes without end": [
    "ProcessLimit",
    `children = 0
while children < 200:
    try:
        if os.fork() == 0: time.sleep(30); os._exit(0)
        children += 1
    except BlockingIOError: time.sleep(0.01)
escaped()
os.killpg(0, signal.SIGKILL)`,
    `pids = []
for _ in range(200):
    pid = os.fork()
    if pid == 0: signal.pause()
    pids.append(pid)
for pid in pids: os.kill(pid, signal.SIGKILL)
escaped()`
  ],
  "memory spread over processes": [
    "MemoryLimit",
    `for _ in range(8):
    if os.fork() == 0:
        block = bytearray(os.urandom(1024) * (100 * 1024))
        time.sleep(20)
        os._exit(0)
time.sleep(20)
escaped()`,
    `block = bytearray(b"x") * (600 * 1024 * 1024)\nescaped()`
  ],
  "files without end": [
    "DiskLimit",
    `for i in range(1000):
    with open(f"/tmp/flood-{os.getpid()}-{i}", "wb") as file: file.write(b"x" * 1024 * 1024)
escaped()`,
    `import tempfile
with tempfile.TemporaryDirectory() as folder:
    for i in range(40): open(f"{folder}/{i}", "wb").write(b"x" * 1024 * 1024)
escaped()`
  ],
  "files that it removed": [
    "DiskLimit",
    `files = []
for i in range(200):
    file = open("/tmp/gone", "wb", buffering=0); os.remove("/tmp/gone"); files.append(file)
    try: file.write(b"x" * 1024 * 1024)
    except OSError: time.sleep(20)
escaped()`,
    `escaped()`
  ]
}

describe("a confined run is ended for", () => {
  for (const [title, [reason, code, harmless]] of Object.entries(floods)) {
    test(title, () =>
      Effect.gen(function*() {
        const at = yield* host
        const error = yield* Effect.flip(run(at, code, confined(at)))
        assert.strictEqual(error.reason._tag, reason, text(error.stderr))
        assert.strictEqual(text((yield* run(at, "print(6 * 7)", confined(at))).stdout), "42\n")
        const outside = yield* run(at, harmless, {})
        assert.include(text(outside.stdout), "escaped", text(outside.stderr))
      }))
  }
})

describe("a confined run", () => {
  test("leaves nothing for the next one in the same cell", () =>
    Effect.gen(function*() {
      const at = yield* host
      const leave =
        `for path in ("/tmp/left", "/dev/shm/left", "/var/tmp/left2", SKILL + "/left"): open(path, "w").write("x")
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        for number in range(3): os.close(number)
        time.sleep(60)
    os._exit(0)
print(os.getpid())`
      const look =
        `print([p for p in ("/tmp/left", "/dev/shm/left", "/var/tmp/left2", SKILL + "/left") if os.path.exists(p)],
  [p for p in os.listdir("/proc") if p.isdigit() and int(p) not in (1, os.getpid())])`
      for (let round = 0; round < 10; round++) {
        yield* run(at, leave, confined(at))
        assert.strictEqual(text((yield* run(at, look, confined(at))).stdout), "[] []\n")
      }
    }))

  test("has no descriptor but its three", () =>
    Effect.gen(function*() {
      const at = yield* host
      const code =
        `fds = os.listdir("/proc/self/fd")\nprint([fd for fd in fds if os.path.exists(f"/proc/self/fd/{fd}")])`
      assert.strictEqual(text((yield* run(at, code, confined(at))).stdout), "['0', '1', '2']\n")
    }))

  test("has a loopback of its own", () =>
    Effect.gen(function*() {
      const at = yield* host
      const code = `server = socket.create_server(("127.0.0.1", TCP))
client = socket.create_connection(("127.0.0.1", TCP))
print(socket.gethostname(), len(socket.if_nameindex()))`
      assert.strictEqual(text((yield* run(at, code, confined(at))).stdout), "skill 1\n")
    }))

  test("reaches the host's network when it is allowed to", () =>
    Effect.gen(function*() {
      const at = yield* host
      const allowed = { ...confined(at), confinement: { network: true, systemCalls: "deny", writable: [] } } as const
      yield* run(at, `socket.create_connection(("127.0.0.1", TCP), 2)`, allowed)
      yield* Effect.sleep(20)
      assert.deepStrictEqual(at.received(), ["tcp"])
      yield* run(at, attempts["connect to an abstract socket"]?.code ?? "", allowed)
      yield* run(at, attempts["connect to a Unix socket"]?.code ?? "", allowed)
      yield* Effect.sleep(20)
      assert.deepStrictEqual(at.received(), ["tcp"])
    }))

  test("works with the filter as a list of what is allowed", () =>
    Effect.gen(function*() {
      const at = yield* host
      const strict = { ...confined(at), confinement: { network: false, systemCalls: "allow", writable: [] } } as const
      const code = `print(subprocess.run(["bash", "-c", "ls / | wc -l"], capture_output=True, text=True).returncode)`
      assert.strictEqual(text((yield* run(at, code, strict)).stdout), "0\n")
    }))
})

describe("without namespaces a confined run", () => {
  const plain = NativeExecutor.layer({ sandbox: { cells: false, readable: undefined } })
  const alone = (title: string, body: () => Effect.Effect<unknown, unknown, Executor.Executor | Scope.Scope>) =>
    it.live(title, () => Effect.suspend(body).pipe(Effect.provide(plain), Effect.asVoid), 60_000)
  const shell = (at: Host, script: string) =>
    Effect.flatMap(Executor.Executor, ({ run }) =>
      run({
        file: "/bin/bash",
        args: ["-c", script],
        cwd: "/",
        env: { PATH: "/usr/bin:/bin", SECRET: at.folder },
        confinement: { network: false, systemCalls: "deny", writable: [Path.join(at.folder, "own")] },
        limits: { treeTasks: 40 }
      }))

  alone("still has only its own files, no network, no signals to others", () =>
    Effect.gen(function*() {
      const at = yield* host
      const own = Path.join(at.folder, "own")
      Fs.mkdirSync(own)
      if (isRoot) Fs.chownSync(own, 65_534, 65_534)
      const result = yield* shell(
        at,
        `cd ${own} && echo mine > mine && cat mine
cat ${at.folder}/secret; cat ${at.sibling}/secret; cat /etc/shadow; echo x > ${at.folder}/x
kill -USR1 ${at.victim}; exec 3<>/dev/tcp/127.0.0.1/${at.tcp} && echo connected
id -u`
      )
      assert.strictEqual(text(result.stdout), `mine\n${isRoot ? 65_534 : process.getuid?.()}\n`)
      yield* Effect.sleep(20)
      assert.deepStrictEqual(at.received(), [])
      assert.isFalse(Fs.existsSync(Path.join(at.folder, "x")))
    }))

  alone("is ended when it starts processes without end", () =>
    Effect.gen(function*() {
      const at = yield* host
      const error = yield* Effect.flip(shell(at, "for i in {1..100}; do sleep 30 & done; wait"))
      assert.strictEqual(error.reason._tag, "ProcessLimit")
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
