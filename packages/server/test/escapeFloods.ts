import type * as Executor from "../src/Executor.ts"

/** Programs that take what they can get, and the reason for which they are ended. Without a limit they end by themselves. */
export const floods: Readonly<Record<string, readonly [reason: Executor.Reason["_tag"], code: string]>> = {
  "processes without end": [
    "ProcessLimit",
    `children = []
try:
    while len(children) < 200:
        pid = os.fork()
        if pid == 0: signal.pause()
        children.append(pid)
    time.sleep(0.3)
    escaped()
except BlockingIOError: time.sleep(20)
for pid in children: os.kill(pid, signal.SIGKILL)`
  ],
  "threads without end": [
    "ProcessLimit",
    `import threading
over = threading.Event()
try:
    for _ in range(200): threading.Thread(target=over.wait).start()
    time.sleep(0.3)
    escaped()
except RuntimeError: time.sleep(20)
over.set()`
  ],
  "threads that outlive the first one of their process": [
    "ProcessLimit",
    `import threading
def start():
    time.sleep(0.2)
    over = threading.Event()
    for _ in range(200): threading.Thread(target=over.wait, daemon=True).start()
    time.sleep(0.3)
    escaped()
    os._exit(0)
threading.Thread(target=start).start()
libc.syscall(60, 0)`
  ],
  "memory of one process": ["MemoryLimit", `block = bytearray(b"x") * (600 << 20)\ntime.sleep(0.3)\nescaped()`],
  "memory spread over processes": [
    "MemoryLimit",
    `ready, children = os.pipe(), []
for _ in range(8):
    pid = os.fork()
    if pid == 0:
        block = bytearray(b"x") * (100 << 20)
        os.write(ready[1], b"x")
        signal.pause()
    children.append(pid)
for _ in children: os.read(ready[0], 1)
time.sleep(0.3)
escaped()
for pid in children: os.kill(pid, signal.SIGKILL)`
  ],
  "memory that processes share": [
    "MemoryLimit",
    `import mmap
block = mmap.mmap(-1, 600 << 20)
for at in range(0, len(block), 4096): block[at] = 1
time.sleep(0.3)
escaped()`
  ],
  "memory of threads that outlive the first one of their process": [
    "MemoryLimit",
    `import threading
def hold():
    time.sleep(0.2)
    block = bytearray(b"x") * (600 << 20)
    time.sleep(0.3)
    escaped()
    os._exit(0)
threading.Thread(target=hold).start()
libc.syscall(60, 0)`
  ],
  "memory in files that nobody maps": [
    "DiskLimit",
    `import errno
def make():
    try: return os.memfd_create("flood")
    except OSError as error:
        if error.errno != errno.ENOSYS: raise
        return os.open("/dev/shm", os.O_TMPFILE | os.O_RDWR)
files = [make() for _ in range(20)]
try:
    for file in files:
        for _ in range(30): os.write(file, b"x" * (1 << 20))
except OSError: time.sleep(20)
time.sleep(0.3)
escaped()`
  ],
  "files without end": [
    "DiskLimit",
    `import shutil
folder = tempfile.mkdtemp()
for i in range(64):
    with open(f"{folder}/{i}", "wb") as file: file.write(b"x" * 1024 * 1024)
shutil.rmtree(folder)
escaped()`
  ],
  "files that it removed": [
    "DiskLimit",
    `files = []
for i in range(64):
    files.append(tempfile.TemporaryFile(buffering=0))
    try: files[-1].write(b"x" * 1024 * 1024)
    except OSError: time.sleep(20)
escaped()`
  ]
}
