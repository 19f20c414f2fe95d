// The monotonic clock in nanoseconds.
#ifndef SKILLSCALE_CLOCK_H_
#define SKILLSCALE_CLOCK_H_

#include <stdint.h>
#include <time.h>

namespace skillscale {

inline constexpr uint64_t kSecond = 1'000'000'000;
inline constexpr uint64_t kNever = UINT64_MAX;

inline uint64_t Now() {
  timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return static_cast<uint64_t>(time.tv_sec) * kSecond + static_cast<uint64_t>(time.tv_nsec);
}

inline uint64_t After(uint64_t now, uint64_t delay) { return delay > kNever - now ? kNever : now + delay; }

}  // namespace skillscale

#endif  // SKILLSCALE_CLOCK_H_
