// Finds the CPU time of processes that are gone and that nobody waited for: the kernel adds the time of a child to that of a parent
// who waits for it, and drops it where the parent ignores SIGCHLD.
//
// It is told what all processes of a tree have used, some times a second. One that is there no more was waited for by its parent,
// whose times then have grown by what it had used when it was seen last, or more; or by the reaper, when its parent is gone as well.
// Where they have not, it was dropped, and what was seen of it is lost. The kernel tells waited-for times in ticks, rounded down, user and
// system apart, so that two ticks may be missing. A parent may be read a moment after its child, and have its time already: what
// came to it between the two looks before counts, too. So nothing counts twice; what a process did after the last look at it, and one that
// was never looked at, is not found.
#ifndef SKILLSCALE_CPU_LEDGER_H_
#define SKILLSCALE_CPU_LEDGER_H_

#include <stdint.h>
#include <sys/types.h>

#include <functional>
#include <map>
#include <vector>

namespace skillscale {

// What one process has used until now, in microseconds.
struct CpuReading {
  pid_t pid = 0;
  pid_t parent = 0;
  // When it began: a pid may come again.
  uint64_t began = 0;
  uint64_t own_us = 0;
  // Of the children that it waited for.
  uint64_t waited_us = 0;
};

class CpuLedger {
 public:
  // Reads one process again; false when it is gone.
  using Read = std::function<bool(pid_t, CpuReading*)>;

  explicit CpuLedger(uint64_t tick_us) : slack_us_(2 * tick_us) {}

  void Clear();
  // Takes a look at all processes. `reaped_us` is what the reaper's own children had used when it waited for them.
  void Look(const std::vector<CpuReading>& all, uint64_t reaped_us, const Read& read);
  uint64_t lost_us() const { return lost_us_; }

 private:
  struct Seen {
    CpuReading reading;
    // What came to its waited-for times between the last two looks, and belongs to nobody who was seen.
    uint64_t credit_us = 0;
  };

  uint64_t slack_us_;
  uint64_t lost_us_ = 0;
  uint64_t reaped_us_ = 0;
  std::map<pid_t, Seen> seen_;
};

}  // namespace skillscale

#endif  // SKILLSCALE_CPU_LEDGER_H_
