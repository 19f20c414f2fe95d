// What one output stream of a run has delivered: at most `cap` bytes kept, the rest counted away.
//
// A read goes into the tail of the kept buffer first and spills into a scratch area that the thread shares between all
// runs, so that a run without output allocates nothing and a large one is read in place.
#ifndef SKILLSCALE_OUTPUT_H_
#define SKILLSCALE_OUTPUT_H_

#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/types.h>

#include <utility>

namespace skillscale {

// A malloc'ed block, so that it can grow in place and be handed to JavaScript as it is.
class Bytes {
 public:
  Bytes() = default;
  Bytes(Bytes&& other) noexcept
      : data_(std::exchange(other.data_, nullptr)),
        size_(std::exchange(other.size_, 0)),
        capacity_(std::exchange(other.capacity_, 0)) {}
  Bytes& operator=(Bytes&& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(size_, other.size_);
    std::swap(capacity_, other.capacity_);
    return *this;
  }
  Bytes(const Bytes&) = delete;
  Bytes& operator=(const Bytes&) = delete;
  ~Bytes() { free(data_); }

  uint8_t* data() { return data_; }
  size_t size() const { return size_; }
  size_t room() const { return capacity_ - size_; }
  uint8_t* tail() { return data_ + size_; }
  void Grew(size_t count) { size_ += count; }
  bool Append(const uint8_t* bytes, size_t count, size_t limit);
  void Shrink();
  uint8_t* Release() {
    size_ = capacity_ = 0;
    return std::exchange(data_, nullptr);
  }

 private:
  uint8_t* data_ = nullptr;
  size_t size_ = 0;
  size_t capacity_ = 0;
};

class Output {
 public:
  explicit Output(uint64_t cap) : cap_(cap) {}

  // Reads once. Returns the bytes taken from the descriptor, 0 at its end, -1 with errno.
  ssize_t Read(int fd, uint8_t* scratch, size_t scratch_size, size_t limit);

  bool overflowed() const { return overflowed_; }
  bool lost() const { return lost_; }
  void Discard() { discarding_ = true; }
  Bytes Take() { return std::move(bytes_); }
  size_t pending() const { return bytes_.size(); }

 private:
  uint64_t cap_;
  uint64_t taken_ = 0;
  Bytes bytes_;
  bool overflowed_ = false;
  bool discarding_ = false;
  bool lost_ = false;
};

}  // namespace skillscale

#endif  // SKILLSCALE_OUTPUT_H_
