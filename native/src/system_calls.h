// Which system calls a run may make: a seccomp filter that is built in normal context and installed between clone and
// exec. It needs no library and knows x86-64 and arm64. A process that calls the kernel as another architecture (int
// 0x80, a 32-bit program) is killed, because its numbers mean other things and no answer would help it; the numbers of
// x32 lie above all others and are answered as unknown ones are.
//
// By default everything is allowed but what reaches other processes, namespaces, mounts, the machine, kernel keys, or
// state that would outlive the run (System V IPC, POSIX message queues), and what no script needs while it was often
// the way through the kernel (bpf, userfaultfd, io_uring, perf). Such a filter is one layer of several: it cannot
// refuse what nobody thought of, and it sees numbers, never paths. With `allow_list` only what shells, coreutils,
// Python, Node, Perl, Ruby, git and curl call is left; what the default refuses is refused in the same way.
//
// A refused call fails and does not kill. ENOSYS answers where a program is to do as on a kernel without the call:
// clone3, whose flags no filter can see and which libcs then replace by clone, io_uring, IPC, what the allow list
// lacks, and each number above the highest known here, because nobody has judged it yet. EPERM answers where the
// kernel would refuse an ordinary user. A socket of a closed family fails with EAFNOSUPPORT, as on a kernel without
// that family, which resolvers and clients know how to take. With `plain_modes` a mode with set-user-ID or set-group-ID is refused
// with EPERM, and openat2, whose modes no filter can see, with ENOSYS.
//
// The program is a binary search over ranges of numbers, about ten steps to any verdict. Since Linux 5.11 the kernel
// finds out at installation which numbers are allowed whatever their arguments, and does not run it for these.
#ifndef SKILLSCALE_SYSTEM_CALLS_H_
#define SKILLSCALE_SYSTEM_CALLS_H_

#include <linux/filter.h>
#include <stddef.h>
#include <stdint.h>

#include <span>

namespace skillscale {

enum class Sockets : uint8_t {
  // Only pairs of connected streams: a datagram pair could still send to any named socket.
  kNone,
  // AF_UNIX; which of them can be reached is up to the mount namespace and Landlock.
  kUnix,
  // AF_UNIX, TCP and UDP over IPv4 and IPv6, and route netlink, which getaddrinfo needs. How far they lead is up to the
  // network namespace: to a loopback of its own, or wherever the run may go.
  kLocal,
};

struct SystemCallPolicy {
  bool allow_list = false;
  Sockets sockets = Sockets::kUnix;
  // Files and folders are made, and get, no modes set-user-ID or set-group-ID.
  bool plain_modes = false;
};

class SystemCallFilter {
 public:
  // Returns false when the program does not fit; Install then fails with EINVAL.
  bool Build(const SystemCallPolicy& policy);

  // Binds the calling thread and all that it starts from now on, for good. Async-signal-safe. Needs no_new_privs.
  // Returns 0 or an errno.
  int Install() const;

  std::span<const sock_filter> program() const { return {instructions_ + first_, kCapacity - first_}; }

 private:
  // A conditional jump reaches 255 instructions, so within this size none is ever too far.
  static constexpr size_t kCapacity = 256;

  size_t first_ = kCapacity;
  sock_filter instructions_[kCapacity] = {};
};

// Returns 0 when this kernel takes such filters, or an errno.
int SystemCallFilterSupport();

}  // namespace skillscale

#endif  // SKILLSCALE_SYSTEM_CALLS_H_
