// One packet of the supervisor as a reaper, or its fork server, reads it: the command, its descriptors, its strings.
#ifndef SKILLSCALE_PACKET_H_
#define SKILLSCALE_PACKET_H_

#include <stddef.h>
#include <stdint.h>
#include <sys/time.h>

#include "descriptor.h"
#include "protocol.h"
#include "rights.h"

namespace skillscale {

inline uint64_t Microseconds(const timeval& time) {
  return static_cast<uint64_t>(time.tv_sec) * 1'000'000U + static_cast<uint64_t>(time.tv_usec);
}

// The strings of a packet, split in place. `argv` and `envp` end with a null pointer.
class Strings {
 public:
  Strings() = default;
  Strings(const Strings&) = delete;
  Strings& operator=(const Strings&) = delete;
  ~Strings() { Clear(); }

  // There are `head` strings, then argc, then envc.
  bool Split(char* bytes, size_t size, size_t head, uint32_t argc, uint32_t envc);
  void Clear();

  explicit operator bool() const { return pointers_ != nullptr; }
  const char* head(size_t index) const { return pointers_[index]; }
  char* const* argv() const { return pointers_ + head_; }
  char* const* envp() const { return pointers_ + head_ + argc_ + 1; }

 private:
  char** pointers_ = nullptr;
  size_t head_ = 0;
  size_t argc_ = 0;
};

// Where the head of a Spawn has what; behind it come writec, readc and warmc strings.
enum Head : size_t { kDirectory, kFile, kAt, kSkill, kInputs, kPaths };

// How many strings come before the arguments.
inline size_t HeadSize(const protocol::Command& command) {
  return size_t{kPaths} + command.writec + command.readc + command.warmc;
}

enum class Received { kPacket, kNothing, kEnd, kInvalid };

struct Packet {
  protocol::Command command{};
  Descriptor descriptors[kMaxRights];
  size_t descriptor_count = 0;
  size_t inlined_size = 0;
  char inlined[protocol::kInlineBytes];

  void Clear();
  Received Receive(int socket);
  // Reads the strings of a packet that has `streams` descriptors besides. False when it is not valid; nothing is split and
  // `copy` is null when there is no memory for it. What `copy` points to is the caller's to free.
  bool Unpack(size_t streams, size_t head, char** copy, Strings* strings);
  // Sends it on as it came.
  bool Forward(int socket) const;
};

}  // namespace skillscale

#endif  // SKILLSCALE_PACKET_H_
