// See output.h.
#include "output.h"

#include <errno.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>

namespace skillscale {

bool Bytes::Append(const uint8_t* bytes, size_t count, size_t limit) {
  if (count == 0) return true;
  if (count > capacity_ - size_) {
    size_t wanted = std::max(capacity_ * 2, size_ + count);
    wanted = std::max(std::min(wanted, limit), size_ + count);
    void* grown = realloc(data_, wanted);
    if (grown == nullptr) return false;
    data_ = static_cast<uint8_t*>(grown);
    capacity_ = wanted;
  }
  memcpy(data_ + size_, bytes, count);
  size_ += count;
  return true;
}

void Bytes::Shrink() {
  if (size_ == 0 || size_ == capacity_) return;
  void* shrunk = realloc(data_, size_);
  if (shrunk == nullptr) return;
  data_ = static_cast<uint8_t*>(shrunk);
  capacity_ = size_;
}

ssize_t Output::Read(int fd, uint8_t* scratch, size_t scratch_size, size_t limit) {
  const size_t left = cap_ > taken_ ? static_cast<size_t>(std::min<uint64_t>(cap_ - taken_, SIZE_MAX)) : 0;
  const size_t inplace = discarding_ ? 0 : std::min({bytes_.room(), left, limit});
  const size_t spill = discarding_ ? scratch_size : std::min(scratch_size, limit - inplace);
  iovec parts[2] = {{bytes_.tail(), inplace}, {scratch, spill}};
  ssize_t count;
  do {
    count = inplace == 0 ? read(fd, scratch, spill) : readv(fd, parts, 2);
  } while (count < 0 && errno == EINTR);
  if (count <= 0 || discarding_) return count;

  const size_t direct = std::min(static_cast<size_t>(count), inplace);
  const size_t kept = std::min(static_cast<size_t>(count) - direct, left - direct);
  bytes_.Grew(direct);
  if (!bytes_.Append(scratch, kept, bytes_.size() + (left - direct))) {
    lost_ = discarding_ = true;
    return count;
  }
  taken_ += direct + kept;
  if (direct + kept < static_cast<size_t>(count)) overflowed_ = discarding_ = true;
  return count;
}

}  // namespace skillscale
