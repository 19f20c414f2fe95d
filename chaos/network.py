"""Hosts and links between them, in namespaces of this process's own: the network of the machine stays as it is.

`hold` makes them as it is told, one JSON array a line, and answers each with one line; they are gone when its input ends and
nobody runs in them any more. `enter` runs a command on one of them, which is killed when the one who started it ends.

A link is a pair of veth with one address on each side of it, so that between two hosts there is nothing that could answer for
one of them. A cut is a queue at one end that drops everything and says that it was sent (blackhole, which every kernel with
traffic control has): the sender hears no error, the other end sees no link go down. The other direction is another cut.
"""

import ctypes
import json
import os
import signal
import socket
import struct
import sys

CLONE_NEWUSER, CLONE_NEWNET = 0x10000000, 0x40000000
PR_SET_PDEATHSIG = 1
NLM_F_REQUEST, NLM_F_ACK, NLM_F_EXCL, NLM_F_CREATE = 0x1, 0x4, 0x200, 0x400
RTM_NEWLINK, RTM_NEWADDR, RTM_NEWROUTE, RTM_NEWQDISC, RTM_DELQDISC = 16, 20, 24, 36, 37
IFLA_ADDRESS, IFLA_IFNAME, IFLA_LINKINFO, IFLA_NET_NS_FD = 1, 3, 18, 28
IFLA_INFO_KIND, IFLA_INFO_DATA, VETH_INFO_PEER = 1, 2, 1
IFA_ADDRESS, IFA_LOCAL, RTA_DST, RTA_OIF, RTA_PREFSRC, TCA_KIND = 1, 2, 1, 4, 7, 1
IFF_UP, IFF_NOARP = 0x1, 0x80
RT_TABLE_MAIN, RTPROT_STATIC, RT_SCOPE_LINK, RTN_UNICAST = 254, 4, 253, 1
TC_H_ROOT = 0xFFFFFFFF
LOOPBACK = 1

libc = ctypes.CDLL(None, use_errno=True)


def call(name, *args):
    if getattr(libc, name)(*args) < 0:
        code = ctypes.get_errno()
        raise OSError(code, f"{name}: {os.strerror(code)}")


def attribute(kind, data):
    return struct.pack("=HH", 4 + len(data), kind) + data + bytes(-len(data) % 4)


def address(host):
    """Of the range that is kept for tests of networks (RFC 2544)."""
    return socket.inet_aton(f"198.18.{host >> 8}.{host & 255}")


def index(other):
    """The number of the interface of a link, on each side named for the other host."""
    return 1000 + other


class Host:
    def __init__(self, number):
        call("unshare", CLONE_NEWNET)
        self.number = number
        self.namespace = os.open("/proc/self/ns/net", os.O_RDONLY)
        # A socket stays in the namespace that it was made in.
        self.netlink = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)
        self.ask(RTM_NEWLINK, 0, struct.pack("=BxHiII", 0, 0, LOOPBACK, IFF_UP, IFF_UP))
        own = address(number)
        head = struct.pack("=BBBBI", socket.AF_INET, 32, 0, 0, LOOPBACK)
        self.ask(RTM_NEWADDR, NLM_F_CREATE | NLM_F_EXCL, head + attribute(IFA_LOCAL, own) + attribute(IFA_ADDRESS, own))

    def ask(self, kind, flags, body):
        head = struct.pack("=IHHII", 16 + len(body), kind, NLM_F_REQUEST | NLM_F_ACK | flags, 0, 0)
        self.netlink.send(head + body)
        (code,) = struct.unpack_from("=i", self.netlink.recv(65536), 16)
        if code != 0:
            raise OSError(-code, f"netlink message {kind}: {os.strerror(-code)}")

    def link(self, other):
        # Both ends have the same address, so that none asks for the other's: what is asked for could be missed.
        same = attribute(IFLA_ADDRESS, struct.pack(">BBHH", 2, 0, *sorted((self.number, other.number))))

        def end(at, to):
            name = attribute(IFLA_IFNAME, f"to{to.number}".encode() + b"\0")
            return struct.pack("=BxHiII", 0, 0, index(to.number), 0, 0) + name + same

        peer = end(other, self) + attribute(IFLA_NET_NS_FD, struct.pack("=I", other.namespace))
        kind = attribute(IFLA_INFO_KIND, b"veth") + attribute(IFLA_INFO_DATA, attribute(VETH_INFO_PEER, peer))
        self.ask(RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, end(self, other) + attribute(IFLA_LINKINFO, kind))
        for host, to in ((self, other), (other, self)):
            up = IFF_UP | IFF_NOARP
            host.ask(RTM_NEWLINK, 0, struct.pack("=BxHiII", 0, 0, index(to.number), up, up))
        for host, to in ((self, other), (other, self)):
            head = struct.pack(
                "=BBBBBBBBI", socket.AF_INET, 32, 0, 0, RT_TABLE_MAIN, RTPROT_STATIC, RT_SCOPE_LINK, RTN_UNICAST, 0
            )
            way = attribute(RTA_DST, address(to.number)) + attribute(RTA_OIF, struct.pack("=I", index(to.number)))
            host.ask(RTM_NEWROUTE, NLM_F_CREATE | NLM_F_EXCL, head + way + attribute(RTA_PREFSRC, address(host.number)))

    def cut(self, other):
        body = struct.pack("=BBHiIII", 0, 0, 0, index(other.number), 0, TC_H_ROOT, 0) + attribute(TCA_KIND, b"blackhole\0")
        self.ask(RTM_NEWQDISC, NLM_F_CREATE | NLM_F_EXCL, body)

    def mend(self, other):
        self.ask(RTM_DELQDISC, 0, struct.pack("=BBHiIII", 0, 0, 0, index(other.number), 0, TC_H_ROOT, 0))


def own_namespaces():
    """Leaves the machine's network, and becomes able to make others: as root at once, else in a user namespace."""
    try:
        call("unshare", CLONE_NEWNET)
    except PermissionError:
        user, group = os.geteuid(), os.getegid()
        call("unshare", CLONE_NEWUSER | CLONE_NEWNET)
        for name, text in (("setgroups", "deny"), ("uid_map", f"{user} {user} 1"), ("gid_map", f"{group} {group} 1")):
            with open(f"/proc/self/{name}", "w") as file:
                file.write(text)


def hold():
    # Ctrl-C is for the one who started this, and who has to do something before.
    for ignored in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(ignored, signal.SIG_IGN)
    hosts = []

    def host():
        made = Host(len(hosts) + 1)
        hosts.append(made)
        return {"number": made.number, "address": socket.inet_ntoa(address(made.number)), "namespace": made.namespace}

    def between(work):
        return lambda one, other: work(hosts[one - 1], hosts[other - 1])

    work = {"host": host, "link": between(Host.link), "cut": between(Host.cut), "mend": between(Host.mend)}

    def answer(value):
        print(json.dumps(value), flush=True)

    try:
        own_namespaces()
        # Each thing once, so that what is refused is refused now.
        host(), host()
        for name in ("link", "cut", "mend"):
            work[name](1, 2)
        answer({"done": {"pid": os.getpid(), "python": sys.executable}})
    except OSError as error:
        answer({"failed": error.strerror})
        return
    for line in sys.stdin:
        name, *args = json.loads(line)
        try:
            answer({"done": work[name](*args)})
        except OSError as error:
            answer({"failed": f"{name} {args}: {error.strerror}"})


def enter(starter, holder, namespace, *command):
    own, theirs = (os.open(f"/proc/{who}/ns/user", os.O_RDONLY) for who in ("self", holder))
    network = os.open(f"/proc/{holder}/fd/{namespace}", os.O_RDONLY)
    if not os.path.sameopenfile(own, theirs):
        call("setns", theirs, CLONE_NEWUSER)
    call("setns", network, CLONE_NEWNET)
    call("prctl", PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() == int(starter):
        os.execvp(command[0], command)


if __name__ == "__main__":
    {"hold": hold, "enter": enter}[sys.argv[1]](*sys.argv[2:])
