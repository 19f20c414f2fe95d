// The rules that a run is under, by Landlock and by the system call filter, made in the reaper from the run's plan.
#ifndef SKILLSCALE_RULES_H_
#define SKILLSCALE_RULES_H_

#include <string>
#include <utility>
#include <vector>

#include "landlock.h"
#include "run_plan.h"
#include "spawn.h"
#include "step_error.h"
#include "system_calls.h"

namespace skillscale {

class Rules {
 public:
  // What every run may read; in a cell, the folders of its root.
  void SetReadable(std::vector<std::string> paths, bool in_cell) {
    readable_ = std::move(paths);
    in_cell_ = in_cell;
  }

  // What it makes belongs to this object, and is that of one run at a time.
  bool Make(const RunPlan& plan, Confinement* confinement, StepError* failure);

  // Makes ahead what is the same for the next run in a cell, so that `Make` has less to do. Without it nothing is lost.
  void Prepare(const RunPlan& plan);

  // The same again, for another run of the same plan in the same view.
  bool Reuse(const RunPlan& plan, Confinement* confinement, StepError* failure);

  // Null where the kernel has none, with `failure` untouched.
  bool Filter(const RunPlan& plan, const SystemCallFilter** filter, StepError* failure);

 private:
  bool LeavesTcp(const RunPlan& plan) const { return in_cell_ || plan.has(protocol::kConnected); }
  bool AllowDevices(StepError* failure);
  // What every run may.
  bool Begin(bool tcp, StepError* failure);

  std::vector<std::string> readable_;
  bool in_cell_ = false;
  Landlock landlock_;
  bool prepared_ = false;
  // One for each set of flags that matters to it.
  SystemCallFilter filters_[8];
  bool built_[8] = {};
};

}  // namespace skillscale

#endif  // SKILLSCALE_RULES_H_
