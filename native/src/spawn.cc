// See spawn.h. Runs in the reaper, whose signal dispositions are all default, so the child has none to reset.
#include "spawn.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <linux/close_range.h>
#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "descriptor.h"
#include "landlock.h"
#include "sanitizer.h"

namespace skillscale {
namespace {

alignas(16) char child_stack[64 * 1024];

struct Child {
  const SpawnPlan& plan;
  pid_t reaper;
  int errors;

  [[noreturn]] void Fail(uint32_t step) const {
    const SpawnFailure failure{errno, step};
    while (write(errors, &failure, sizeof failure) < 0 && errno == EINTR) {
    }
    _exit(127);
  }

  void LeadSession() const {
    if (setsid() < 0) Fail(protocol::kSetsid);
  }

  void DieWithReaper() const {
    if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0) Fail(protocol::kPrctl);
    if (getppid() != reaper) _exit(127);
  }

  // Without this a set-user-ID program could become unkillable for a reaper that is not root.
  void GainNoPrivileges() const {
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0) Fail(protocol::kPrctl);
  }

  void ConnectStreams() const {
    for (int i = 0; i < 3; i++) {
      if (dup2(plan.streams[i], i) < 0) Fail(protocol::kDup2);
    }
  }

  void CloseTheRestOnExec() const {
    if (syscall(SYS_close_range, 3U, ~0U, CLOSE_RANGE_CLOEXEC) < 0) Fail(protocol::kCloseRange);
  }

  void EnterDirectory() const {
    if (chdir(plan.directory) < 0) Fail(protocol::kChdir);
  }

  void Limit(__rlimit_resource resource, uint64_t soft, uint64_t hard) const {
    if (soft == protocol::kUnlimited) return;
    const rlimit limit{soft, hard};
    if (setrlimit(resource, &limit) == 0) return;
    // Only root may raise a hard limit; for others the lower one that is already there holds.
    rlimit present;
    if (errno != EPERM || getrlimit(resource, &present) < 0) Fail(protocol::kSetrlimit);
    present.rlim_cur = soft < present.rlim_max ? soft : present.rlim_max;
    if (setrlimit(resource, &present) < 0) Fail(protocol::kSetrlimit);
  }

  void ApplyLimits() const {
    const protocol::Limits& limits = *plan.limits;
    Limit(RLIMIT_CORE, 0, 0);
    // The second between soft and hard separates SIGXCPU, which a program may catch, from SIGKILL.
    Limit(RLIMIT_CPU, limits.cpu_seconds, limits.cpu_seconds + 1);
    Limit(RLIMIT_DATA, limits.memory_bytes, limits.memory_bytes);
    Limit(RLIMIT_FSIZE, limits.file_bytes, limits.file_bytes);
    Limit(RLIMIT_NPROC, limits.processes, limits.processes);
    Limit(RLIMIT_NOFILE, limits.open_files, limits.open_files);
  }

  void BecomeUser() const {
    const Confinement& confinement = *plan.confinement;
    if (geteuid() != 0) return;
    if (setgroups(0, nullptr) < 0 || setresgid(confinement.gid, confinement.gid, confinement.gid) < 0 ||
        setresuid(confinement.uid, confinement.uid, confinement.uid) < 0) {
      Fail(protocol::kSetuid);
    }
  }

  // Exec would take them too, but not from a program that is started without one.
  void DropCapabilities() const {
    const __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
    const __user_cap_data_struct none[2] = {};
    if (prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) < 0) Fail(protocol::kCapset);
    if (syscall(SYS_capset, &header, none) < 0) Fail(protocol::kCapset);
  }

  void Confine() const {
    const Confinement& confinement = *plan.confinement;
    if (confinement.landlock >= 0 && !Landlock::Enter(confinement.landlock)) Fail(protocol::kLandlock);
    if (confinement.filter == nullptr) return;
    errno = confinement.filter->Install();
    if (errno != 0) Fail(protocol::kSeccomp);
  }

  void UnblockSignals() const {
    sigset_t none;
    sigemptyset(&none);
    if (sigprocmask(SIG_SETMASK, &none, nullptr) < 0) Fail(protocol::kSigprocmask);
  }

  [[noreturn]] void Execute() const {
    execve(plan.file, plan.argv, plan.envp);
    Fail(protocol::kExecve);
  }
};

int ChildMain(void* argument) {
  const Child& child = *static_cast<const Child*>(argument);
  child.LeadSession();
  child.DieWithReaper();
  child.GainNoPrivileges();
  child.ConnectStreams();
  child.CloseTheRestOnExec();
  child.EnterDirectory();
  child.ApplyLimits();
  child.UnblockSignals();
  if (child.plan.confinement != nullptr) {
    child.BecomeUser();
    child.DieWithReaper();
    child.DropCapabilities();
    child.Confine();
  }
  child.Execute();
}

}  // namespace

pid_t Spawn(const SpawnPlan& plan, SpawnFailure* failure) {
  int ends[2];
  if (pipe2(ends, O_CLOEXEC) < 0) {
    *failure = {errno, protocol::kPipe};
    return -1;
  }
  Descriptor reader(ends[0]);
  Descriptor writer(ends[1]);
  Child child{plan, getpid(), writer.get()};
  // The previous child left this stack by execve, so a sanitized build still holds its frames for live.
  ForgetStack(child_stack, sizeof child_stack);
  const pid_t pid = clone(ChildMain, child_stack + sizeof child_stack, CLONE_VM | CLONE_VFORK | SIGCHLD, &child);
  if (pid < 0) {
    *failure = {errno, protocol::kClone};
    return -1;
  }
  writer.Reset();
  SpawnFailure report{};
  ssize_t size;
  do {
    size = read(reader.get(), &report, sizeof report);
  } while (size < 0 && errno == EINTR);
  if (size == 0) return pid;
  while (waitpid(pid, nullptr, __WALL) < 0 && errno == EINTR) {
  }
  *failure = size == sizeof report ? report : SpawnFailure{EIO, protocol::kExecve};
  return -1;
}

}  // namespace skillscale
