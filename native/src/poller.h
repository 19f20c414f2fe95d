// What the supervisor's thread waits for: epoll over descriptors that others own, one eventfd that other threads write to,
// and one timerfd for the earliest deadline.
//
// A descriptor is watched under a source and an id, never under a pointer: an event that was fetched before its owner went
// away finds nobody under that id. `Unwatch` must precede closing, because a process that the host is forking at that moment
// may share the open file.
#ifndef SKILLSCALE_POLLER_H_
#define SKILLSCALE_POLLER_H_

#include <stdint.h>
#include <sys/epoll.h>

#include "descriptor.h"
#include "step_error.h"

namespace skillscale {

enum class Source : uint64_t { kWake = 0, kTimer, kControl, kPidfd, kInput, kStdout, kStderr };

class Poller {
 public:
  bool Open(StepError* failure);
  void Close();

  bool Watch(int fd, Source source, uint64_t id, uint32_t events);
  void Unwatch(int fd);
  // The only member that other threads call.
  void Wake();
  void ClearWake();
  // A timer that is set for too early costs one idle wake-up; setting it anew for every run would cost a call each.
  void ArmTimer(uint64_t at);
  void ClearTimer();

  // Waits; returns how many events there are, -1 when waiting is impossible.
  int Wait();
  Source source(int index) const { return static_cast<Source>(ready_[index].data.u64 >> kSourceShift); }
  uint64_t id(int index) const { return ready_[index].data.u64 & kIdMask; }

 private:
  static constexpr int kBatch = 64;
  static constexpr int kSourceShift = 56;
  static constexpr uint64_t kIdMask = (uint64_t{1} << kSourceShift) - 1;

  Descriptor epoll_;
  Descriptor wake_;
  Descriptor timer_;
  epoll_event ready_[kBatch];
  uint64_t armed_at_ = kUnarmed;
  static constexpr uint64_t kUnarmed = UINT64_MAX;
};

}  // namespace skillscale

#endif  // SKILLSCALE_POLLER_H_
