// See poller.h.
#include "poller.h"

#include <errno.h>
#include <sys/eventfd.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include <algorithm>

#include "clock.h"

namespace skillscale {

bool Poller::Open(StepError* failure) {
  epoll_.Reset(epoll_create1(EPOLL_CLOEXEC));
  if (!epoll_) {
    *failure = {errno, protocol::kEpoll};
    return false;
  }
  wake_.Reset(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!wake_) {
    *failure = {errno, protocol::kEventfd};
    return false;
  }
  timer_.Reset(timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK));
  if (!timer_) {
    *failure = {errno, protocol::kTimerfd};
    return false;
  }
  if (Watch(wake_.get(), Source::kWake, 0, EPOLLIN) && Watch(timer_.get(), Source::kTimer, 0, EPOLLIN)) return true;
  *failure = {errno, protocol::kEpollCtl};
  return false;
}

void Poller::Close() {
  timer_.Reset();
  wake_.Reset();
  epoll_.Reset();
}

bool Poller::Watch(int fd, Source source, uint64_t id, uint32_t events) {
  epoll_event event{};
  event.events = events;
  event.data.u64 = static_cast<uint64_t>(source) << kSourceShift | id;
  return epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, fd, &event) == 0;
}

void Poller::Unwatch(int fd) { epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, fd, nullptr); }

// Fails only when the counter is full, and then the thread is awake already.
void Poller::Wake() { eventfd_write(wake_.get(), 1); }

void Poller::ClearWake() {
  eventfd_t ignored;
  eventfd_read(wake_.get(), &ignored);
}

void Poller::ArmTimer(uint64_t at) {
  if (at == kNever || armed_at_ <= at) return;
  armed_at_ = at;
  itimerspec when{};
  // Zero would disarm it.
  at = std::max<uint64_t>(at, 1);
  when.it_value.tv_sec = static_cast<time_t>(at / kSecond);
  when.it_value.tv_nsec = static_cast<long>(at % kSecond);
  timerfd_settime(timer_.get(), TFD_TIMER_ABSTIME, &when, nullptr);
}

void Poller::ClearTimer() {
  uint64_t ignored;
  [[maybe_unused]] const ssize_t count = read(timer_.get(), &ignored, sizeof ignored);
  armed_at_ = kUnarmed;
}

int Poller::Wait() {
  const int count = epoll_wait(epoll_.get(), ready_, kBatch, -1);
  if (count >= 0) return count;
  return errno == EINTR ? 0 : -1;
}

}  // namespace skillscale
