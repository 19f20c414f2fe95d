// See cpu_ledger.h.
#include "cpu_ledger.h"

#include <utility>

namespace skillscale {
namespace {

uint64_t Above(uint64_t one, uint64_t other) { return one > other ? one - other : 0; }

// What went from one process, or from those of it that are gone with it.
struct Gone {
  std::vector<uint64_t> used_us;
  // The reaper may have waited for some of them.
  bool orphans = false;
};

}  // namespace

void CpuLedger::Clear() {
  lost_us_ = reaped_us_ = 0;
  seen_.clear();
}

void CpuLedger::Look(const std::vector<CpuReading>& all, uint64_t reaped_us, const Read& read) {
  std::map<pid_t, Seen> now;
  for (const CpuReading& reading : all) now[reading.pid].reading = reading;
  const auto lives = [&now](const CpuReading& before) {
    const auto found = now.find(before.pid);
    return found != now.end() && found->second.reading.began == before.began;
  };

  // By the nearest ancestor that is still there. Without one it was a child of the reaper, or came to be one.
  std::map<pid_t, Gone> gone;
  for (const auto& [pid, seen] : seen_) {
    if (lives(seen.reading)) continue;
    pid_t parent = seen.reading.parent;
    bool orphan = false;
    auto above = seen_.find(parent);
    for (size_t steps = 0; above != seen_.end() && !lives(above->second.reading) && steps < seen_.size(); steps++) {
      orphan = true;
      parent = above->second.reading.parent;
      above = seen_.find(parent);
    }
    if (above == seen_.end() || !lives(above->second.reading)) continue;
    Gone& one = gone[parent];
    one.used_us.push_back(seen.reading.own_us + seen.reading.waited_us);
    one.orphans = one.orphans || orphan;
  }

  for (const auto& [pid, before] : seen_) {
    const auto found = now.find(pid);
    if (found == now.end() || !lives(before.reading)) continue;
    Seen& after = found->second;
    const auto left = gone.find(pid);
    // It may have waited since it was read.
    if (left != gone.end() && (!read(pid, &after.reading) || after.reading.began != before.reading.began)) {
      after.reading = before.reading;
      continue;
    }
    const uint64_t came_us = Above(after.reading.waited_us, before.reading.waited_us);
    uint64_t went_us = 0;
    if (left != gone.end()) {
      const uint64_t most_us =
          came_us + before.credit_us + (left->second.orphans ? Above(reaped_us, reaped_us_) : 0) + slack_us_;
      for (const uint64_t used_us : left->second.used_us) {
        // One that had more than all that came was not waited for, whatever the others were.
        if (used_us > most_us) {
          lost_us_ += used_us;
        } else {
          went_us += used_us;
        }
      }
      lost_us_ += Above(went_us, most_us);
    }
    after.credit_us = Above(came_us, went_us);
  }
  seen_ = std::move(now);
  reaped_us_ = reaped_us;
}

}  // namespace skillscale
