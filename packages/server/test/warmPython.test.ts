/**
 * A run that a fork server started is like one that was started cold, in everything but time: each script here runs both
 * ways, and all that can be seen of it must be the same.
 */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import { execFile, execFileSync, spawn } from "node:child_process"
import { once } from "node:events"
import * as Fs from "node:fs"
import * as Path from "node:path"
import { fileURLToPath } from "node:url"
import { promisify } from "node:util"
import type * as SkillRunner from "../src/SkillRunner.ts"
import * as Support from "./fixtures/support.ts"
import { commandOf, compare, compareAtLimits, failed, layer, parents, pids, run, test, warmed } from "./warmKit.ts"

const helper = `import re
from dataclasses import dataclass
PATTERN = re.compile("[a-z]+")
LIMIT = 3 * 7
@dataclass
class Point:
    x: int = 0
def words(text): return PATTERN.findall(text)
`

/** A fork server, or what it forked. */
const isForkServer = (pid: number) => commandOf(pid).some((word) => word.endsWith("/zygote.py"))

const kill = (pids: ReadonlyArray<number>) => {
  for (const pid of pids) {
    try {
      process.kill(pid, "SIGKILL")
    } catch {
      // It was there a moment ago.
    }
  }
}

/** What a run can leave behind without a file that stays. */
const viewTraces = [
  "chmod",
  "times",
  "attribute",
  "flags",
  "gone",
  "unnamed",
  "shared",
  "shared-mode",
  "own",
  "own-mode",
  "above",
  "own-unnamed"
]

const viewScript = `import fcntl, os, sys
own = os.path.dirname(os.path.dirname(__file__))
print(os.stat("/tmp").st_ctime_ns)
def gone(folder):
    os.mkdir(folder + "/gone")
    os.rmdir(folder + "/gone")
def about(path):
    now = os.stat(path)
    return now.st_mode, now.st_nlink, now.st_size, now.st_ctime_ns, now.st_mtime_ns, now.st_atime_ns
def listed():
    before = about("/tmp")
    os.listdir("/tmp")
    print("seen" if about("/tmp") != before else "unseen")
def flags():
    folder = os.open("/tmp", os.O_RDONLY)
    fcntl.ioctl(folder, 0x40086602, (0x40).to_bytes(8, "little"))
{
    "nothing": lambda: None,
    "read": lambda: (open(__file__).read(), os.listdir(own + "/scripts"), os.path.exists(own + "/none"), os.stat("/dev/shm")),
    "chmod": lambda: os.chmod("/tmp", 0o1777),
    "times": lambda: os.utime("/tmp", (1, os.stat("/tmp").st_mtime)),
    "listed": listed,
    "attribute": lambda: os.setxattr("/tmp", "user.trace", b"1"),
    "flags": flags,
    "gone": lambda: gone("/tmp"),
    "unnamed": lambda: os.open("/tmp", os.O_TMPFILE | os.O_RDWR),
    "shared": lambda: gone("/dev/shm"),
    "shared-mode": lambda: os.chmod("/dev/shm", 0o1777),
    "own": lambda: gone(own),
    "own-mode": lambda: os.chmod(own, 0o755),
    "above": lambda: os.chmod(os.path.dirname(own), 0o755),
    "own-unnamed": lambda: os.open(own, os.O_TMPFILE | os.O_RDWR),
}[sys.argv[1]]()
`

/** Scripts by what they look at. */
const scripts: Readonly<Record<string, readonly [script: string, call?: SkillRunner.Call]>> = {
  "what it is": [
    `import sys, os, json
print(sys.argv, sys.path[0], __file__, __name__, __doc__, __package__, __spec__, type(__loader__).__name__, __builtins__)
print(sorted(globals()), sys.flags, sys.executable, sys.orig_argv, sys.path, sys.stdin.encoding, sys.stdout.encoding)
print(sys.stdout.line_buffering, sys.stderr.line_buffering, sys.getrecursionlimit(), os.getcwd(), os.umask(0o22))
print(sorted((k, v) for k, v in os.environ.items() if k != "TRACEPARENT"), sorted(os.environb) == sorted(map(os.fsencode, os.environ)))
print(sorted(m for m in sys.modules if "zygote" in m or "ctypes" in m or m == "ast"), sys.modules["__main__"].__dict__ is globals())`,
    {
      args: ["a", "", "b c", "ünï"],
      env: { MODE: "x" }
    }
  ],
  "its input": [`import sys\ndata = sys.stdin.buffer.read()\nprint(len(data), data[:20])`, {
    stdin: Buffer.from("hello ".repeat(50_000))
  }],
  "modules beside it": [
    `import helper, lazy\nprint(helper.words("ab cd"), helper.LIMIT, helper.Point(), lazy.VALUE, helper.__file__, lazy.__name__)
import inspect\nprint(inspect.getsource(helper.words), helper.__cached__, helper.__spec__.origin, helper.__loader__.path)`
  ],
  "an exception": [
    `import json\ndef inner(): raise ValueError("no")\ntry: json.loads("{")\nexcept ValueError: inner()`
  ],
  "a syntax error": [`print("never")\nif\n`],
  "its stack": [
    `import inspect, sys, threading, traceback, warnings
print(sys._getframe().f_back, len(inspect.stack()), hasattr(sys, "last_value"), sys.exc_info(), sys.excepthook is sys.__excepthook__)
traceback.print_stack()
warnings.warn("above", stacklevel=2)
class Dies:
    def __del__(self): print("deleted", inspect.__name__)
threading.Thread(target=lambda: print(len(inspect.stack()))).start()
held = Dies()
raise KeyError("no") from ValueError("because")`
  ],
  "an error in how it tells errors": [
    `import sys\ndef tell(*about): raise RuntimeError("not this one")\nsys.excepthook = tell\nprint("out")\nraise KeyError("no")`
  ],
  "how it tells errors": [
    `import sys, inspect\ndef tell(kind, error, trace): print(kind, error, trace.tb_lineno, len(inspect.stack()), sys.last_value is error)
sys.excepthook = tell\nraise KeyError("no")`
  ],
  "an interrupt": [
    `import atexit, threading, time\nprint("out")\natexit.register(lambda: print("exit", flush=True))
threading.Thread(target=lambda: (time.sleep(0.05), print("thread", flush=True))).start()\nraise KeyboardInterrupt`
  ],
  "streams that it wraps": [
    `import io, sys\nsys.stdout.reconfigure(encoding="latin-1", errors="replace")\nprint("é", sys.stdout.seekable(), sys.stdin.seekable(), sys.stderr.seekable())
print(repr(sys.stdin), repr(sys.stdout), repr(sys.stderr), sys.stdout.buffer.raw, sys.stdin.buffer.raw.closefd)
sys.stderr = io.TextIOWrapper(sys.stderr.buffer, line_buffering=True)\nprint("err", file=sys.stderr)`
  ],
  "streams of its own": [
    `import sys\nclass Tee:\n    def __init__(self, to): self.to = to\n    def write(self, text): self.to.write(text)\n    def flush(self): self.to.flush()
sys.stdout, sys.stderr = Tee(sys.stdout), Tee(sys.stderr)\nprint("out")\nraise ValueError("no")`
  ],
  "a signal while it waits for threads": [
    `import atexit, signal, os, sys, threading, time\natexit.register(print, "cleanup")
signal.signal(signal.SIGTERM, lambda *_: sys.exit(5))
threading.Thread(target=lambda: (time.sleep(0.2), os.kill(os.getpid(), signal.SIGTERM), time.sleep(0.2))).start()\nprint("result")`
  ],
  "what it makes of the interpreter": [
    `import builtins, os, sys, gc\nbuiltins.print("out")\nbuiltins.print = builtins.isinstance = builtins.str = None\nos._exit = gc.get_objects = gc.collect = None
def guard(name, *rest): raise ImportError(name)\nbuiltins.__import__ = guard\nsys.modules.pop("os"); sys.modules.pop("gc")\nopen("log.txt", "w").write("kept")`
  ],
  "exit functions that fail": [
    `import atexit\nclass Bad:\n    def __repr__(self): return "Bad"\n    def __call__(self): raise ValueError("no")\natexit.register(Bad())\nopen_file = open("log.txt", "w")\nopen_file.write("kept")`
  ],
  "children that it did not make, and whose end ends it": [
    `import ctypes, os, resource, signal\nlibc = ctypes.CDLL(None, use_errno=True)\ntold = ctypes.c_int(-1)
for options in (0x40000000, 0x80000000 - (1 << 32), 0): print(libc.waitpid(-1, None, options), os.strerror(ctypes.get_errno()))
print(libc.prctl(2, ctypes.byref(told), 0, 0, 0), told.value)
print(resource.getrusage(resource.RUSAGE_CHILDREN), signal.getsignal(signal.SIGCHLD), signal.pthread_sigmask(signal.SIG_BLOCK, []))`
  ],
  "a large exit code": [`import sys\nsys.exit(2 ** 64)`],
  "words to nobody": [`import sys\nsys.stderr = None\nsys.exit("words")`],
  "words that fail": [`import sys\nclass Bad:\n    def __str__(self): raise ValueError("no")\nsys.exit(Bad())`],
  "modules that it writes": [
    `import os\nhere = os.path.dirname(__file__)\nwith open(os.path.join(here, "lazy.py"), "w") as file: file.write("VALUE = 'new'")\nos.remove(os.path.join(here, "helper.py"))
import lazy\nprint(lazy.VALUE)\nimport helper`
  ],
  "warnings of the interpreter": [`import sys\nx = 5\nif x is 5: print("yes")\nprint("\\d")`],
  "text like an import": [`"""How to use it:\nimport this\n"""\nprint("end")`],
  "processes that begin anew": [
    `import multiprocessing\nclass Point:\n    def __repr__(self): return "Point"\ndef work(n): return Point()
if __name__ == "__main__":\n    with multiprocessing.get_context("spawn").Pool(1) as pool: print(pool.map(work, [1]))`
  ],
  "what others hold": [
    `import json, gzip\nclass Dies:\n    def __del__(self): print("deleted")\njson.held = Dies()\njson.file = gzip.GzipFile("a.gz", "wb", mtime=0)\njson.file.write(b"kept")`
  ],
  "threads": [
    `import threading, os\nprint(threading.main_thread().native_id == os.getpid(), threading.active_count())`
  ],
  "an exit code": [`import sys\nprint("out")\nsys.exit(7)`],
  "an exit with words": [`import sys\nsys.exit("it went wrong")`],
  "an exit without a number": [`import sys\nsys.exit()`],
  "a crash": [`import os, signal\nprint("before", flush=True)\nos.kill(os.getpid(), signal.SIGSEGV)`],
  "an abort": [`import os\nos.abort()`],
  "files that it never closed": [
    `f = open("open.txt", "w")\nf.write("kept")\ndef g(): return g.file\ng.file = open("other.txt", "w")\ng().write("kept too")`
  ],
  "what happens at its end": [`import atexit, threading, time
atexit.register(lambda: print("atexit"))
class Dies:
    def __del__(self): print("deleted")
d = Dies()
threading.Thread(target=lambda: (time.sleep(0.05), print("thread"))).start()
print("main")`],
  "a file that is open when it fails": [
    `def main():\n    out = open("report.csv", "w")\n    out.write("a,b\\n1,2\\n")\n    raise ValueError("no")\nmain()`
  ],
  "what a failing function had": [
    `class Dies:\n    def __del__(self): print("deleted")\ndef main():\n    d = Dies()\n    assert False, "no"\nmain()`
  ],
  "a file that a class keeps": [
    `class Log:\n    file = open("log.txt", "w")\n    def write(self, text): Log.file.write(text)\nLog().write("kept")`
  ],
  "a file that a logger keeps": [
    `import logging\nlogging.basicConfig(filename="log.txt", level="INFO", format="%(message)s")\nlogging.info("kept")\nraise SystemExit(3)`
  ],
  "an error at its end": [`import sys, os\nprint("x")\nos.close(1)`],
  "an error at its end, after another one": [`import sys, os\nprint("x")\nos.close(1)\nraise KeyError("no")`],
  "an error at its end, after an exit code": [`import sys, os\nprint("x")\nos.close(1)\nsys.exit(3)`],
  "diagnostics that cannot be written": [`import sys, os\nos.close(2)\nraise KeyError("no")`],
  "words that cannot be written": [`import sys, os\nos.close(2)\nsys.exit("no")`],
  "streams that it closed": [`import sys\nprint("x")\nsys.stdout.close()\nsys.stderr.close()`],
  "children": [
    `import subprocess, os, sys, multiprocessing
print(subprocess.run([sys.executable, "-c", "import sys; print(sys.argv)", "child"], capture_output=True, text=True).stdout)
print(subprocess.check_output(["sh", "-c", "echo $MODE; ls"], text=True))
pid = os.fork()
if pid == 0: os._exit(3)
print(os.waitpid(pid, 0)[1])
try: os.wait()
except OSError as error: print(error)
if __name__ == "__main__":
    with multiprocessing.Pool(2) as pool: print(pool.map(abs, [-1, -2]))`,
    { env: { MODE: "m" } }
  ],
  "pickles of itself": [`import pickle\nclass Mine: pass\nprint(pickle.dumps(Mine()), Mine.__module__)`],
  "a library in C": [
    `import ctypes, sqlite3, zlib, hashlib\nprint(ctypes.CDLL(None).getpid() > 0, sqlite3.connect(":memory:").execute("select 6*7").fetchone(), hashlib.sha256(b"x").hexdigest())
class P(ctypes.Structure): _fields_ = [("x", ctypes.c_int)]
print(P(3).x)`
  ],
  "signals": [
    `import signal\nprint([(s, signal.getsignal(s)) for s in (signal.SIGINT, signal.SIGTERM, signal.SIGPIPE, signal.SIGCHLD)], signal.pthread_sigmask(signal.SIG_BLOCK, []))`
  ],
  "limits": [
    `import resource\nprint([resource.getrlimit(r) for r in (resource.RLIMIT_NOFILE, resource.RLIMIT_DATA, resource.RLIMIT_CORE, resource.RLIMIT_FSIZE)])`
  ],
  "its descriptors and session": [
    `import os\nfds = [fd for fd in os.listdir("/proc/self/fd") if os.path.exists(f"/proc/self/fd/{fd}")]\nprint(fds, os.getsid(0) == os.getpid(), os.getpgrp() == os.getpid())`
  ],
  "confinement": [`def status(name): return [l for l in open("/proc/self/status") if l.startswith(name)]
print(status("CapEff"), status("CapBnd"), status("NoNewPrivs"), status("Seccomp:"))
for path in ("/etc/shadow", "/.folders", "/.folders/scratch", "/root"):
    import os
    try: print(path, os.listdir(path) if os.path.isdir(path) else open(path).read())
    except OSError as e: print(path, type(e).__name__)
try: os.kill(1, 9)
except OSError as e: print(e)`],
  "asyncio": [
    `import asyncio\nasync def main():\n    p = await asyncio.create_subprocess_exec("echo", "hi", stdout=asyncio.subprocess.PIPE)\n    print((await p.communicate())[0])\nasyncio.run(main())`
  ],
  "warnings and logs": [
    `import warnings, logging\nwarnings.warn("careful")\nlogging.warning("logged")\nlogging.getLogger("x").error("e")`
  ],
  "another program in its place": [
    `import os, sys\nprint("first", flush=True)\nos.execv(sys.executable, [sys.executable, "-c", "print('second')"])`
  ],
  "temporary files": [`import tempfile, os\nprint(tempfile.gettempdir(), os.path.dirname(tempfile.mkdtemp()))`]
}

const files = { "scripts/helper.py": helper, "scripts/lazy.py": "import os\nVALUE = os.environ.get('MODE', 'none')\n" }

describe("a warm start is like a cold one for", () => {
  for (const [title, [script, call]] of Object.entries(scripts)) {
    test(title, () => compare({ ...files, "scripts/run.py": script }, call ?? {}))
  }
})

describe("a fork server", () => {
  test("keeps nothing of a run for the next one", () =>
    Effect.gen(function*() {
      const skill = yield* Support.skill({
        ...files,
        "scripts/run.py": `import builtins, helper, json, multiprocessing, os, random, sys, tempfile, time, uuid
print(hasattr(builtins, "left"), helper.LIMIT, json.__dict__.get("left"), os.environ.get("LEFT"), os.path.exists("left"))
builtins.left = json.left = True
helper.LIMIT = 0
os.environ["LEFT"] = "x"
open("left", "w").close()
print(random.random(), uuid.uuid4(), next(tempfile._get_candidate_names()), os.urandom(4).hex(), bytes(multiprocessing.current_process().authkey).hex(), time.time_ns())`
      })
      yield* warmed(skill)
      const results = yield* Effect.forEach(Array.from({ length: 20 }), () => run(skill))
      const lines = results.map(({ stdout }) => Support.text(stdout).split("\n"))
      for (const { stderr } of results) assert.strictEqual(Support.text(stderr), "")
      for (const [state] of lines) assert.strictEqual(state, "False 21 None None False")
      assert.strictEqual(new Set(lines.map(([, values]) => values)).size, 20)
      const parts = lines.map(([, values]) => values?.split(" ") ?? [])
      for (let part = 0; part < 5; part++) assert.strictEqual(new Set(parts.map((one) => one[part])).size, 20)
      assert.isTrue(results.every(({ warm }) => warm))
    }))

  test("gives every run generators of its own", () =>
    Effect.gen(function*() {
      const directory = yield* Support.folder
      const root = Support.writeSkill(directory, "testing/sample", {
        "scripts/run.py":
          "import generator, multiprocessing\nprint(generator.own.random())\nprint(bytes(multiprocessing.current_process().authkey))"
      })
      // A package in an environment of its own is imported ahead.
      execFileSync("python3", ["-m", "venv", "--without-pip", Path.join(root, ".venv")])
      const [version = ""] = Fs.readdirSync(Path.join(root, ".venv/lib"))
      Fs.writeFileSync(
        Path.join(root, ".venv/lib", version, "site-packages/generator.py"),
        "import random\nclass Own(random.Random): pass\nown = Own()\n"
      )
      const skill = yield* Support.load(directory, "sample")
      const calls = Effect.gen(function*() {
        yield* warmed(skill)
        const results = yield* Effect.forEach(Array.from({ length: 6 }), () => run(skill))
        const lines = results.map(({ stdout }) => Support.text(stdout).trim().split("\n"))
        assert.deepStrictEqual([0, 1].map((line) => new Set(lines.map((each) => each[line])).size), [6, 6])
      })
      yield* Effect.provide(calls, layer(true))
    }))

  test("stays while other skills are called", () =>
    Effect.gen(function*() {
      const skills = yield* Effect.forEach(["a", "b", "c"], (name) =>
        Support.skill({ "scripts/run.py": `print("${name}")` }))
      for (const skill of skills) {
        yield* warmed(skill)
      }
      for (let round = 0; round < 3; round++) {
        for (const skill of skills) {
          assert.isTrue((yield* run(skill)).warm)
        }
      }
    }))

  test("goes for that of another skill when there are as many cells as are kept", () =>
    Effect.gen(function*() {
      const directory = yield* Support.folder
      const inTurn = Effect.gen(function*() {
        const skills = yield* Effect.forEach(["a", "b", "c"], (name) => {
          Support.writeSkill(directory, `testing/${name}`, { "scripts/run.py": `print("${name}")` })
          return Support.load(directory, name)
        })
        for (let round = 0; round < 2; round++) {
          for (const skill of skills) {
            const result = yield* warmed(skill)
            assert.strictEqual(result._tag === "Success" ? Support.text(result.success.stdout) : "", `${skill.name}\n`)
            const served = () =>
              pids().filter((pid) => isForkServer(pid) && !parents(pid).some(isForkServer))
                .flatMap((pid) => commandOf(pid).filter((word) => word.startsWith(directory) && word.endsWith(".py")))
            // The one before may still be ending.
            yield* Support.eventually("no other fork server", () => new Set(served()).size === 1)
          }
        }
      })
      yield* Effect.provide(inTurn, layer(true, Support.executorFor(directory, { warm: 1, idle: 1 })))
    }))

  test("is in all cells that a skill keeps busy", () =>
    Effect.gen(function*() {
      const skill = yield* Support.skill({ "scripts/run.py": "import time\ntime.sleep(0.05)" })
      const all = Effect.all(Array.from({ length: 4 }, () => run(skill)), { concurrency: 4 })
      for (let tries = 0; tries < 100; tries++) {
        if ((yield* all).every(({ warm }) => warm)) return
      }
      assert.fail("some were cold to the end")
    }))

  test("is another one when the skill changes", () =>
    Effect.gen(function*() {
      const directory = yield* Support.folder
      const root = Support.writeSkill(directory, "testing/sample", { "scripts/run.py": "print('old')" })
      yield* warmed(yield* Support.load(directory, "sample"))
      Fs.writeFileSync(Path.join(root, "scripts/run.py"), "print('new')")
      const changed = yield* Support.load(directory, "sample")
      assert.strictEqual(Support.text((yield* run(changed)).stdout), "new\n")
      const warm = yield* warmed(changed)
      assert.strictEqual(warm._tag === "Success" ? Support.text(warm.success.stdout) : "", "new\n")
    }))

  test("runs nothing of before a change that nobody was told of", () =>
    Effect.gen(function*() {
      const script = (version: string) => `import part\nprint(part.version, "${version}")`
      const skill = yield* Support.skill({ "scripts/run.py": script("old"), "scripts/part.py": `version = "old"` })
      yield* warmed(skill)
      Fs.writeFileSync(Path.join(skill.root, "scripts/part.py"), `version = "newer"`)
      Fs.writeFileSync(Path.join(skill.root, "scripts/run.py"), script("newer"))
      for (let round = 0; round < 3; round++) {
        assert.strictEqual(Support.text((yield* run(skill)).stdout), "newer newer\n")
      }
    }))

  test("does not outlive the folder of its skill", () =>
    Effect.gen(function*() {
      const skill = yield* Support.skill({
        "scripts/run.py": "import pathlib\nprint((pathlib.Path(__file__).parent / 'data.txt').read_text())",
        "scripts/data.txt": "kept"
      })
      yield* warmed(skill)
      for (let round = 0; round < 3; round++) {
        // The same files in another folder, as after an update that changed nothing.
        Fs.cpSync(skill.root, `${skill.root}-new`, { recursive: true, preserveTimestamps: true })
        Fs.rmSync(skill.root, { recursive: true })
        Fs.renameSync(`${skill.root}-new`, skill.root)
        const { stderr, stdout, warm } = yield* run(skill)
        assert.deepStrictEqual([Support.text(stdout), Support.text(stderr), warm], ["kept\n", "", true])
      }
    }))

  test("does not outlive the folder with all skills", () =>
    Effect.gen(function*() {
      const directory = yield* Support.folder
      const files = {
        "scripts/run.py": "import pathlib\nprint((pathlib.Path(__file__).parent / 'data.txt').read_text())",
        "scripts/data.txt": "kept"
      }
      const replaced = Effect.gen(function*() {
        Support.writeSkill(directory, "testing/sample", files)
        const skill = yield* Support.load(directory, "sample")
        yield* warmed(skill)
        for (let round = 0; round < 2; round++) {
          Fs.cpSync(directory, `${directory}-new`, { recursive: true, preserveTimestamps: true })
          Fs.rmSync(directory, { recursive: true })
          Fs.renameSync(`${directory}-new`, directory)
          const { stderr, stdout } = yield* run(skill)
          assert.deepStrictEqual([Support.text(stdout), Support.text(stderr)], ["kept\n", ""])
          yield* warmed(skill)
        }
      })
      yield* Effect.provide(replaced, layer(true, Support.executorFor(directory)))
    }))

  test("gives every run its own input files", () =>
    Effect.gen(function*() {
      const skill = yield* Support.skill({
        "scripts/run.py":
          "import os\nprint(sorted(os.listdir('.')), [open(name).read() for name in os.listdir('.') if name[0] == 'i'])"
      })
      yield* warmed(skill)
      for (let round = 0; round < 6; round++) {
        const name = `i${round}`
        const files: Record<string, Uint8Array> = round % 3 === 2 ? {} : { [name]: Buffer.from("input") }
        const { stderr, stdout, warm } = yield* run(skill, { files })
        const names = ["SKILL.md", ...Object.keys(files), "scripts"].map((one) => `'${one}'`)
        assert.strictEqual(Support.text(stdout), `[${names.join(", ")}] [${round % 3 === 2 ? "" : "'input'"}]\n`)
        assert.deepStrictEqual([Support.text(stderr), warm], ["", true])
      }
    }))

  test("that a run kills costs no other run anything", () =>
    Effect.gen(function*() {
      const skill = yield* Support.skill({
        "scripts/run.py": `import os, signal, sys
if sys.argv[1] == "kill":
    for pid in os.listdir("/proc"):
        if pid.isdigit() and int(pid) not in (1, os.getpid()):
            try: os.kill(int(pid), signal.SIGKILL)
            except OSError: pass
    try: os.kill(-1, signal.SIGKILL)
    except OSError: pass
print("done")`
      })
      yield* warmed(skill, { args: ["no"] })
      for (let round = 0; round < 5; round++) {
        yield* Effect.result(run(skill, { args: ["kill"] }))
        assert.strictEqual(Support.text((yield* run(skill, { args: ["no"] })).stdout), "done\n")
      }
    }))

  test("has nothing that a run wrote, whenever it starts", () =>
    Effect.gen(function*() {
      const skill = yield* Support.skill({
        ...files,
        "scripts/run.py": `import helper, json, os, pathlib, sys
own = pathlib.Path(__file__).parent
print(helper.LIMIT, json.__file__.startswith(str(own)), [name for name in os.listdir("/tmp") if name[0] == "."], sorted(os.listdir(own)))
(own / "helper.py").write_text("LIMIT = 'poison'")
(own / "json.py").write_text("poison = True")
pathlib.Path("/tmp/.local/lib").mkdir(parents=True)`
      })
      const results = yield* Effect.forEach(Array.from({ length: 60 }), () => run(skill), { concurrency: 6 })
      results.push(...yield* Effect.forEach(Array.from({ length: 20 }), () => run(skill)))
      const texts = new Set(results.map(({ stderr, stdout }) => Support.text(stdout) + Support.text(stderr)))
      assert.deepStrictEqual([...texts], ["21 False [] ['helper.py', 'lazy.py', 'run.py']\n"])
      assert.isTrue(results.some(({ warm }) => warm))
    }))

  test("keeps the view of a run that left no trace in it, and of no other", () =>
    Effect.gen(function*() {
      const directory = yield* Support.folder
      Support.writeSkill(directory, "testing/sample", { "scripts/run.py": viewScript })
      const skill = yield* Support.load(directory, "sample")
      const traces = Effect.gen(function*() {
        const view = Effect.fnUntraced(function*(trace: string) {
          const result = yield* warmed(skill, { args: [trace] })
          if (result._tag === "Failure") return assert.fail(`${trace}: ${JSON.stringify(failed(result, skill.root))}`)
          assert.strictEqual(Support.text(result.success.stderr), "", trace)
          return Support.text(result.success.stdout)
        })
        const first = yield* view("nothing")
        assert.strictEqual(yield* view("read"), first)
        for (const trace of viewTraces) {
          const before = yield* view("nothing")
          assert.strictEqual(yield* view(trace), before, `before ${trace}`)
          assert.notStrictEqual(yield* view("nothing"), before, trace)
        }
        // The kernel notes no access after one that is later than the last change (relatime). That holds of a new view, too, when a
        // tick passed while it was noted: what a change gets then is before what an access just got. The next run could see nothing.
        let seen = false
        while (!seen) {
          const before = yield* view("nothing")
          const listed = yield* view("listed")
          seen = listed === `${before}seen\n`
          if (!seen) assert.strictEqual(listed, `${before}unseen\n`)
          const after = yield* view("nothing")
          assert.strictEqual(after !== before, seen, listed)
          yield* view("chmod")
        }
      })
      yield* Effect.provide(traces, layer(true, Support.executorFor(directory, { concurrency: 1 })))
    }))

  test("does not tell by the numbers of folders in which order another run looked at them", () =>
    Effect.gen(function*() {
      const directory = yield* Support.folder
      const folders = ["a", "b", "c", "d"]
      const look = `import os, sys
own = os.path.dirname(os.path.dirname(__file__)) + "/"
if sys.argv[1:] == ["trace"]: os.mkdir("/tmp/trace")
else: [os.stat(own + name) for name in sys.argv[1:]]
print(os.stat("/tmp").st_ctime_ns, [os.stat(own + name).st_ino for name in "abcd"])`
      Support.writeSkill(directory, "testing/sample", {
        "scripts/run.py": look,
        ...Object.fromEntries(folders.map((name) => [`${name}/file`, "x"]))
      })
      const skill = yield* Support.load(directory, "sample")
      const orders = Effect.gen(function*() {
        const numbers = Effect.fnUntraced(function*(...args: ReadonlyArray<string>) {
          const result = yield* warmed(skill, { args })
          if (result._tag === "Failure") return assert.fail(JSON.stringify(failed(result, skill.root)))
          return Support.text(result.success.stdout).split(" [")
        })
        const [first, seen] = yield* numbers(...folders)
        assert.deepStrictEqual(yield* numbers(), [first, seen], "the view is another one")
        yield* numbers("trace")
        assert.strictEqual((yield* numbers(...folders.toReversed()))[1], seen)
      })
      yield* Effect.provide(orders, layer(true, Support.executorFor(directory, { concurrency: 1 })))
    }))

  test("keeps no marks on the folders that its view consists of", () =>
    Effect.gen(function*() {
      const directory = yield* Support.folder
      Support.writeSkill(directory, "testing/sample", {
        "scripts/run.py": `import os, sys
folders = ["/", "/.folders"] + ["/.folders/scratch" + below for below in ("", "/work", "/upper", "/tmp", "/shm", "/folder-0")]
def about(path):
    try: return oct(os.stat(path).st_mode), os.stat(path).st_mtime, os.listxattr(path)
    except OSError as error: return error.errno
print([about(path) for path in folders])
for path in sys.argv[1:]:
    for mark in (lambda: os.setxattr(path, "user.left", b"x"), lambda: os.chmod(path, 0o711), lambda: os.utime(path, (7, 7))):
        try: mark()
        except OSError: pass`
      })
      const skill = yield* Support.load(directory, "sample")
      const marked = Effect.gen(function*() {
        const seen = Effect.fnUntraced(function*(...args: ReadonlyArray<string>) {
          const result = yield* warmed(skill, { args })
          return result._tag === "Failure" ? assert.fail("it failed") : Support.text(result.success.stdout)
        })
        const before = yield* seen()
        for (const below of ["", "/scratch", "/scratch/work", "/scratch/upper", "/scratch/tmp"]) {
          yield* seen(`/.folders${below}`)
          assert.strictEqual(yield* seen(), before, below)
        }
      })
      yield* Effect.provide(marked, layer(true, Support.executorFor(directory, { concurrency: 1 })))
    }))

  for (
    const [what, isMeant] of [
      ["the process that waits", (pid: number) => parents(pid).some((above) => isForkServer(above))],
      ["a fork server", (pid: number) => !parents(pid).some((above) => isForkServer(above))],
      ["both", () => true]
    ] as const
  ) {
    test(`and its runs survive the death of ${what}`, () =>
      Effect.gen(function*() {
        const skill = yield* Support.skill({ "scripts/run.py": "import sys\nprint(sys.stdin.read())" })
        for (let round = 0; round < 3; round++) {
          yield* warmed(skill, { stdin: Buffer.from("before") })
          const script = Path.join(skill.root, "scripts/run.py")
          const find = () =>
            pids().filter((pid) => isForkServer(pid) && commandOf(pid).includes(script) && isMeant(pid))
          yield* Support.eventually(what, () => find().length > 0)
          kill(find())
          const after = yield* run(skill, { stdin: Buffer.from("after") })
          assert.strictEqual(Support.text(after.stdout), "after\n")
        }
      }))
  }

  test("and its runs survive the death of both at any moment", () =>
    Effect.gen(function*() {
      const skill = yield* Support.skill({ "scripts/run.py": "import sys\nprint(sys.stdin.read())" })
      const script = Path.join(skill.root, "scripts/run.py")
      for (let round = 0; round < 40; round++) {
        yield* warmed(skill, { stdin: Buffer.from("before") })
        // While the next one is made.
        const until = performance.now() + round % 8
        while (performance.now() < until);
        kill(pids().filter((pid) => isForkServer(pid) && commandOf(pid).includes(script)))
        const after = yield* run(skill, { stdin: Buffer.from("after") })
        assert.strictEqual(Support.text(after.stdout), "after\n")
      }
    }))

  it.live("makes runs where the kernel gives no huge pages", () =>
    Effect.gen(function*() {
      const skill = yield* Support.skill({
        "scripts/helper.py": helper,
        "scripts/run.py":
          "import helper, json, resource, sys\nprint(json.dumps(helper.words(sys.stdin.read())), sys.argv[1:])"
      })
      // Its processes get none either (PR_SET_THP_DISABLE).
      const without =
        "import ctypes, os, sys\nctypes.CDLL(None).prctl(41, 1, 0, 0, 0)\nos.execv(sys.argv[1], sys.argv[1:])"
      const program = fileURLToPath(new URL("./fixtures/warmServer.ts", import.meta.url))
      const args = [
        "-c",
        without,
        process.execPath,
        "--conditions=skillscale",
        program,
        Path.dirname(Path.dirname(skill.root))
      ]
      const said = yield* Effect.promise(() => promisify(execFile)("python3", args))
      assert.deepStrictEqual(said, { stdout: `["some", "words"] ['a']\n`.repeat(5), stderr: "" })
    }), 60_000)

  test("does not mind connections of others that nobody owns", () =>
    Effect.gen(function*() {
      const orphan = `import socket, sys
server = socket.create_server(("127.0.0.1", 0))
client = socket.create_connection(server.getsockname())
other = server.accept()[0]
client.setblocking(False)
try:
    while True: client.send(bytes(65536))
except BlockingIOError: pass
client.close()
print("left", flush=True)
sys.stdin.read()`
      const owner = yield* Effect.acquireRelease(
        Effect.sync(() => spawn("python3", ["-c", orphan], { stdio: ["pipe", "pipe", "inherit"] })),
        (child) => Effect.sync(() => child.kill("SIGKILL"))
      )
      yield* Effect.promise(() => once(owner.stdout, "data"))
      assert.notInclude(Fs.readFileSync("/proc/net/sockstat", "utf8"), " orphan 0 ")
      const skill = yield* Support.skill({ "scripts/run.py": "print('ran')" })
      yield* warmed(skill)
      for (let round = 0; round < 3; round++) assert.isTrue((yield* run(skill)).warm)
    }))

  test("is not asked for what it cannot do", () =>
    Effect.gen(function*() {
      const skill = yield* Support.skill({
        "scripts/run.py": "import sys\nprint(sys.flags.optimize, sys.stdout.encoding)"
      })
      yield* warmed(skill)
      const result = yield* run(skill, { env: { LC_ALL: "C.UTF-8" } })
      assert.isFalse(result.warm)
      const declared = yield* Support.skill({ "scripts/run.py": "print(1)" }, { "skillscale.warm": "false" })
      for (let tries = 0; tries < 5; tries++) assert.isFalse((yield* run(declared)).warm)
    }))

  test("ends a run that is interrupted, times out, or passes a limit, and serves the next", () =>
    Effect.gen(function*() {
      const skill = yield* Support.skill({
        "scripts/run.py": `import os, sys, time
if sys.argv[1] == "sleep":
    if os.fork() == 0: os.setsid()
    time.sleep(60)
if sys.argv[1] == "memory":
    block = bytearray(b"x") * (3 << 30); time.sleep(60)
print("done")`
      })
      yield* warmed(skill, { args: ["no"] })
      const late = yield* Effect.flip(run(skill, { args: ["sleep"], timeout: 200 }))
      assert.strictEqual(late.reason._tag === "ExecutorError" ? late.reason.reason._tag : "", "TimedOut")
      const interrupted = yield* Effect.timeoutOption(run(skill, { args: ["sleep"] }), 200)
      assert.strictEqual(interrupted._tag, "None")
      yield* warmed(skill, { args: ["no"] })
      const after = yield* run(skill, { args: ["no"] })
      assert.deepStrictEqual([after.warm, Support.text(after.stdout)], [true, "done\n"])
    }))
})

/** What packages do while they are imported, each in an environment of its own. All of it belongs to the run. */
const packages: Readonly<Record<string, string>> = {
  "arguments": "import sys\nseen = sys.argv",
  "the script's module": "import __main__\nseen = __main__.__dict__.get('VALUE'), __main__.__name__",
  "a hook": "import sys\nsys.excepthook = lambda *about: print('hooked', about[1])\nseen = 1",
  "a variable": "import os\nos.environ['SET_BY_PACKAGE'] = '1'\nseen = 1",
  "a variable that is not set": "import os\nseen = os.environ.get('SET_BY_PACKAGE', 'none')",
  "a temporary folder": "import os, tempfile\nseen = os.path.isdir(tempfile.mkdtemp())",
  "the directory": "import os\nseen = os.getcwd(), sorted(os.listdir('.'))",
  "the process": "import os\nsame = lambda: same.pid == os.getpid()\nsame.pid = os.getpid()\nseen = same()",
  "a timer":
    "import signal\nsignal.signal(signal.SIGALRM, print)\nsignal.setitimer(signal.ITIMER_REAL, 100)\nseen = signal.getitimer(signal.ITIMER_REAL)[0] > 1",
  "words": "print('from a package')\nseen = 1",
  "a warning": "import warnings\nwarnings.warn('old', stacklevel=2)\nseen = 1",
  "the path": "import sys\nsys.path.append('/nowhere')\nseen = sys.path[-1]"
}

describe("a package that is imported finds", () => {
  for (const [what, source] of Object.entries(packages)) {
    test(what, () =>
      Effect.gen(function*() {
        const directory = yield* Support.folder
        const root = Support.writeSkill(directory, "testing/sample", {
          "scripts/run.py":
            `import package, os, signal\nprint(package.seen, os.environ.get("SET_BY_PACKAGE"), getattr(package, "same", int)())
print(signal.getitimer(signal.ITIMER_REAL)[0] > 1)\nraise ValueError("end")`
        })
        execFileSync("python3", ["-m", "venv", "--without-pip", Path.join(root, ".venv")])
        const [version = ""] = Fs.readdirSync(Path.join(root, ".venv/lib"))
        Fs.writeFileSync(Path.join(root, ".venv/lib", version, "site-packages/package.py"), source)
        const skill = yield* Support.load(directory, "sample")
        const cold = yield* Effect.provide(run(skill), layer(false))
        const said = (
          result: SkillRunner.RunResult
        ) => [Support.text(result.stdout), Support.text(result.stderr), result.exitCode]
        yield* warmed(skill)
        assert.deepStrictEqual(said(yield* run(skill)), said(cold))
      }))
  }
})

/** What packages make of chance while they are imported, and whether it is the same in every run. */
const chances: Readonly<Record<string, readonly [source: string, repeats: boolean]>> = {
  "an identifier": ["import uuid\nseen = uuid.uuid4()", false],
  "a token": ["import secrets\nseen = secrets.token_hex(8)", false],
  "a number": ["import random\nseen = random.random()", false],
  "bytes": ["import os\nseen = os.urandom(8)", false],
  "a name that was imported": ["from random import choice\nseen = [choice(range(1000)) for _ in range(8)]", false],
  "a seed of its own": ["import random\nseen = random.Random(7).random()", true],
  "a seed for all": [
    "import random\nrandom.seed(7)\nclass Seen:\n  __str__ = lambda self: str(random.random())\nseen = Seen()",
    true
  ]
}

describe("a package that is imported makes", () => {
  for (const [what, [source, repeats]] of Object.entries(chances)) {
    test(`${what}, ${repeats ? "the same" : "another"} in every run`, () =>
      Effect.gen(function*() {
        const directory = yield* Support.folder
        const root = Support.writeSkill(directory, "testing/sample", {
          "scripts/run.py": "import package\nprint(package.seen)"
        })
        execFileSync("python3", ["-m", "venv", "--without-pip", Path.join(root, ".venv")])
        const [version = ""] = Fs.readdirSync(Path.join(root, ".venv/lib"))
        Fs.writeFileSync(Path.join(root, ".venv/lib", version, "site-packages/package.py"), source)
        const skill = yield* Support.load(directory, "sample")
        yield* warmed(skill)
        const results = yield* Effect.forEach(Array.from({ length: 4 }), () => run(skill))
        const said = new Set(results.map(({ stdout }) => Support.text(stdout)))
        assert.strictEqual(said.size, repeats ? 1 : 4, [...said].join())
        for (const { stderr } of results) assert.strictEqual(Support.text(stderr), "")
      }))
  }
})

test("modules that a skill puts first in the path are its own", () =>
  Effect.gen(function*() {
    const skill = yield* Support.skill({
      "scripts/run.py":
        `import os, sys\nsys.path.insert(0, os.path.join(os.path.dirname(__file__), "../vendor"))\nimport statistics\nprint(statistics.WHO)`,
      "vendor/statistics.py": "WHO = 'the skill'"
    })
    const results = yield* Effect.forEach(Array.from({ length: 8 }), () => Effect.delay(run(skill), 30))
    assert.deepStrictEqual(results.map(({ stdout }) => Support.text(stdout)), results.map(() => "the skill\n"))
  }))

/** Modules of a skill that would have their code run when another module of it is imported. */
const own: Readonly<Record<string, Support.Files>> = {
  "an attribute that is made when it is asked for": {
    "scripts/b.py": "from a import y",
    "scripts/a.py":
      "import builtins, mmap\ndef __getattr__(name):\n    if not hasattr(builtins, 'shared'): builtins.shared = mmap.mmap(-1, 4096)\n    return 1"
  },
  "a condition that is made true": {
    "scripts/b.py":
      `__name__ = "__main__"\nif __name__ == "__main__":\n    import builtins, mmap\n    if not hasattr(builtins, 'shared'): builtins.shared = mmap.mmap(-1, 4096)`
  },
  "a path of its own": {
    "scripts/b.py": "from a import y",
    "scripts/a.py": `import os\n__path__ = [os.path.join(os.path.dirname(__file__), "x")]`,
    "scripts/x/y.py": "import builtins, mmap\nif not hasattr(builtins, 'shared'): builtins.shared = mmap.mmap(-1, 4096)"
  }
}

describe("nothing passes from one run to the next by", () => {
  for (const [what, modules] of Object.entries(own)) {
    test(what, () =>
      Effect.gen(function*() {
        const skill = yield* Support.skill({
          ...modules,
          "scripts/run.py": `import b\nimport sys\nprint(bytes(shared[:8]))\nshared[:8] = b"from one"`
        })
        yield* warmed(skill)
        for (let round = 0; round < 4; round++) {
          const { stdout, warm } = yield* run(skill)
          assert.deepStrictEqual([Support.text(stdout), warm], [`b'\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x00'\n`, true])
        }
      }))
  }
})

describe("a keeper", () => {
  test("is gone when its run is, and counts for nothing", () =>
    Effect.gen(function*() {
      // Twice as much of either would be too much.
      const skill = yield* Support.skill({
        "scripts/run.py": `import os, time
block = bytearray(b"x") * (90 << 20)
for _ in range(11):
    if os.fork() == 0:
        time.sleep(0.3)
        os._exit(0)
time.sleep(0.2)
print(sorted(int(pid) for pid in os.listdir("/proc") if pid.isdigit())[-1] > 0)`
      }, { "skillscale.memory": "160MiB", "skillscale.processes": "12" })
      for (let round = 0; round < 3; round++) {
        const result = yield* warmed(skill)
        assert.deepStrictEqual(failed(result, skill.root), { ...failed(result, skill.root), stdout: "True\n" })
      }
      const script = Path.join(skill.root, "scripts/run.py")
      // The fork server, what waits for the next run, and that one's keeper.
      yield* Support.eventually("there is one keeper", () =>
        pids().filter((pid) => isForkServer(pid) && commandOf(pid).includes(script)).length === 3)
    }))

  // The script puts a loop in the place of the call that the keeper sleeps in.
  if (process.arch === "x64") {
    test("is ended when it works", () =>
      Effect.gen(function*() {
        const skill = yield* Support.skill({
          "scripts/run.py": `import ctypes, os, signal, time
def about(pid):
    with open(f"/proc/{pid}/stat") as file: return file.read().rpartition(")")[2].split()
keepers = [pid for pid in os.listdir("/proc") if pid.isdigit() and about(pid)[1] == "1" and int(pid) not in (os.getpid(), os.getppid())]
lives = lambda: any(os.path.exists(f"/proc/{keeper}") for keeper in keepers)
libc = ctypes.CDLL(None)
start = ctypes.cast(libc.syscall, ctypes.c_void_p).value
call = start + ctypes.string_at(start, 64).index(b"\\x0f\\x05")
assert libc.mprotect(ctypes.c_void_p(call & ~4095), 8192, 7) == 0
ctypes.memmove(call, b"\\xeb\\xfe", 2)
for keeper in keepers:
    os.kill(int(keeper), signal.SIGSTOP)
    os.kill(int(keeper), signal.SIGCONT)
until = time.monotonic() + 5
while time.monotonic() < until and lives(): time.sleep(0.01)
ctypes.memmove(call, b"\\x0f\\x05", 2)
print(len(keepers), lives())`
        })
        yield* warmed(skill)
        const { stdout, warm } = yield* run(skill)
        assert.deepStrictEqual([Support.text(stdout), warm], ["1 False\n", true])
      }))
  }

  test("is gone when its run becomes another program", () =>
    Effect.gen(function*() {
      const seconds = `0.6${process.pid}`
      const skill = yield* Support.skill({
        "scripts/run.py": `import os\nos.execv("/bin/sleep", ["sleep", "${seconds}"])`
      })
      yield* warmed(skill)
      const running = yield* Effect.forkChild(run(skill))
      const script = Path.join(skill.root, "scripts/run.py")
      yield* Support.eventually("only the fork server is left", () => {
        const own = pids().filter((pid) => isForkServer(pid) && commandOf(pid).includes(script))
        return own.length === 1 && pids().some((pid) => commandOf(pid).includes(seconds))
      })
      yield* Fiber.join(running)
    }))
})

describe("beyond its limits a warm start ends as a cold one", () => {
  const little = { "skillscale.memory": "256MiB" }

  test("of a file", () =>
    Effect.gen(function*() {
      const files = {
        "scripts/run.py":
          `import os, sys\nif len(sys.argv) > 1: os.pwrite(os.open("out", os.O_CREAT | os.O_WRONLY), b"x", 2 ** 30)`
      }
      const seen = yield* compareAtLimits(files, "scripts/run.py")
      assert.match(seen, /file passed its limit of 1073741824 bytes/)
    }))

  for (
    const [what, script] of [
      [
        "threads",
        `import threading, time\nfor _ in range(700): threading.Thread(target=time.sleep, args=(9,), daemon=True).start()`
      ],
      ["processes", `import os, time\nfor _ in range(700):\n  if os.fork() == 0: time.sleep(9); os._exit(0)`],
      ["programs", `import subprocess\nkept = [subprocess.Popen(["sleep", "9"]) for _ in range(700)]`],
      [
        "processes without a word",
        `import os, time\ntry:\n  for _ in range(700):\n    if os.fork() == 0: time.sleep(9)\nexcept OSError: os._exit(1)`
      ]
    ] as const
  ) {
    test(`of ${what}`, () =>
      Effect.gen(function*() {
        const skill = yield* Support.skill({ "scripts/run.py": script })
        for (const isWarm of [false, true]) {
          const rounds = Effect.gen(function*() {
            for (let round = 0; round < 4; round++) {
              const { message, reason } = yield* Effect.flip(run(skill))
              assert.strictEqual(reason._tag === "ExecutorError" ? reason.reason._tag : "", "ProcessLimit", message)
            }
          })
          yield* Effect.provide(rounds, layer(isWarm))
        }
      }))
  }

  test("of memory that it uses", () =>
    Effect.gen(function*() {
      const files = {
        "scripts/run.py": `import sys\nkept = []\nwhile len(sys.argv) > 1: kept.append(b"x" * (1 << 20))`
      }
      const seen = yield* compareAtLimits(files, "scripts/run.py", little)
      assert.match(seen, /ran out of its 268435456 bytes of memory/)
    }))

  test("of memory that it is refused", () =>
    Effect.gen(function*() {
      const files = {
        "scripts/run.py":
          `import sys\nif len(sys.argv) > 1:\n  kept = bytearray(b"x") * (150 << 20)\n  bytearray(2 << 30)`
      }
      const seen = yield* compareAtLimits(files, "scripts/run.py", little)
      assert.match(seen, /ran out of its 268435456 bytes of memory/)
    }))
})
