// What a run needs besides its arguments, environment and streams: the part of its packet that can be prepared for.
#ifndef SKILLSCALE_RUN_PLAN_H_
#define SKILLSCALE_RUN_PLAN_H_

#include <string.h>

#include <algorithm>
#include <string>
#include <vector>

#include "packet.h"
#include "protocol.h"
#include "view.h"

namespace skillscale {

// What an interpreter reads when it starts, as every run has it that may be warm.
inline char* const kWarmEnvironment[] = {const_cast<char*>("PATH=/usr/local/bin:/usr/bin:/bin"),
                                         const_cast<char*>("HOME=/tmp"),
                                         const_cast<char*>("TMPDIR=/tmp"),
                                         const_cast<char*>("LANG=C.UTF-8"),
                                         const_cast<char*>("LC_MESSAGES=C"),
                                         const_cast<char*>("PYTHONDONTWRITEBYTECODE=1"),
                                         nullptr};

class RunPlan {
 public:
  RunPlan() = default;
  RunPlan(const protocol::Command& command, const Strings& strings) : command_(command) {
    command_.argc = command_.envc = 0;
    command_.payload_bytes = 0;
    command_.flags &= ~protocol::kMayStart;
    for (size_t i = 0; i < HeadSize(command); i++) heads_.emplace_back(strings.head(i));
  }

  bool operator==(const RunPlan& other) const {
    return memcmp(&command_, &other.command_, sizeof command_) == 0 && heads_ == other.heads_;
  }

  const protocol::Command& command() const { return command_; }
  const protocol::Limits& limits() const { return command_.limits; }
  void set_processes(uint64_t most) { command_.limits.processes = std::min(command_.limits.processes, most); }
  bool has(uint32_t flag) const { return (command_.flags & flag) != 0; }

  const char* head(size_t index) const { return heads_[index].c_str(); }
  ViewPlan view() const { return {head(kAt), head(kSkill), head(kInputs), command_.limits.disk_bytes, false, has(protocol::kDirect)}; }
  size_t writable() const { return command_.writec; }
  size_t readable() const { return command_.readc; }
  // The writable paths, then the readable ones.
  const char* path(size_t index) const { return head(kPaths + index); }
  // Its warm start is a process that was started ahead, not one that a fork server makes.
  bool ahead() const { return command_.warmc > 1 && has(protocol::kAhead); }
  // Of a warm start: the key, then the command; none for a cold start.
  size_t warm() const { return command_.warmc; }
  const char* warm(size_t index) const { return head(kPaths + writable() + readable() + index); }
  std::vector<char*> WarmCommand(const char* last = nullptr) const {
    std::vector<char*> argv;
    for (size_t i = 1; i < warm(); i++) argv.push_back(const_cast<char*>(warm(i)));
    if (last != nullptr) argv.push_back(const_cast<char*>(last));
    argv.push_back(nullptr);
    return argv;
  }

 private:
  protocol::Command command_{};
  std::vector<std::string> heads_;
};

}  // namespace skillscale

#endif  // SKILLSCALE_RUN_PLAN_H_
