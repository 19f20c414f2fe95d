"""Talks to the Python fork server over its socket, as its reaper does and as it never would.

`zygote-garbage.py ZYGOTE LIBRARY SEED FIRST COUNT`: every round is made from its number and the seed alone. It sends one
packet to a fork server or to the process that one made, judges by rules of its own whether the packet is valid, and
expects of a valid one what it asks for, of any other that its receiver ends; that nothing crashes, hangs, or is left when the
sockets are closed; and that the fork server still works after it. Ends with 1 when something did not hold, and says
which round it was; else prints how often what happened, as JSON.
"""
import array, ctypes, json, os, random, signal, socket, struct, subprocess, sys, tempfile, time

MAGIC = 0x534B5331
UNLIMITED = 2**64 - 1
SPAWN, PREPARE = 1, 5
HELLO, EXITED, STARTED, READY = 1, 3, 6, 7
INLINE_BYTES = 32 * 1024
PAYLOAD_BYTES = 16 * 1024 * 1024
STRINGS = 2**20
MOST_RIGHTS = 5
COMMAND_BYTES = 120
PATIENCE = 20

zygote, library = sys.argv[1:3]
seed, first, count = map(int, sys.argv[3:6])
libc = ctypes.CDLL(None, use_errno=True)
PR_SET_CHILD_SUBREAPER = 36
libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
folder = tempfile.mkdtemp(prefix="zygote-")
script = os.path.join(folder, "run.py")
with open(script, "w") as file:
    file.write(
        "import json, os, sys\n"
        "if sys.argv[:1] == ['siblings']:\n"
        "    import ctypes, platform\n"
        "    libc = ctypes.CDLL(None)\n"
        "    clone = {'x86_64': 56, 'aarch64': 220}[platform.machine()]\n"
        "    lives = os.pipe()\n"
        "    for waits in (False, True):\n"
        "        if libc.syscall(ctypes.c_long(clone), ctypes.c_long(0x8000 | 17), None, None, None, None) == 0:\n"
        "            os.close(lives[1])\n"
        "            if waits: os.read(lives[0], 1)\n"
        "            os._exit(0)\n"
        "print(json.dumps([sys.argv, sorted(os.environ.items()), sys.stdin.read(), os.getcwd()]))\n"
        "sys.exit(len(sys.argv) % 100)\n"
    )
tally = {}


class Wrong(Exception):
    pass


def tell(what):
    tally[what] = tally.get(what, 0) + 1


def expect(actual, expected, what):
    if actual != expected:
        raise Wrong(f"{what}: {actual!r}, not {expected!r}")


def command(kind, argc=0, envc=0, size=0, magic=MAGIC, writec=0, readc=0, warmc=0, number=0, limits=()):
    limits = (*limits, *[UNLIMITED] * (8 - len(limits)))
    return struct.pack("<10I2Q8Q", magic, kind, argc, envc, writec, readc, 0, 0, 0, warmc, size, number, *limits)


def ruleset():
    """One that forbids to make sockets, and nothing else."""
    rules = (ctypes.c_uint64 * 1)(1 << 9)
    fd = libc.syscall(444, rules, ctypes.sizeof(rules), 0)
    if fd < 0:
        raise OSError(ctypes.get_errno(), "landlock_create_ruleset")
    return fd


def memfd(data):
    fd = os.memfd_create("garbage")
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view):]
    return fd


class Descriptors:
    """Opens descriptors, and closes them all."""

    def __init__(self):
        self.open = []

    def keep(self, fd):
        self.open.append(fd)
        return fd

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for fd in self.open:
            os.close(fd)


def send(near, data, fds):
    rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
    try:
        near.sendmsg([data], rights)
    except (BrokenPipeError, ConnectionResetError):
        # It has ended for what it was sent before.
        pass


class ForkServer:
    def __init__(self):
        near, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        near.settimeout(PATIENCE)
        near.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
        self.near = near
        self.errors = tempfile.TemporaryFile()
        kept = ("LD_PRELOAD", "ASAN_OPTIONS", "UBSAN_OPTIONS")
        env = {"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8", "PYTHONDONTWRITEBYTECODE": "1"}
        env.update({name: os.environ[name] for name in kept if name in os.environ})
        self.process = subprocess.Popen(
            [sys.executable, zygote, library, script, os.path.dirname(script)], stdin=far, stdout=self.errors, stderr=self.errors, env=env, cwd="/"
        )
        far.close()
        self.number = 0
        expect(self.reply(), (HELLO, self.process.pid, 0, 0), "its first words")
        self.descriptors = self.count()

    def count(self):
        try:
            return len(os.listdir(f"/proc/{self.process.pid}/fd"))
        except OSError:
            # Only root may look.
            return 0

    def said(self):
        self.errors.seek(0)
        return self.errors.read().decode("utf-8", "backslashreplace")

    def reply(self):
        """Type, pid, status and number, or None at the end."""
        try:
            data = self.near.recv(1024)
        except TimeoutError:
            raise Wrong(f"no word from the fork server within {PATIENCE} s\n{self.said()}") from None
        except ConnectionResetError:
            # It left packets unread.
            return None
        if not data:
            return None
        expect(len(data), 72, "the size of a reply")
        magic, kind, pid, status = struct.unpack("<2I2i", data[:16])
        expect(magic, MAGIC, "the magic number of a reply")
        return kind, pid, status, struct.unpack("<Q", data[64:72])[0]

    def prepare(self, descriptors, directory="/", data=None, limits=()):
        """Sends a valid Prepare, and returns the job's socket and the pid of what waits there."""
        self.number += 1
        near, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        near.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
        path = directory.encode() + b"\0"
        send(self.near, command(PREPARE, size=len(path), number=self.number, limits=limits) + path, [descriptors.keep(ruleset()), far.fileno()])
        far.close()
        kind, pid, _, number = self.reply() or (0, 0, 0, 0)
        expect((kind, number), (STARTED, self.number), f"the answer to a Prepare\n{self.said()}")
        if pid <= 1:
            raise Wrong(f"started {pid}")
        return near, pid

    def ended(self, pid, number):
        kind, ended, status, about = self.reply() or (0, 0, 0, 0)
        expect((kind, ended, about), (EXITED, pid, number), f"what is told of an end\n{self.said()}")
        return status

    def works(self):
        """A whole run, with strings inline or in a memfd."""
        for large in (False, True):
            with Descriptors() as descriptors:
                job, pid = self.prepare(descriptors, folder)
                arguments = ["run.py", "a", "ü" * 10, "x" * (100_000 if large else 10)]
                environment = ["A=b=c", "PATH=/bin"]
                packet, out = spawn(descriptors, arguments, environment, large, b"input")
                send(job, *packet)
                leave(job)
                for fd in descriptors.open:
                    os.close(fd)
                descriptors.open.clear()
                expected = [arguments[1:], [["A", "b=c"], ["PATH", "/bin"]], "input", folder]
                told = json.loads(read(out) or "null")
                expect(told and [told[0], *told[1:]], expected, f"what the script saw\n{self.said()}")
                expect(self.ended(pid, self.number), (len(arguments) - 1) << 8, "its status")

    def reaps(self):
        """A run makes siblings of itself, one of which outlives it: none stays a zombie."""
        with Descriptors() as descriptors:
            job, pid = self.prepare(descriptors, folder)
            packet, out = spawn(descriptors, ["run.py", "siblings"], [], False)
            send(job, *packet)
            leave(job)
        read(out)
        expect(self.ended(pid, self.number), 1 << 8, "the status of one with siblings")
        until = time.monotonic() + PATIENCE
        while self.children():
            if time.monotonic() > until:
                raise Wrong(f"siblings of a run are left: {self.children()}")
            time.sleep(0.002)

    def children(self):
        with open(f"/proc/{self.process.pid}/task/{self.process.pid}/children") as file:
            return file.read().split()

    def end(self):
        """Its socket is closed: it has to go, with all that it made."""
        self.near.close()
        try:
            status = self.process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            raise Wrong(f"the fork server did not end\n{self.said()}") from None
        expect(status, 0, f"the status of the fork server\n{self.said()}")
        until = time.monotonic() + PATIENCE
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                break
            if pid == 0:
                end_keepers()
                if time.monotonic() > until:
                    raise Wrong("a process is left behind")
                time.sleep(0.002)
            elif crashed(status):
                raise Wrong(f"what was left to itself ended with signal {status}\n{self.said()}")
        self.errors.close()


def end_keepers():
    """Whose runs have ended: what is left of them has nothing open."""
    with open(f"/proc/self/task/{os.getpid()}/children") as file:
        for pid in file.read().split():
            if not os.listdir(f"/proc/{pid}/fd"):
                os.kill(int(pid), signal.SIGKILL)


def leave(job):
    """Closes the socket of a process that waits, when that has said so: what is unread would be an error for it."""
    job.settimeout(PATIENCE)
    try:
        data = job.recv(1024)
    except ConnectionResetError:
        # It ended without reading.
        data = b""
    if data:
        expect((len(data), *struct.unpack("<2I", data[:8])), (72, MAGIC, READY), "what a process that waits says")
    job.close()


def crashed(status):
    return os.WIFSIGNALED(status) and os.WTERMSIG(status) in (
        signal.SIGSEGV, signal.SIGABRT, signal.SIGBUS, signal.SIGFPE, signal.SIGILL, signal.SIGTRAP,
    )


def read(fd):
    with open(fd, "rb") as file:
        return file.read()


def spawn(descriptors, arguments, environment, large, data=b""):
    """A valid Spawn, and where its output can be read."""
    strings = ["/", sys.executable, "", "", "", *arguments, *environment]
    payload = "".join(f"{value}\0" for value in strings).encode()
    stdin, feed = os.pipe()
    os.write(feed, data)
    os.close(feed)
    out, stdout = os.pipe()
    for fd in (stdin, stdout):
        descriptors.keep(fd)
    fds = [stdin, stdout, descriptors.keep(os.open("/dev/null", os.O_WRONLY))]
    head = command(SPAWN, len(arguments), len(environment), len(payload))
    if not large:
        return (head + payload, fds), out
    return (head, [*fds, descriptors.keep(memfd(payload))]), out


class Made:
    """A packet in parts, to be changed before it is put together."""

    def __init__(self, kind, heads, streams, number=0):
        self.fields = dict(kind=kind, argc=0, envc=0, magic=MAGIC, writec=0, readc=0, warmc=0, number=number)
        self.heads = heads
        self.streams = streams
        self.fds = []
        self.payload = b""
        self.size = None
        self.inline = True
        self.cut = None
        self.limits = ()

    def __repr__(self):
        return repr(self.__dict__)[:1000]

    def put(self):
        size = len(self.payload) if self.size is None else self.size
        data = command(size=size, limits=self.limits, **self.fields) + (self.payload if self.inline else b"")
        return data[: self.cut]

    def valid(self, kind, in_memfd):
        """`in_memfd`: what the descriptor after the streams holds, or None."""
        data = self.put()
        if len(data) < COMMAND_BYTES or len(data) > COMMAND_BYTES + INLINE_BYTES or len(self.fds) > MOST_RIGHTS:
            return False
        fields = struct.unpack("<10I2Q", data[:56])
        magic, actual, argc, envc, writec, readc, _, _, _, warmc, size, _ = fields
        heads = self.heads + (writec + readc + warmc if kind == SPAWN else 0)
        if magic != MAGIC or actual != kind or max(argc, envc) > STRINGS or heads > 4 * STRINGS or size > PAYLOAD_BYTES:
            return False
        inline = data[COMMAND_BYTES:]
        if len(self.fds) == self.streams:
            strings = inline
        elif len(self.fds) == self.streams + 1 and not inline and in_memfd is not None and len(in_memfd) >= size:
            strings = in_memfd[:size]
        else:
            return False
        wanted = heads + argc + envc
        return len(strings) == size and strings.count(b"\0") == wanted and (wanted == 0 or strings.endswith(b"\0"))


def text(source):
    letters = [b"a", b"Z", b" ", b"/", b"=", b".", b"\xc3\xbc", b"\n", b"\xff"]
    return b"".join(source.choices(letters, k=source.randrange(12)))


def whole(source, most=64):
    return source.choice([0, 1, 2, 2**31, 2**32 - 1, source.getrandbits(source.randrange(1, most + 1))])


def mutate(source, made, descriptors):
    """Changes one thing or two, and returns what is in the descriptor behind the streams."""
    in_memfd = None
    if source.random() < 0.3:
        made.inline = False
        in_memfd = made.payload
    counts = ["argc", "envc"] + (["writec", "readc", "warmc"] if made.heads > 1 else [])

    def odd():
        return descriptors.keep(source.choice([lambda: os.open("/", os.O_RDONLY), lambda: os.open("/dev/null", os.O_RDWR), lambda: memfd(b"x")])())

    def cut():
        made.cut = source.randrange(COMMAND_BYTES + len(made.payload))

    def kind():
        made.fields[source.choice(["kind", "magic"])] = whole(source, 32) % 2**32

    def number():
        made.fields[source.choice(counts)] = whole(source, 32) % 2**32

    def shift():
        # Their sum stays, so that what was meant to be one is another.
        less, more = source.sample(counts, 2) if len(counts) > 1 else counts * 2
        if made.fields[less] > 0:
            made.fields[less] -= 1
            made.fields[more] += 1

    def size():
        made.size = source.choice([whole(source), max(0, len(made.payload) + source.choice([-1, 1, -5, 5]))])

    def bytes_():
        nonlocal in_memfd
        payload = bytearray(made.payload or b"\0")
        at = source.randrange(len(payload))
        way = source.randrange(4)
        if way == 0:
            del payload[at]
        elif way == 1:
            payload.insert(at, source.randrange(256))
        elif way == 2:
            payload[at] = source.randrange(256)
        else:
            payload.extend(source.choice([b"x", b"\0", b"x\0", b"x" * INLINE_BYTES + b"\0"]))
        made.payload = bytes(payload)
        in_memfd = made.payload if in_memfd is not None else None

    def unended():
        made.payload = made.payload[:-1]

    def beyond():
        # As if what is behind the packet belonged to it: nothing but ends of strings.
        more = source.choice([1, 2, INLINE_BYTES])
        made.size = len(made.payload) + more
        made.fields[source.choice(counts)] += more

    def oversized():
        # What fits into the buffer is valid.
        room = INLINE_BYTES - len(made.payload)
        made.payload = made.payload[:-1] + b"x" * room + b"\0" + b"x" * source.choice([1, 100])
        made.size = INLINE_BYTES

    def fewer():
        made.fds = made.fds[: source.randrange(len(made.fds))]

    def more():
        made.fds = made.fds + [odd() for _ in range(source.choice([1, 1, 2, 3, 60]))]

    def behind():
        nonlocal in_memfd
        data = source.choice([b"", b"x", made.payload[:-1], made.payload + b"x", b"\0" * len(made.payload)])
        made.inline, in_memfd = False, data

    def empty():
        made.cut = 0

    def many():
        made.payload = b"\0" * source.choice([20, 5000, INLINE_BYTES])

    ways = [cut, kind, number, shift, size, bytes_, unended, beyond, oversized, many, fewer, more, behind, empty]
    for way in source.sample(ways, source.choice([1, 1, 2])):
        way()
    if not made.inline:
        extra = memfd(in_memfd) if in_memfd is not None and source.random() < 0.9 else None
        if extra is None:
            in_memfd = None
            extra = source.choice([lambda: os.open("/", os.O_RDONLY), lambda: os.pipe()[0]])()
        made.fds = made.fds[: made.streams] + [descriptors.keep(extra)] + made.fds[made.streams :]
    return in_memfd


def garbage_spawn(source, server):
    """To a process that waits for its run."""
    with Descriptors() as descriptors:
        job, pid = server.prepare(descriptors)
        made = Made(SPAWN, 5, 3)
        strings = [b"/", b"python", b"", b"", b"", b"run.py", *[b"a" + text(source) for _ in range(source.randrange(3))]]
        made.fields["argc"] = len(strings) - 5
        environment = [b"E%d=%s" % (index, text(source)) for index in range(source.randrange(3))]
        made.fields["envc"] = len(environment)
        made.payload = b"".join(value + b"\0" for value in strings + environment)
        out, stdout = os.pipe()
        descriptors.keep(stdout)
        null = descriptors.keep(os.open("/dev/null", os.O_RDWR))
        made.fds = [null, stdout, null]
        in_memfd = mutate(source, made, descriptors)
        valid = made.valid(SPAWN, in_memfd)
        intact = made.fds[:3] == [null, stdout, null]
        send(job, made.put(), made.fds)
        leave(job)
    status = server.ended(pid, server.number)
    output = read(out)
    about = f"{made} ended with status {status} and printed {output[:1000]!r}"
    if crashed(status):
        raise Wrong(f"{about}\n{server.said()}")
    if not valid:
        tell("invalid runs")
        expect((status, output), (127 << 8, b""), about)
    elif intact:
        tell("valid runs")
        strings = (made.payload if in_memfd is None else in_memfd).split(b"\0")[:-1]
        environment = strings[len(strings) - made.fields["envc"] :]
        if any(entry[:1] in (b"", b"=") for entry in environment):
            # There is no variable without a name.
            return
        arguments = max(0, made.fields["argc"] - 1)
        expect((status, len(json.loads(output or b"[[]]")[0])), (arguments << 8, arguments), about)


def garbage_prepare(source, server):
    """To the fork server. Tells whether it is still there."""
    with Descriptors() as descriptors:
        server.number += 1
        near, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        made = Made(PREPARE, 1, 2, server.number)
        made.payload = source.choice([b"/", folder.encode(), b"/does/not/exist", b""]) + b"\0"
        made.fds = [descriptors.keep(ruleset()), far.fileno()]
        if source.random() < 0.2:
            made.limits = [source.choice([UNLIMITED, whole(source)]) for _ in range(8)]
        bounded = made.limits != ()
        in_memfd = mutate(source, made, descriptors)
        valid = made.valid(PREPARE, in_memfd)
        send(server.near, made.put(), made.fds)
        far.close()
    reply = server.reply()
    about = f"{made} was answered with {reply}\n{server.said()}"
    if not valid:
        tell("invalid preparations")
        expect(reply, None, about)
        near.close()
        return False
    tell("valid preparations")
    kind, pid, _, number = reply or (0, 0, 0, 0)
    expect((kind, number, pid > 1), (STARTED, server.number, True), about)
    near.close()
    status = server.ended(pid, server.number)
    if crashed(status) and not bounded:
        raise Wrong(f"{about} and ended with {status}")
    return True


def crowd(source, server):
    """One Prepare on the heels of the other, as when the reaper drops a process that waits."""
    with Descriptors() as descriptors:
        one, first_pid = server.prepare(descriptors)
        server.number += 1
        other, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        send(server.near, command(PREPARE, size=2, number=server.number) + b"/\0", [descriptors.keep(ruleset()), far.fileno()])
        far.close()
        one.close()
    expect(server.ended(first_pid, server.number - 1), 127 << 8, "the status of the first")
    kind, pid, _, number = server.reply() or (0, 0, 0, 0)
    expect((kind, number), (STARTED, server.number), "the answer to the second")
    other.close()
    expect(server.ended(pid, server.number), 127 << 8, "the status of the second")
    tell("crowds")


def abandon(source, server):
    """The fork server is gone while a process waits: that one waits on, and ends with its socket."""
    with Descriptors() as descriptors:
        job, pid = server.prepare(descriptors, folder)
        server.near.close()
        expect(server.process.wait(PATIENCE), 0, "the status of the fork server")
        packet, out = spawn(descriptors, ["run.py", "left"], [], False)
        if source.random() < 0.5:
            send(job, *packet)
        else:
            out = os.close(out)
        leave(job)
    if out is not None:
        expect(json.loads(read(out))[0], ["left"], "what the script saw")
    tell("abandoned")


def main():
    server = None
    for number in range(first, first + count):
        source = random.Random(f"{seed} {number}")
        try:
            server = server or ForkServer()
            kind = source.random()
            alive = True
            if kind < 0.8:
                garbage_spawn(source, server)
            elif kind < 0.93:
                alive = garbage_prepare(source, server)
            elif kind < 0.97:
                crowd(source, server)
            else:
                alive = abandon(source, server)
            if alive is not False and server.near.fileno() >= 0:
                if number % 8 == 0:
                    server.works()
                    server.reaps()
                expect(server.count(), server.descriptors, "its descriptors")
            else:
                server.end()
                server = None
        except Exception as error:
            what = f"{type(error).__name__}: {error}"
            print(f"seed {seed}, round {number}: {what}", file=sys.stderr)
            if server is not None:
                server.process.kill()
            return 1
    if server is not None:
        server.works()
        server.end()
    print(json.dumps(tally))
    return 0


try:
    status = main()
finally:
    os.remove(script)
    os.rmdir(folder)
sys.exit(status)
