// One owned file descriptor. Closing never disturbs errno and never retries: on Linux the descriptor is gone even when
// close(2) reports EINTR, and a second close could hit a stranger's.
#ifndef SKILLSCALE_DESCRIPTOR_H_
#define SKILLSCALE_DESCRIPTOR_H_

#include <errno.h>
#include <unistd.h>

namespace skillscale {

class Descriptor {
 public:
  Descriptor() = default;
  explicit Descriptor(int fd) : fd_(fd) {}
  Descriptor(Descriptor&& other) noexcept : fd_(other.Release()) {}
  Descriptor& operator=(Descriptor&& other) noexcept {
    if (this != &other) Reset(other.Release());
    return *this;
  }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  ~Descriptor() { Reset(); }

  int get() const { return fd_; }
  explicit operator bool() const { return fd_ >= 0; }

  int Release() {
    const int fd = fd_;
    fd_ = -1;
    return fd;
  }

  void Reset(int fd = -1) {
    if (fd_ >= 0) {
      const int saved = errno;
      close(fd_);
      errno = saved;
    }
    fd_ = fd;
  }

 private:
  int fd_ = -1;
};

}  // namespace skillscale

#endif  // SKILLSCALE_DESCRIPTOR_H_
