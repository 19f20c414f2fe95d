"""Traces the processes whose numbers it reads, one in a line, and says so. Whoever waits for one that ends meanwhile goes on
waiting: its zombie is the tracer's, who waits for nobody."""
import ctypes, os, sys

PTRACE_SEIZE = 0x4206
libc = ctypes.CDLL(None, use_errno=True)
libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
for line in sys.stdin:
    if libc.ptrace(PTRACE_SEIZE, int(line), None, None) != 0:
        sys.exit(f"{line.strip()}: {os.strerror(ctypes.get_errno())}")
    print("traced", flush=True)
