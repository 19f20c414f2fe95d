"""Keeps more descriptors in flight than `limit`, then runs a program under that limit as the same user."""
import array, os, resource, socket, subprocess, sys

limit = int(sys.argv[1])
near, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
null = os.open("/dev/null", os.O_RDONLY)
for _ in range(2):
    near.sendmsg([b"x"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [null] * 250))])
lower = lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
sys.exit(subprocess.run(sys.argv[2:], preexec_fn=lower).returncode)
