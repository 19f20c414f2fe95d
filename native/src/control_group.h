// A control group (version 2) of one reaper and everything that it starts: a bound on their memory and tasks that needs no
// measuring, and an end for all of them at once, which nobody in it can leave.
//
// The groups lie in a folder that the host of the addon may write. Which controllers they have is decided there; where one is
// missing, its bound is left out. The reaper moves itself, before it starts anything.
#ifndef SKILLSCALE_CONTROL_GROUP_H_
#define SKILLSCALE_CONTROL_GROUP_H_

#include <stdint.h>

#include <string>

#include "descriptor.h"
#include "step_error.h"

namespace skillscale {

class ControlGroup {
 public:
  ControlGroup() = default;
  ControlGroup(ControlGroup&& other) = default;
  ControlGroup& operator=(ControlGroup&& other) = default;

  // Makes `<folder>/<name>`.
  bool Make(const std::string& folder, const std::string& name, StepError* failure);
  explicit operator bool() const { return static_cast<bool>(folder_); }
  // A descriptor to which a process that wants to belong to the group writes "0".
  Descriptor Door(StepError* failure) const;
  // Bounds what all in the group use together, kUnlimited for no bound; what is as it was is not written again.
  bool Limit(uint64_t memory_bytes, uint64_t tasks, StepError* failure);
  // How many processes of the group the kernel ended for want of memory since the last call.
  uint64_t TakeMemoryKills();
  void Kill();
  // Removes it, once nobody is in it; false when somebody is.
  bool Remove();

 private:
  bool Write(const char* file, const std::string& text, bool optional, StepError* failure);

  std::string path_;
  Descriptor folder_;
  Descriptor events_;
  bool looked_ = false;
  uint64_t memory_bytes_ = 0;
  uint64_t tasks_ = 0;
  uint64_t kills_ = 0;
};

}  // namespace skillscale

#endif  // SKILLSCALE_CONTROL_GROUP_H_
