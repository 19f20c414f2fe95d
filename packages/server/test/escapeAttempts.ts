/** Real attempts to get out of a run, by what they are after. */
import * as Fs from "node:fs"
import * as Path from "node:path"
import type { Attempt } from "./escapeKit.ts"
import { carrying } from "./executorKit.ts"

const holds = (file: string, what: string) => `if SECRET.encode() in read(${file}): ${what}`

/** Reading what a run has no business with. */
const reading: Readonly<Record<string, Attempt>> = {
  "read the server's environment": { code: `if b"PATH=" in read(f"/proc/{SERVER}/environ"): escaped()` },
  "read another process's environment": { code: holds(`f"/proc/{VICTIM}/environ"`, "escaped()") },
  "see other processes": { code: `if os.path.exists(f"/proc/{VICTIM}/stat"): escaped()` },
  "read the server's memory": {
    asRoot: true,
    code: `line = next(l for l in open(f"/proc/{SERVER}/maps") if " rw-p " in l)
start = int(line.split("-")[0], 16)
memory = os.open(f"/proc/{SERVER}/mem", os.O_RDONLY)
if len(os.pread(memory, 64, start)) == 64: escaped()`
  },
  "read the server's memory by a system call": {
    asRoot: true,
    code: `class Part(ctypes.Structure): _fields_ = [("base", ctypes.c_void_p), ("size", ctypes.c_size_t)]
try: start = int(next(l for l in open(f"/proc/{SERVER}/maps") if " rw-p " in l).split("-")[0], 16)
except OSError: start = 0
into = ctypes.create_string_buffer(8)
near, far = Part(ctypes.addressof(into), 8), Part(start, 8)
if syscall(310, SERVER, ctypes.byref(near), 1, ctypes.byref(far), 1, 0) == 8: escaped()`
  },
  "read /etc/shadow": { asRoot: true, code: `if read("/etc/shadow"): escaped()` },
  "read a file of the host": { code: holds(`FOLDER + "/secret"`, "escaped()") },
  "read another skill": { code: holds(`SIBLING + "/secret"`, "escaped()") },
  "read another skill through ..": { code: `os.chdir(SKILL)\n${holds(`"../sibling/secret"`, "escaped()")}` },
  "read another run's work directory": {
    beside: `os.chdir(SKILL)
with open("of-the-run", "w") as file: file.write(SECRET)
print("ready", flush=True)
time.sleep(20)`,
    code: `import glob
for way in (SIBLING + "/of-the-run", *glob.glob("/proc/[0-9]*/cwd/of-the-run"), *glob.glob("/.*/*/of-the-run")):
    try:
        ${holds("way", "escaped(); break")}
    except OSError: pass`
  },
  "read the shared memory of another process": { code: holds("SHARED", "escaped()") },
  "read the host's file through a symbolic link": {
    code: `os.chdir(SKILL)\nos.symlink(FOLDER + "/secret", "link")\n${holds(`"link"`, "escaped()")}`
  },
  "read the host's file through a hard link": {
    code: `os.chdir(SKILL)\nos.link(FOLDER + "/secret", "hard")\n${holds(`"hard"`, "escaped()")}`
  },
  "read through /proc/self/root and the like": {
    code: `for way in ("/proc/self/root", "/proc/1/root", f"/proc/{SERVER}/root", f"/proc/{PARENT}/root"):
    try:
        ${holds(`way + FOLDER + "/secret"`, "escaped()")}
    except OSError: pass`
  },
  "read through /proc/self/fd": {
    code: `folder = os.open("/", os.O_PATH | os.O_DIRECTORY)
for way in (FOLDER + "/secret", f"/proc/self/fd/{folder}" + FOLDER + "/secret"):
    file = os.open(way, os.O_PATH)
    ${holds(`f"/proc/self/fd/{file}"`, "escaped()")}`
  },
  "read through a folder's descriptor": {
    code: `root = os.open("/", os.O_RDONLY | os.O_DIRECTORY)
file = os.open("../../.." + FOLDER + "/secret", os.O_RDONLY, dir_fd=root)
if SECRET.encode() in os.read(file, 100): escaped()`
  }
}

/** Leaving something outside. */
const writing: Readonly<Record<string, Attempt>> = {
  "change its skill for later runs": {
    code: `open(SKILL + "/SKILL.md", "w").write("changed")`,
    seen: ({ original }) => Fs.readFileSync(original, "utf8") !== "unchanged"
  },
  "write outside": {
    code: `open(FOLDER + "/written", "w").write("x")`,
    seen: ({ folder }) => Fs.existsSync(Path.join(folder, "written"))
  },
  "write through a link out of its folder": {
    code: `os.chdir(SKILL)\nos.symlink(FOLDER, "out")\nopen("out/linked", "w").write("x")`,
    seen: ({ folder }) => Fs.existsSync(Path.join(folder, "linked"))
  },
  "change the host's file through a hard link": {
    code: `os.chdir(SKILL)\nos.link(FOLDER + "/secret", "hard")\nopen("hard", "w").write("x")`,
    seen: ({ folder }) => Fs.readFileSync(Path.join(folder, "secret"), "utf8") === "x"
  },
  "change the host's file through /proc/self/fd": {
    code: `file = os.open(FOLDER + "/of-its-user", os.O_RDONLY)\nopen(f"/proc/self/fd/{file}", "w").write("x")`,
    seen: ({ folder }) => Fs.readFileSync(Path.join(folder, "of-its-user"), "utf8") === "x"
  },
  "change the mode of a file of its user": {
    code: `os.chmod(FOLDER + "/of-its-user", 0o600)`,
    seen: ({ folder }) => (Fs.statSync(Path.join(folder, "of-its-user")).mode & 0o777) === 0o600
  },
  "change the shared memory of another process": {
    code: `open(SHARED, "r+").write("x")`,
    seen: ({ shared }) => Fs.readFileSync(shared, "utf8").startsWith("x")
  },
  "change the times of a device": {
    code: `before = os.stat("/dev/null").st_mtime_ns
for _ in range(50):
    os.utime("/dev/null")
    if os.stat("/dev/null").st_mtime_ns != before: escaped(); break
    time.sleep(0.01)`
  },
  "write to the system": {
    asRoot: true,
    code: `open("/usr/skillscale-escape", "w").close()\nos.remove("/usr/skillscale-escape")\nescaped()`
  }
}

/** Reaching others. */
const reaching: Readonly<Record<string, Attempt>> = {
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
  "change the limits of another process": {
    code: `become_the_user()\nresource.prlimit(VICTIM, resource.RLIMIT_MSGQUEUE, (4711, 4711))`,
    seen: ({ victim }) => /^Max msgqueue size +4711 /m.test(Fs.readFileSync(`/proc/${victim}/limits`, "latin1"))
  },
  "inherit a descriptor": {
    bare: true,
    code: `for descriptor in range(3, 1024):
    try:
        if SECRET.encode() in os.pread(descriptor, 100, 0): escaped()
    except OSError: pass`
  },
  "leave a process behind that outlives it": {
    bare: true,
    code: `if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        for number in range(3): os.close(number)
        while True: time.sleep(60)
    os._exit(0)
os.wait()`,
    seen: ({ marker }) => carrying(marker).length > 0
  }
}

/** Reaching the process that started it: a reaper, or the fork server of its cell. */
const parent: Readonly<Record<string, Attempt>> = {
  "signal its parent": { code: `os.kill(PARENT, 0)\nescaped()` },
  "read the memory of its parent": {
    asRoot: true,
    code: `start = int(next(l for l in open(f"/proc/{PARENT}/maps") if " rw-p " in l).split("-")[0], 16)
if len(os.pread(os.open(f"/proc/{PARENT}/mem", os.O_RDONLY), 8, start)) == 8: escaped()`
  },
  "see the descriptors of its parent": {
    asRoot: true,
    code:
      `folder = f"/proc/{PARENT}/fd"\nif [os.readlink(f"{folder}/{name}") for name in os.listdir(folder)]: escaped()`
  },
  "trace its parent": { asRoot: true, code: `if libc.ptrace(0x4206, PARENT, 0, 0) == 0: escaped()` },
  "take a socket of its parent": {
    asRoot: true,
    code: `pidfd = os.pidfd_open(PARENT)
for number in range(128):
    descriptor = libc.syscall(438, pidfd, number, 0)
    if descriptor >= 0 and os.readlink(f"/proc/self/fd/{descriptor}").startswith("socket:"): escaped()`
  },
  "change the limits of its parent": {
    code: `resource.prlimit(PARENT, resource.RLIMIT_MSGQUEUE, (4711, 4711))
if resource.prlimit(PARENT, resource.RLIMIT_MSGQUEUE)[0] == 4711: escaped()`
  },
  "make its parent a child": {
    code: `pid = syscall(56, 0x8000 | signal.SIGCHLD, 0, 0, 0, 0)
if pid == 0: os._exit(0)
if pid > 0: escaped()`
  },
  "slow its parent down": { code: `os.setpriority(os.PRIO_PROCESS, PARENT, 1)\nescaped()` }
}

/** Gaining rights, and changing the machine. */
const gaining: Readonly<Record<string, Attempt>> = {
  "become root": { asRoot: true, code: `os.setuid(0)\nif os.geteuid() == 0: escaped()` },
  "gain privileges from a set-user-ID program": {
    asRoot: true,
    bare: true,
    code: `become_the_user()
null, began = subprocess.DEVNULL, time.time()
program = subprocess.Popen(["su"], stdin=subprocess.PIPE, stdout=null, stderr=null)
while program.poll() is None and time.time() < began + 1:
    with open(f"/proc/{program.pid}/status") as file: user = next(l for l in file if l.startswith("Uid:")).split()
    if user[2] == "0": escaped(); break
program.kill()`
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
  "make a file that is in no file system": { code: `os.memfd_create("x")\nescaped()` },
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

export const attempts: Readonly<Record<string, Attempt>> = {
  ...reading,
  ...writing,
  ...reaching,
  ...parent,
  ...gaining
}
