/** Programs that must work below the system call filter, by default and with the allow list. */

export interface Program {
  readonly name: string
  readonly sockets: "none" | "unix" | "local"
  readonly isOptional: boolean
  readonly argv: ReadonlyArray<string>
}

const shell = `set -e
x=$(printf 'b\\na\\n' | sort | head -n 1); test "$x" = a
diff <(echo 1) <(echo 1)
mkdir -p tree/deep; echo z > tree/deep/file; ln -s deep/file tree/link; ln -f tree/deep/file tree/hard
cp -a tree copy; mv copy moved; touch -d yesterday moved/hard; chmod 600 moved/hard; truncate -s 10 moved/hard
tar cf tree.tar tree; tar tf tree.tar > list; find tree -type f | xargs cat | sed s/z/y/ | grep -q y
{ ls -lR .; du -s .; df .; stat tree; date; id; nproc; dd if=/dev/zero of=zeros bs=1k count=4; } > list 2>&1
mkfifo pipe; (echo w > pipe &); test "$(cat pipe)" = w
ulimit -n 64; trap : USR1; kill -USR1 $$; sleep 0.01 & wait; timeout 5 nice -n 1 env true
rm -rf tree moved tree.tar zeros pipe list`

const git = `set -e
git init -q one; cd one; echo a > a; git add a
git -c user.name=a -c user.email=a@b commit -q -m first; git gc -q; git status --porcelain
git log --oneline > ../log; git clone -q . ../two; git -C ../two fetch -q; cd ..; rm -rf one two log`

const perl = `use strict; use File::Temp; use POSIX; use Time::HiRes;
my $pid = open(my $pipe, "-|", "echo x") or die; <$pipe> eq "x\\n" or die; close $pipe;
system("true") == 0 or die; my $child = fork() // die; exit 0 if !$child; waitpid($child, 0) == $child or die;
my $file = File::Temp->new; print $file "x"; Time::HiRes::sleep(0.001);`

const ruby = `require "open3"; require "tempfile"; require "socket"
raise unless Open3.capture2("cat", stdin_data: "x")[0] == "x"
Thread.new { sleep 0.001 }.join; Process.wait(fork { exit! }); UNIXSocket.pair
Tempfile.create("x") { |file| file.write("x") }`

const python = `import asyncio, concurrent.futures, ctypes, multiprocessing, os, select, signal, socket, sqlite3, ssl
import subprocess, tempfile, threading, time, zlib
def square(x): return x * x
threads = [threading.Thread(target=time.sleep, args=(0.001,)) for _ in range(4)]
for thread in threads: thread.start()
for thread in threads: thread.join()
assert subprocess.run(["echo", "x"], capture_output=True).stdout == b"x\\n"
assert subprocess.check_output("echo y", shell=True, start_new_session=True) == b"y\\n"
with multiprocessing.get_context("fork").Pool(2) as pool: assert pool.map(square, [1, 2]) == [1, 4]
with concurrent.futures.ThreadPoolExecutor(2) as pool: assert list(pool.map(square, [3])) == [9]
async def talk():
    process = await asyncio.create_subprocess_exec("cat", stdin=-1, stdout=-1)
    assert (await process.communicate(b"z"))[0] == b"z"
asyncio.run(talk())
with tempfile.TemporaryDirectory() as folder:
    sqlite3.connect(os.path.join(folder, "base")).execute("create table t (a)")
a, b = socket.socketpair(); a.send(b"x"); assert b.recv(1) == b"x"
poll = select.epoll(); poll.register(a)
signal.setitimer(signal.ITIMER_REAL, 30); ssl.create_default_context(); zlib.compress(b"x"); ctypes.CDLL(None)
assert ctypes.CFUNCTYPE(ctypes.c_int)(lambda: 3)() == 3
try: import numpy
except ImportError: numpy = None
assert numpy is None or (numpy.ones((64, 64)) @ numpy.ones((64, 64)))[0, 0] == 64`

const pythonServer = `import http.server, socket, subprocess, threading, urllib.request
server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), http.server.SimpleHTTPRequestHandler)
threading.Thread(target=server.serve_forever, daemon=True).start()
url = "http://127.0.0.1:%d/" % server.server_port
assert urllib.request.build_opener(urllib.request.ProxyHandler({})).open(url).status == 200
socket.getaddrinfo("localhost", 80)
try: subprocess.run(["curl", "-sS", "--noproxy", "*", "-o", "/dev/null", url], check=True)
except FileNotFoundError: pass`

const node = `const fs = require("fs"), { execFileSync, spawnSync } = require("child_process")
const check = (holds) => { if (!holds) throw new Error("failed") }
const work = async () => {
  check(execFileSync("echo", ["x"]).toString() === "x\\n")
  check(spawnSync("sh", ["-c", "exit 3"]).status === 3)
  const watcher = fs.watch(".")
  await fs.promises.writeFile("file.txt", "x".repeat(100000))
  await fs.promises.cp("file.txt", "copy.txt")
  check((await fs.promises.readFile("copy.txt")).length === 100000)
  await Promise.all(["file.txt", "copy.txt"].map((file) => fs.promises.rm(file)))
  await new Promise((done) => require("crypto").scrypt("a", "b", 16, done))
  await new Promise((done) => require("zlib").gzip("a", done))
  const code = "require('worker_threads').parentPort.postMessage(1)"
  await new Promise((done) => new (require("worker_threads").Worker)(code, { eval: true }).on("message", done))
  await new Promise((done) => require("net").createServer().listen("node.sock", function() { this.close(done) }))
  watcher.close()
}
work().catch((error) => { console.error(error); process.exit(1) })`

const nodeServer = `require("os").networkInterfaces()
const server = require("http").createServer((_, answer) => answer.end("x")).listen(0, "127.0.0.1", async () => {
  const answer = await fetch("http://127.0.0.1:" + server.address().port)
  if (await answer.text() !== "x") process.exit(1)
  require("dns").lookup("localhost", (error) => process.exit(error ? 1 : 0))
})`

const program = (name: string, sockets: Program["sockets"], ...argv: ReadonlyArray<string>): Program => ({
  name,
  sockets,
  isOptional: false,
  argv
})

export const programs: ReadonlyArray<Program> = [
  program("bash and coreutils", "none", "/bin/bash", "-c", shell),
  program("git --version", "none", "git", "--version"),
  program("git", "unix", "/bin/sh", "-c", git),
  program("perl", "none", "perl", "-e", perl),
  { ...program("ruby", "none", "ruby", "-e", ruby), isOptional: true },
  program("python", "unix", "python3", "-c", python),
  program("python over TCP", "local", "python3", "-c", pythonServer),
  program("node", "unix", process.execPath, "-e", node),
  program("node over TCP", "local", process.execPath, "-e", nodeServer),
  { ...program("curl", "unix", "curl", "-sS", "-o", "/dev/null", "file:///etc/passwd"), isOptional: true }
]
