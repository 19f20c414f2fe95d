// See control_group.h.
#include "control_group.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "protocol.h"

namespace skillscale {
namespace {

// For the reaper, a fork server and a process that waits, which a run does not have to share its bounds with.
constexpr uint64_t kOwnBytes = 512 * 1024 * 1024;
constexpr uint64_t kOwnTasks = 16;

std::string Bound(uint64_t value, uint64_t own) {
  return value > protocol::kUnlimited - own ? "max" : std::to_string(value + own);
}

}  // namespace

bool ControlGroup::Make(const std::string& folder, const std::string& name, StepError* failure) {
  path_ = folder + "/" + name;
  if (mkdir(path_.c_str(), 0755) < 0) {
    *failure = {errno, protocol::kControlGroup};
    return false;
  }
  folder_.Reset(open(path_.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!folder_) {
    *failure = {errno, protocol::kControlGroup};
    rmdir(path_.c_str());
    return false;
  }
  return true;
}

Descriptor ControlGroup::Door(StepError* failure) const {
  Descriptor door(openat(folder_.get(), "cgroup.procs", O_WRONLY | O_CLOEXEC));
  if (!door) *failure = {errno, protocol::kControlGroup};
  return door;
}

bool ControlGroup::Write(const char* file, const std::string& text, bool optional, StepError* failure) {
  const Descriptor target(openat(folder_.get(), file, O_WRONLY | O_CLOEXEC));
  if (!target && optional && errno == ENOENT) return true;
  if (target && write(target.get(), text.data(), text.size()) == static_cast<ssize_t>(text.size())) return true;
  *failure = {errno, protocol::kControlGroup};
  return false;
}

bool ControlGroup::Limit(uint64_t memory_bytes, uint64_t tasks, StepError* failure) {
  if (!folder_) return true;
  if (memory_bytes != memory_bytes_) {
    if (!Write("memory.swap.max", memory_bytes == protocol::kUnlimited ? "max" : "0", true, failure) ||
        !Write("memory.max", Bound(memory_bytes, kOwnBytes), true, failure)) {
      return false;
    }
    memory_bytes_ = memory_bytes;
  }
  if (tasks != tasks_) {
    if (!Write("pids.max", Bound(tasks, kOwnTasks), true, failure)) return false;
    tasks_ = tasks;
  }
  return true;
}

uint64_t ControlGroup::TakeMemoryKills() {
  if (!folder_) return 0;
  if (!looked_) events_.Reset(openat(folder_.get(), "memory.events", O_RDONLY | O_CLOEXEC));
  looked_ = true;
  if (!events_) return 0;
  char text[512];
  const ssize_t size = pread(events_.get(), text, sizeof text - 1, 0);
  if (size <= 0) return 0;
  text[size] = '\0';
  const char* line = strstr(text, "\noom_kill ");
  unsigned long long kills;
  if (line == nullptr || sscanf(line, "\noom_kill %llu", &kills) != 1) return 0;
  const uint64_t fresh = kills - kills_;
  kills_ = kills;
  return fresh;
}

void ControlGroup::Kill() {
  StepError ignored;
  if (folder_) Write("cgroup.kill", "1", true, &ignored);
}

bool ControlGroup::Remove() {
  if (!folder_) return true;
  if (rmdir(path_.c_str()) < 0 && errno != ENOENT) return false;
  folder_.Reset();
  events_.Reset();
  return true;
}

}  // namespace skillscale
