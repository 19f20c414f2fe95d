// See entry.h.
#include "entry.h"

#include <errno.h>
#include <grp.h>
#include <linux/capability.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "landlock.h"

namespace skillscale {
namespace {

using protocol::kNoStep;

uint32_t DieWith(pid_t parent) {
  if (parent == 0) return kNoStep;
  if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0) return protocol::kPrctl;
  // It may have died before that.
  if (getppid() != parent) _exit(127);
  return kNoStep;
}

bool Limit(__rlimit_resource resource, uint64_t soft, uint64_t hard) {
  if (soft == protocol::kUnlimited) return true;
  const rlimit limit{soft, hard};
  if (setrlimit(resource, &limit) == 0) return true;
  // Only root may raise a hard limit; for others the lower one that is already there holds.
  rlimit present;
  if (errno != EPERM || getrlimit(resource, &present) < 0) return false;
  present.rlim_cur = soft < present.rlim_max ? soft : present.rlim_max;
  return setrlimit(resource, &present) == 0;
}

uint32_t ApplyLimits(const protocol::Limits& limits) {
  // The second between soft and hard separates SIGXCPU, which a program may catch, from SIGKILL.
  const bool applied = Limit(RLIMIT_CORE, 0, 0) && Limit(RLIMIT_CPU, limits.cpu_seconds, limits.cpu_seconds + 1) &&
                       Limit(RLIMIT_DATA, limits.memory_bytes, limits.memory_bytes) &&
                       Limit(RLIMIT_FSIZE, limits.file_bytes, limits.file_bytes) &&
                       Limit(RLIMIT_NPROC, limits.processes, limits.processes) &&
                       Limit(RLIMIT_NOFILE, limits.open_files, limits.open_files);
  return applied ? kNoStep : protocol::kSetrlimit;
}

uint32_t UnblockSignals() {
  sigset_t none;
  sigemptyset(&none);
  return sigprocmask(SIG_SETMASK, &none, nullptr) < 0 ? protocol::kSigprocmask : kNoStep;
}

uint32_t BecomeUser(uid_t uid, gid_t gid) {
  if (geteuid() != 0) return kNoStep;
  const bool became = setgroups(0, nullptr) == 0 && setresgid(gid, gid, gid) == 0 && setresuid(uid, uid, uid) == 0;
  return became ? kNoStep : protocol::kSetuid;
}

// Exec would take them too, but not from a program that is started without one.
uint32_t DropCapabilities() {
  const __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
  const __user_cap_data_struct none[2] = {};
  const bool dropped = prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) == 0 && syscall(SYS_capset, &header, none) == 0;
  return dropped ? kNoStep : protocol::kCapset;
}

uint32_t Confine(const Confinement& confinement, pid_t parent) {
  uint32_t step = BecomeUser(confinement.uid, confinement.gid);
  // A change of the user undoes it.
  if (step == kNoStep) step = DieWith(parent);
  if (step == kNoStep) step = DropCapabilities();
  if (step != kNoStep) return step;
  if (confinement.landlock >= 0 && !Landlock::Enter(confinement.landlock)) return protocol::kLandlock;
  if (confinement.filter == nullptr) return kNoStep;
  errno = confinement.filter->Install();
  return errno == 0 ? kNoStep : protocol::kSeccomp;
}

}  // namespace

uint32_t ConnectStreams(const int streams[3]) {
  for (int i = 0; i < 3; i++) {
    if (dup2(streams[i], i) < 0) return protocol::kDup2;
  }
  return kNoStep;
}

uint32_t Enter(const EntryPlan& plan) {
  if (setsid() < 0) return protocol::kSetsid;
  uint32_t step = DieWith(plan.parent);
  // Without this a set-user-ID program could become unkillable for a reaper that is not root.
  if (step == kNoStep && prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0) step = protocol::kPrctl;
  if (step == kNoStep && plan.streams[0] >= 0) step = ConnectStreams(plan.streams);
  if (step == kNoStep && chdir(plan.directory) < 0) step = protocol::kChdir;
  if (step == kNoStep) step = ApplyLimits(*plan.limits);
  if (step == kNoStep) step = UnblockSignals();
  if (step == kNoStep && plan.confinement != nullptr) step = Confine(*plan.confinement, plan.parent);
  return step;
}

}  // namespace skillscale
