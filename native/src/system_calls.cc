// See system_calls.h. Every number gets a verdict first; runs of equal verdicts then become the leaves of the search.
#include "system_calls.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/netlink.h>
#include <linux/prctl.h>
#include <linux/sched.h>
#include <linux/seccomp.h>
#include <netinet/in.h>
#include <sys/ioctl.h>
#include <sys/personality.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <initializer_list>

namespace skillscale {
namespace {

#if defined(__x86_64__) && !defined(__ILP32__)
constexpr uint32_t kArchitecture = AUDIT_ARCH_X86_64;
#elif defined(__aarch64__) && !defined(__ILP32__) && !defined(__AARCH64EB__)
constexpr uint32_t kArchitecture = AUDIT_ARCH_AARCH64;
#else
#error "system_calls.cc knows the system calls of x86-64 and arm64 only"
#endif

// Numbers that the headers of Linux 5.10 lack. From 424 on they are the same on all architectures.
enum : uint16_t {
  kEpollPwait2 = 441,
  kMountSetattr = 442,
  kQuotactlFd = 443,
  kLandlockCreateRuleset = 444,
  kLandlockAddRule = 445,
  kLandlockRestrictSelf = 446,
  kMemfdSecret = 447,
  kProcessMrelease = 448,
  kFutexWaitv = 449,
  kSetMempolicyHomeNode = 450,
  kFchmodat2 = 452,
  kMapShadowStack = 453,
  kFutexWake = 454,
  kFutexWait = 455,
  kFutexRequeue = 456,
  kMseal = 462,
  kSetxattrat = 463,
  kGetxattrat = 464,
  kListxattrat = 465,
  kRemovexattrat = 466,
  kOpenTreeAttr = 467,
  kFileSetattr = 469,  // The highest of Linux 6.18.
};
constexpr size_t kNumbers = kFileSetattr + 1;

struct Range {
  uint16_t first;
  uint16_t last;
};

// Numbers between known ones that no kernel has given away yet.
constexpr Range kUnassigned[] = {
#ifdef __x86_64__
    {337, 423},
#else
    {244, 259},
    {295, 423},
#endif
};

constexpr uint16_t kRefusedCalls[] = {
    // Other processes.
    __NR_ptrace, __NR_process_vm_readv, __NR_process_vm_writev, __NR_process_madvise, kProcessMrelease, __NR_kcmp,
    __NR_pidfd_getfd,
    // Namespaces and mounts. A file handle opens what no path leads to.
    __NR_setns, __NR_mount, __NR_umount2, __NR_pivot_root, __NR_chroot, __NR_open_tree, kOpenTreeAttr, __NR_move_mount,
    __NR_fsopen, __NR_fsconfig, __NR_fsmount, __NR_fspick, kMountSetattr, __NR_name_to_handle_at,
    __NR_open_by_handle_at, __NR_fanotify_init, __NR_fanotify_mark,
    // The machine.
    __NR_swapon, __NR_swapoff, __NR_reboot, __NR_kexec_load, __NR_kexec_file_load, __NR_init_module,
    __NR_finit_module, __NR_delete_module, __NR_acct, __NR_quotactl, kQuotactlFd, __NR_settimeofday,
    __NR_clock_settime, __NR_clock_adjtime, __NR_adjtimex, __NR_sethostname, __NR_setdomainname, __NR_syslog,
    __NR_vhangup,
    // Where memory lies; move_pages also tells which pages are shared.
    __NR_set_mempolicy, kSetMempolicyHomeNode, __NR_move_pages, __NR_migrate_pages,
    // Keys outlive the run. The next three are where many holes of the kernel were.
    __NR_add_key, __NR_request_key, __NR_keyctl, __NR_bpf, __NR_perf_event_open, __NR_userfaultfd,
#ifdef __x86_64__
    __NR_iopl, __NR_ioperm, __NR_modify_ldt,
#endif
};

constexpr uint16_t kAbsentCalls[] = {
    __NR_clone3, __NR_io_uring_setup, __NR_io_uring_enter, __NR_io_uring_register, __NR_vmsplice, kMemfdSecret,
    // State that outlives the run.
    __NR_shmget, __NR_shmat, __NR_shmctl, __NR_shmdt, __NR_semget, __NR_semop, __NR_semtimedop, __NR_semctl,
    __NR_msgget, __NR_msgsnd, __NR_msgrcv, __NR_msgctl, __NR_mq_open, __NR_mq_unlink, __NR_mq_timedsend,
    __NR_mq_timedreceive, __NR_mq_notify, __NR_mq_getsetattr,
    // Memory that is nobody's while nobody maps it; programs take a file in its place.
    __NR_memfd_create,
    // Gone from newer kernels.
    __NR_nfsservctl, __NR_lookup_dcookie,
#ifdef __x86_64__
    __NR_uselib, __NR_sysfs, __NR__sysctl,
#endif
};

// What is left with an allow list, beside the calls whose arguments are looked at.
constexpr uint16_t kListedCalls[] = {
    // Files.
    __NR_read, __NR_write, __NR_pread64, __NR_pwrite64, __NR_readv, __NR_writev, __NR_preadv, __NR_pwritev,
    __NR_preadv2, __NR_pwritev2, __NR_openat, __NR_openat2, __NR_close, __NR_close_range, __NR_lseek, __NR_fstat,
    __NR_newfstatat, __NR_statx, __NR_statfs, __NR_fstatfs, __NR_getdents64, __NR_readlinkat, __NR_faccessat,
    __NR_faccessat2, __NR_mkdirat, __NR_mknodat, __NR_unlinkat, __NR_symlinkat, __NR_linkat, __NR_renameat,
    __NR_renameat2, __NR_fchmod, __NR_fchmodat, kFchmodat2, __NR_fchown, __NR_fchownat, __NR_utimensat, __NR_truncate,
    __NR_ftruncate, __NR_fallocate, __NR_fadvise64, __NR_readahead, __NR_fsync, __NR_fdatasync, __NR_sync,
    __NR_syncfs, __NR_sync_file_range, __NR_flock, __NR_fcntl, __NR_dup, __NR_dup3, __NR_pipe2, __NR_sendfile,
    __NR_splice, __NR_tee, __NR_copy_file_range, __NR_getcwd, __NR_chdir, __NR_fchdir, __NR_umask, __NR_setxattr,
    __NR_lsetxattr, __NR_fsetxattr, kSetxattrat, __NR_getxattr, __NR_lgetxattr, __NR_fgetxattr, kGetxattrat,
    __NR_listxattr, __NR_llistxattr, __NR_flistxattr, kListxattrat, __NR_removexattr, __NR_lremovexattr,
    __NR_fremovexattr, kRemovexattrat, __NR_inotify_init1, __NR_inotify_add_watch, __NR_inotify_rm_watch,
    // Memory.
    __NR_brk, __NR_mmap, __NR_munmap, __NR_mremap, __NR_mprotect, __NR_msync, __NR_mincore, __NR_madvise, __NR_mlock,
    __NR_mlock2, __NR_munlock, __NR_mlockall, __NR_munlockall, __NR_pkey_mprotect, __NR_pkey_alloc,
    __NR_pkey_free, __NR_mbind, __NR_membarrier, kMapShadowStack, kMseal,
    // Processes and threads.
    __NR_execve, __NR_execveat, __NR_exit, __NR_exit_group, __NR_wait4, __NR_waitid, __NR_set_tid_address,
    __NR_set_robust_list, __NR_get_robust_list, __NR_rseq, __NR_futex, kFutexWaitv, kFutexWake, kFutexWait,
    kFutexRequeue, __NR_pidfd_open, __NR_pidfd_send_signal, __NR_getpid, __NR_getppid, __NR_gettid, __NR_getpgid,
    __NR_setpgid, __NR_getsid, __NR_setsid, __NR_getuid, __NR_geteuid, __NR_getgid, __NR_getegid, __NR_getresuid,
    __NR_getresgid, __NR_getgroups, __NR_setuid, __NR_setgid, __NR_setreuid, __NR_setregid, __NR_setresuid,
    __NR_setresgid, __NR_capget, __NR_getrlimit, __NR_setrlimit, __NR_prlimit64, __NR_getrusage, __NR_times,
    __NR_getpriority, __NR_setpriority, __NR_sched_yield, __NR_sched_getaffinity, __NR_sched_setaffinity,
    __NR_sched_getparam, __NR_sched_setparam, __NR_sched_getscheduler, __NR_sched_setscheduler, __NR_sched_getattr,
    __NR_sched_setattr, __NR_sched_get_priority_max, __NR_sched_get_priority_min, __NR_sched_rr_get_interval,
    __NR_getcpu, __NR_uname, __NR_sysinfo, __NR_getrandom, kLandlockCreateRuleset, kLandlockAddRule,
    kLandlockRestrictSelf,
    // Signals.
    __NR_rt_sigaction, __NR_rt_sigprocmask, __NR_rt_sigreturn, __NR_rt_sigpending, __NR_rt_sigsuspend,
    __NR_rt_sigtimedwait, __NR_rt_sigqueueinfo, __NR_rt_tgsigqueueinfo, __NR_sigaltstack, __NR_kill, __NR_tkill,
    __NR_tgkill, __NR_restart_syscall,
    // Time and waiting.
    __NR_clock_gettime, __NR_clock_getres, __NR_clock_nanosleep, __NR_gettimeofday, __NR_nanosleep, __NR_getitimer,
    __NR_setitimer, __NR_timer_create, __NR_timer_settime, __NR_timer_gettime, __NR_timer_getoverrun,
    __NR_timer_delete, __NR_timerfd_create, __NR_timerfd_settime, __NR_timerfd_gettime, __NR_eventfd2,
    __NR_signalfd4, __NR_pselect6, __NR_ppoll, __NR_epoll_create1, __NR_epoll_ctl, __NR_epoll_pwait, kEpollPwait2,
    // Sockets that there are.
    __NR_connect, __NR_bind, __NR_listen, __NR_accept, __NR_accept4, __NR_getsockname, __NR_getpeername,
    __NR_getsockopt, __NR_setsockopt, __NR_shutdown, __NR_sendto, __NR_recvfrom, __NR_sendmsg, __NR_recvmsg,
    __NR_sendmmsg, __NR_recvmmsg,
#ifdef __x86_64__
    __NR_open, __NR_creat, __NR_stat, __NR_lstat, __NR_access, __NR_getdents, __NR_readlink, __NR_mkdir, __NR_rmdir,
    __NR_mknod, __NR_link, __NR_unlink, __NR_symlink, __NR_rename, __NR_chmod, __NR_chown, __NR_lchown, __NR_utime,
    __NR_utimes, __NR_futimesat, __NR_dup2, __NR_pipe, __NR_inotify_init, __NR_fork, __NR_vfork, __NR_getpgrp,
    __NR_arch_prctl, __NR_time, __NR_alarm, __NR_pause, __NR_eventfd, __NR_signalfd, __NR_select, __NR_poll,
    __NR_epoll_create, __NR_epoll_wait,
    // uretprobe and uprobe, which code calls that is traced from outside.
    335, 336,
#endif
};

// What changes how another process runs.
constexpr uint16_t kOnOthers[] = {__NR_sched_setaffinity, __NR_sched_setscheduler, __NR_sched_setparam, __NR_sched_setattr};

// From linux/ioprio.h, which older headers lack.
constexpr uint32_t kIoprioWhoProcess = 1;

enum Verdict : uint8_t {
  kAllowed,
  kRefused,
  kAbsent,
  kClone,
  kUnshare,
  kIoctl,
  kPrctl,
  kPersonality,
  kSeccomp,
  kSocket,
  kSocketpair,
  kOfOthers,
  kOfOthersByKind,
  kLimits,
  // Their second or third argument is a mode; or it is one when the one before says that a file is made.
  kSecondMode,
  kThirdMode,
  kThirdModeOfNew,
  kFourthModeOfNew,
  kVerdicts
};

// Not CLONE_NEWTIME, whose bit is one of the signal's here: only clone3 and unshare take it.
constexpr uint32_t kNewNamespaces =
    CLONE_NEWNS | CLONE_NEWCGROUP | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWUSER | CLONE_NEWPID | CLONE_NEWNET;
// A child whose parent is that of the run: the reaper or a fork server, which wait for those that they made.
constexpr uint32_t kRefusedClones = kNewNamespaces | CLONE_PARENT;
// All that unshare may take; new flags are refused as well.
constexpr uint32_t kOwnParts = CLONE_FS | CLONE_FILES | CLONE_SYSVSEM | CLONE_VM | CLONE_SIGHAND | CLONE_THREAD;
constexpr uint32_t kSocketTypes = 0xf;
// O_TMPFILE without O_DIRECTORY, which is a part of it.
constexpr uint32_t kTemporaryFile = 020000000;

class Verdicts {
 public:
  explicit Verdicts(const SystemCallPolicy& policy) {
    Fill({0, kNumbers - 1}, policy.allow_list ? kAbsent : kAllowed);
    if (policy.allow_list) Set(kListedCalls, kAllowed);
    for (const Range& range : kUnassigned) Fill(range, kAbsent);
    Set(kRefusedCalls, kRefused);
    Set(kAbsentCalls, kAbsent);
    of_[__NR_clone] = kClone;
    of_[__NR_unshare] = kUnshare;
    of_[__NR_ioctl] = kIoctl;
    of_[__NR_prctl] = kPrctl;
    of_[__NR_personality] = kPersonality;
    of_[__NR_seccomp] = kSeccomp;
    of_[__NR_socket] = kSocket;
    of_[__NR_socketpair] = kSocketpair;
    for (const uint16_t number : kOnOthers) of_[number] = kOfOthers;
    of_[__NR_setpriority] = of_[__NR_ioprio_set] = kOfOthersByKind;
    of_[__NR_prlimit64] = kLimits;
    if (policy.plain_modes) SetModes();
  }

  bool plain_modes() const { return of_[__NR_fchmod] == kSecondMode; }

  // Above the highest number everything is as at kNumbers.
  Verdict operator[](size_t number) const { return number < kNumbers ? of_[number] : kAbsent; }

 private:
  void SetModes() {
    of_[__NR_openat2] = kAbsent;
    of_[__NR_fchmod] = kSecondMode;
    of_[__NR_fchmodat] = of_[kFchmodat2] = of_[__NR_mkdirat] = of_[__NR_mknodat] = kThirdMode;
    of_[__NR_openat] = kFourthModeOfNew;
#ifdef __x86_64__
    of_[__NR_chmod] = of_[__NR_creat] = of_[__NR_mkdir] = of_[__NR_mknod] = kSecondMode;
    of_[__NR_open] = kThirdModeOfNew;
#endif
  }

  void Fill(Range range, Verdict verdict) {
    for (size_t number = range.first; number <= range.last; number++) of_[number] = verdict;
  }

  template <size_t kSize>
  void Set(const uint16_t (&numbers)[kSize], Verdict verdict) {
    for (const uint16_t number : numbers) of_[number] = verdict;
  }

  Verdict of_[kNumbers];
};

// Writes a program from its end to its beginning. Classic BPF jumps forward only, so what a jump leads to is always
// there already.
class Assembler {
 public:
  using Label = size_t;

  Assembler(sock_filter* instructions, size_t size) : instructions_(instructions), first_(size) {}

  size_t first() const { return first_; }
  bool fits() const { return fits_; }

  Label Return(uint32_t value) { return Place({BPF_RET | BPF_K, 0, 0, value}); }
  Label Fail(int error) { return Return(SECCOMP_RET_ERRNO | static_cast<uint32_t>(error)); }

  // These two go on with what was placed last.
  Label Load(size_t offset) { return Place({BPF_LD | BPF_W | BPF_ABS, 0, 0, static_cast<uint32_t>(offset)}); }
  Label Mask(uint32_t bits) { return Place({BPF_ALU | BPF_AND | BPF_K, 0, 0, bits}); }

  // All arguments looked at but pointers are 32 bits wide in the kernel, which ignores the upper half as well.
  Label LoadArgument(size_t index) { return Load(offsetof(seccomp_data, args) + index * sizeof(uint64_t)); }

  // The upper half of a pointer.
  Label LoadHigh(size_t index) { return Load(offsetof(seccomp_data, args) + index * sizeof(uint64_t) + sizeof(uint32_t)); }

  Label IfAnyBit(uint32_t bits, Label yes, Label no) { return Jump(BPF_JSET, bits, yes, no); }
  Label IfAtLeast(uint32_t value, Label yes, Label no) { return Jump(BPF_JGE, value, yes, no); }
  Label IfOneOf(std::initializer_list<uint32_t> values, Label yes, Label no) {
    for (const uint32_t value : values) no = Jump(BPF_JEQ, value, yes, no);
    return no;
  }

 private:
  Label Place(const sock_filter& instruction) {
    if (first_ == 0) {
      fits_ = false;
    } else {
      instructions_[--first_] = instruction;
    }
    return first_;
  }

  Label Jump(uint16_t test, uint32_t value, Label yes, Label no) {
    if (std::max(yes, no) - first_ > UINT8_MAX) fits_ = false;
    const auto offset = [this](Label target) { return static_cast<uint8_t>(target - first_); };
    return Place({static_cast<uint16_t>(BPF_JMP | test | BPF_K), offset(yes), offset(no), value});
  }

  sock_filter* instructions_;
  size_t first_;
  bool fits_ = true;
};

using Label = Assembler::Label;

struct Run {
  uint32_t first;
  Label label;
};

Label Search(Assembler& code, std::span<const Run> runs) {
  if (runs.size() == 1) return runs[0].label;
  const size_t middle = runs.size() / 2;
  const Label above = Search(code, runs.subspan(middle));
  const Label below = Search(code, runs.first(middle));
  return code.IfAtLeast(runs[middle].first, above, below);
}

class Compiler {
 public:
  Compiler(Assembler& code, Sockets sockets)
      : code_(code),
        sockets_(sockets),
        allow_(code.Return(SECCOMP_RET_ALLOW)),
        refuse_(code.Fail(EPERM)),
        no_family_(code.Fail(EAFNOSUPPORT)) {}

  void Compile(const Verdicts& verdicts) {
    Label labels[kVerdicts];
    labels[kAllowed] = allow_;
    labels[kRefused] = refuse_;
    labels[kAbsent] = code_.Fail(ENOSYS);
    labels[kClone] = Clone();
    labels[kUnshare] = Unshare();
    labels[kIoctl] = Ioctl();
    labels[kPrctl] = Prctl();
    labels[kPersonality] = Personality();
    labels[kSeccomp] = Seccomp();
    labels[kSocket] = Socket();
    labels[kSocketpair] = Socketpair();
    labels[kOfOthers] = OfOthers(0);
    labels[kOfOthersByKind] = OfOthersByKind();
    labels[kLimits] = Limits();
    labels[kSecondMode] = labels[kThirdMode] = labels[kThirdModeOfNew] = labels[kFourthModeOfNew] = allow_;
    if (verdicts.plain_modes()) {
      labels[kSecondMode] = Mode(1);
      labels[kThirdMode] = Mode(2);
      labels[kThirdModeOfNew] = ModeOfNew(1);
      labels[kFourthModeOfNew] = ModeOfNew(2);
    }

    Run runs[kNumbers + 1];
    size_t count = 0;
    for (uint32_t number = 0; number <= kNumbers; number++) {
      if (number > 0 && verdicts[number] == verdicts[number - 1]) continue;
      runs[count++] = {number, labels[verdicts[number]]};
    }
    const Label kill = code_.Return(SECCOMP_RET_KILL_PROCESS);
    Search(code_, {runs, count});
    const Label native = code_.Load(offsetof(seccomp_data, nr));
    code_.IfOneOf({kArchitecture}, native, kill);
    code_.Load(offsetof(seccomp_data, arch));
  }

 private:
  Label Clone() {
    code_.IfAnyBit(kRefusedClones, refuse_, allow_);
    return code_.LoadArgument(0);
  }

  Label Mode(size_t argument) {
    code_.IfAnyBit(S_ISUID | S_ISGID, refuse_, allow_);
    return code_.LoadArgument(argument);
  }

  // Of what is only opened the mode has no meaning, and may be anything.
  Label ModeOfNew(size_t flags) {
    const Label mode = Mode(flags + 1);
    code_.IfAnyBit(O_CREAT | kTemporaryFile, mode, allow_);
    return code_.LoadArgument(flags);
  }

  Label Unshare() {
    code_.IfAnyBit(~kOwnParts, refuse_, allow_);
    return code_.LoadArgument(0);
  }

  // Typing into a terminal, its console, and its line disciplines, whose modules are loaded on demand.
  Label Ioctl() {
    code_.IfOneOf({TIOCSTI, TIOCLINUX, TIOCSETD}, refuse_, allow_);
    return code_.LoadArgument(1);
  }

  // PR_SET_MM rewrites what /proc says about a process.
  Label Prctl() {
    code_.IfOneOf({PR_SET_MM}, refuse_, allow_);
    return code_.LoadArgument(0);
  }

  // The default, what `setarch -R` sets, and the question; others undo protections of memory.
  Label Personality() {
    code_.IfOneOf({PER_LINUX, ADDR_NO_RANDOMIZE, 0xffffffff}, allow_, refuse_);
    return code_.LoadArgument(0);
  }

  // A filter that asks a process of the run; without one it can only take more away.
  Label Seccomp() {
    code_.IfAnyBit(SECCOMP_FILTER_FLAG_NEW_LISTENER, refuse_, allow_);
    return code_.LoadArgument(1);
  }

  Label Socket() {
    if (sockets_ == Sockets::kNone) return no_family_;
    Label others = no_family_;
    if (sockets_ == Sockets::kLocal) {
      others = code_.IfOneOf({AF_NETLINK}, RouteNetlink(), others);
      others = code_.IfOneOf({AF_INET, AF_INET6}, Internet(), others);
    }
    code_.IfOneOf({AF_UNIX}, allow_, others);
    return code_.LoadArgument(0);
  }

  Label RouteNetlink() {
    code_.IfOneOf({NETLINK_ROUTE}, allow_, code_.Fail(EPROTONOSUPPORT));
    return code_.LoadArgument(2);
  }

  // Other protocols load modules that hardly anybody uses. EPERM is the kernel's own answer to SOCK_RAW.
  Label Internet() {
    code_.IfOneOf({IPPROTO_IP, IPPROTO_TCP, IPPROTO_UDP}, allow_, code_.Fail(EPROTONOSUPPORT));
    const Label protocol = code_.LoadArgument(2);
    code_.IfOneOf({SOCK_STREAM, SOCK_DGRAM}, protocol, refuse_);
    code_.Mask(kSocketTypes);
    return code_.LoadArgument(1);
  }

  Label Socketpair() {
    Label local = allow_;
    if (sockets_ == Sockets::kNone) {
      code_.IfOneOf({SOCK_STREAM, SOCK_SEQPACKET}, allow_, refuse_);
      code_.Mask(kSocketTypes);
      local = code_.LoadArgument(1);
    }
    code_.IfOneOf({AF_UNIX}, local, no_family_);
    return code_.LoadArgument(0);
  }

  // 0 is the caller. The reaper of a run and its fork server have the same user as the run, and outlive it.
  Label OfOthers(size_t argument) {
    code_.IfOneOf({0}, allow_, refuse_);
    return code_.LoadArgument(argument);
  }

  // First whether it means a process, a group or a user.
  Label OfOthersByKind() {
    const Label who = OfOthers(1);
    code_.IfOneOf({PRIO_PROCESS, kIoprioWhoProcess}, who, refuse_);
    return code_.LoadArgument(0);
  }

  // Asking is allowed, which is a null pointer to the new limit.
  Label Limits() {
    const Label process = OfOthers(0);
    code_.IfOneOf({0}, allow_, process);
    const Label low = code_.LoadArgument(2);
    code_.IfOneOf({0}, low, process);
    return code_.LoadHigh(2);
  }

  Assembler& code_;
  Sockets sockets_;
  Label allow_;
  Label refuse_;
  Label no_family_;
};

}  // namespace

bool SystemCallFilter::Build(const SystemCallPolicy& policy) {
  Assembler code(instructions_, kCapacity);
  Compiler(code, policy.sockets).Compile(Verdicts(policy));
  first_ = code.fits() ? code.first() : kCapacity;
  return code.fits();
}

int SystemCallFilter::Install() const {
  sock_fprog program{static_cast<uint16_t>(kCapacity - first_), const_cast<sock_filter*>(instructions_ + first_)};
  return syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program) < 0 ? errno : 0;
}

int SystemCallFilterSupport() {
  // A kernel that has filters wants to read this one.
  if (syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, nullptr) == 0 || errno != EFAULT) return errno;
  const uint32_t action = SECCOMP_RET_KILL_PROCESS;
  return syscall(SYS_seccomp, SECCOMP_GET_ACTION_AVAIL, 0, &action) < 0 ? errno : 0;
}

}  // namespace skillscale
