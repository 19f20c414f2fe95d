"""Talks to the reaper over its socket. Prints one line per case: name, exit status (negative: signal), replies."""
import array, os, random, socket, struct, subprocess, sys

MAGIC = 0x534B5331
UNLIMITED = 2**64 - 1
reaper = sys.argv[1]


def command(kind=1, argc=1, envc=0, size=0, magic=MAGIC, writec=0, readc=0, warmc=0):
    return struct.pack("<10I2Q8Q", magic, kind, argc, envc, writec, readc, 0, 0, 0, warmc, size, 0, *[UNLIMITED] * 8)


configure = command(kind=4, argc=0)


def talk(name, packets, replies=1, first=configure):
    near, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    null = os.open("/dev/null", os.O_RDWR)
    # The reaper expects its socket as descriptor 3.
    script = 'exec 3<&%d; exec "$0"' % far.fileno()
    child = subprocess.Popen(["/bin/bash", "-c", script, reaper], pass_fds=[far.fileno()], stdin=null)
    far.close()
    near.settimeout(10)
    seen = []
    if first is not None:
        near.send(first)
        near.recv(1024)
    for data, fds in packets:
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
        try:
            near.sendmsg([data], rights)
        except OSError:
            break
    try:
        while len(seen) < replies:
            data = near.recv(1024)
            if not data:
                break
            seen.append(struct.unpack("<I", data[4:8])[0])
    except OSError:
        pass
    near.close()
    os.close(null)
    print(name, child.wait(30), seen, flush=True)


null = os.open("/dev/null", os.O_RDWR)
three = [null, null, null]
true = b"/\0/bin/true\0\0\0\0true\0"
sleep = b"/\0/bin/sleep\0\0\0\0sleep\0001000\0"


def memfd(data):
    fd = os.memfd_create("x")
    os.write(fd, data)
    return fd


good = (command(size=len(true)) + true, three)
talk("valid", [good])
talk("valid-memfd", [(command(size=len(true)), three + [memfd(true)])])
talk("valid-kill", [(command(argc=2, size=len(sleep)) + sleep, three), (command(kind=3, argc=0), [])], 2)
bad = {
    "short": [(b"x", [])],
    "header-cut": [(command()[:40], [])],
    "magic": [(command(magic=7, size=len(true)) + true, three)],
    "type": [(command(kind=99, argc=0), [])],
    "no-descriptors": [(command(size=len(true)) + true, [])],
    "two-descriptors": [(command(size=len(true)) + true, [null, null])],
    "five-descriptors": [(command(size=len(true)) + true, [null] * 5)],
    "many-descriptors": [(command(size=len(true)) + true, [null] * 200)],
    "size-low": [(command(size=len(true) - 1) + true, three)],
    "size-high": [(command(size=len(true) + 1) + true, three)],
    "size-huge": [(command(size=UNLIMITED), three + [memfd(true)])],
    "size-zero": [(command(size=0), three)],
    "memfd-short": [(command(size=4096), three + [memfd(true)])],
    "memfd-is-a-directory": [(command(size=4096), three + [os.open("/", os.O_RDONLY)])],
    "argc-zero": [(command(argc=0, size=len(true)) + true, three)],
    "argc-low": [(command(argc=1, size=len(sleep)) + sleep, three)],
    "argc-high": [(command(argc=2, size=len(true)) + true, three)],
    "argc-huge": [(command(argc=2**32 - 1, envc=2**32 - 1, size=len(true)) + true, three)],
    "paths-low": [(command(writec=1, size=len(true)) + true, three)],
    "warm-low": [(command(warmc=1, size=len(true)) + true, three)],
    "paths-huge": [(command(writec=2**32 - 1, readc=2**32 - 1, size=len(true)) + true, three)],
    "configured-twice": [(configure, [])],
    "no-terminator": [(command(size=len(true) - 1) + true[:-1], three)],
    "terminate-with-descriptors": [(command(kind=2, argc=0), three)],
    "kill-with-payload": [(command(kind=3, argc=0) + b"x", [])],
    "spawn-while-occupied": [(command(argc=2, size=len(sleep)) + sleep, three), good],
    "oversized": [(command(size=100000) + b"a" * 100000, three)],
}
for name, packets in bad.items():
    talk("bad:" + name, packets)
for name, first in {
    "spawn": good[0],
    "nothing-of-it": b"x",
    "strings-missing": command(kind=4, argc=3),
    "strings-many": command(kind=4, argc=1, size=4) + b"/\0/\0",
    "no-terminator": command(kind=4, argc=1, size=2) + b"/a",
}.items():
    talk("first:" + name, [(first, [])], first=None)
random.seed(int(sys.argv[2]) if len(sys.argv) > 2 else 1)
for i in range(150):
    data = bytearray(good[0])
    for _ in range(random.randint(1, 6)):
        data[random.randrange(0, 48)] = random.randrange(256)
    if bytes(data) == good[0]:
        continue
    talk("fuzz:%d" % i, [(bytes(data), three)])
