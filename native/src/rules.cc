#include "rules.h"

#include <errno.h>

#include "protocol.h"

namespace skillscale {

// Outside a cell /dev is that of the host, with the memory that its processes share.
bool Rules::AllowDevices(StepError* failure) {
  if (in_cell_) return landlock_.AllowDevices("/dev", failure);
  for (const char* device : {"/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom", "/dev/tty", "/dev/ptmx"}) {
    if (!landlock_.AllowDevices(device, failure)) return false;
  }
  return landlock_.AllowDevices("/dev/pts", failure);
}

bool Rules::Begin(bool tcp, StepError* failure) {
  if (!landlock_.Begin(tcp, failure)) return false;
  for (const std::string& path : readable_) {
    if (!landlock_.AllowRead(path.c_str(), failure)) return false;
  }
  return landlock_.AllowRead("/proc", failure) && AllowDevices(failure);
}

// What a cell shows is there when it is made, and stays.
void Rules::Prepare(const RunPlan& plan) {
  StepError failure;
  prepared_ = in_cell_ && Landlock::Abi() > 0 && Begin(LeavesTcp(plan), &failure);
}

bool Rules::Make(const RunPlan& plan, Confinement* confinement, StepError* failure) {
  static const bool landlocked = Landlock::Abi() > 0;
  const bool prepared = std::exchange(prepared_, false);
  if (landlocked) {
    if (!prepared && !Begin(LeavesTcp(plan), failure)) return false;
    for (size_t i = 0; i < plan.writable() + plan.readable(); i++) {
      const bool allowed = i < plan.writable() ? landlock_.AllowWrite(plan.path(i), failure) : landlock_.AllowRead(plan.path(i), failure);
      if (!allowed) return false;
    }
  }
  return Reuse(plan, confinement, failure);
}

bool Rules::Reuse(const RunPlan& plan, Confinement* confinement, StepError* failure) {
  // What was made is not whole.
  if (prepared_) return Make(plan, confinement, failure);
  confinement->uid = plan.command().uid;
  confinement->gid = plan.command().gid;
  confinement->landlock = landlock_.get();
  return Filter(plan, &confinement->filter, failure);
}

bool Rules::Filter(const RunPlan& plan, const SystemCallFilter** filter, StepError* failure) {
  static const bool supported = SystemCallFilterSupport() == 0;
  *filter = nullptr;
  if (!supported) return true;
  const bool allow_list = plan.has(protocol::kAllowList);
  const bool connected = LeavesTcp(plan);
  const bool plain_modes = plan.has(protocol::kPlainModes);
  const size_t index = (allow_list ? 1 : 0) + (connected ? 2 : 0) + (plain_modes ? 4 : 0);
  if (!built_[index]) built_[index] = filters_[index].Build({allow_list, connected ? Sockets::kLocal : Sockets::kNone, plain_modes});
  if (built_[index]) {
    *filter = &filters_[index];
    return true;
  }
  *failure = {EINVAL, protocol::kSeccomp};
  return false;
}

}  // namespace skillscale
