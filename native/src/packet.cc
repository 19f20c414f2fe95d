// See packet.h.
#include "packet.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include "rights.h"

namespace skillscale {
namespace {

bool ReadPayload(int memfd, char* into, size_t size) {
  size_t done = 0;
  while (done < size) {
    const ssize_t count = pread(memfd, into + done, size - done, static_cast<off_t>(done));
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0) return false;
    done += static_cast<size_t>(count);
  }
  return true;
}

}  // namespace

bool Strings::Split(char* bytes, size_t size, size_t head, uint32_t argc, uint32_t envc) {
  Clear();
  const size_t count = head + argc + envc;
  if (count == 0 ? size != 0 : size == 0 || bytes[size - 1] != '\0') return false;
  pointers_ = static_cast<char**>(calloc(count + 2, sizeof(char*)));
  if (pointers_ == nullptr) return false;
  size_t index = 0;
  for (size_t at = 0; at < size; at += strlen(bytes + at) + 1) {
    if (index == count) return false;
    pointers_[index < head + argc ? index : index + 1] = bytes + at;
    index++;
  }
  head_ = head;
  argc_ = argc;
  return index == count;
}

void Strings::Clear() {
  free(pointers_);
  pointers_ = nullptr;
}

void Packet::Clear() {
  for (Descriptor& descriptor : descriptors) descriptor.Reset();
  descriptor_count = 0;
  inlined_size = 0;
}

Received Packet::Receive(int socket) {
  iovec parts[2] = {{&command, sizeof command}, {inlined, sizeof inlined}};
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int) * kMaxRights)];
  msghdr message{};
  message.msg_iov = parts;
  message.msg_iovlen = 2;
  message.msg_control = control;
  message.msg_controllen = sizeof control;
  ssize_t size;
  do {
    size = recvmsg(socket, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
  } while (size < 0 && errno == EINTR);
  if (size < 0) return errno == EAGAIN ? Received::kNothing : Received::kEnd;
  bool strange = (message.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) != 0;
  for (cmsghdr* header = CMSG_FIRSTHDR(&message); header != nullptr; header = CMSG_NXTHDR(&message, header)) {
    if (header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_RIGHTS) {
      strange = true;
      continue;
    }
    const size_t count = (header->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (size_t i = 0; i < count; i++) {
      int fd;
      memcpy(&fd, CMSG_DATA(header) + i * sizeof(int), sizeof fd);
      if (descriptor_count < kMaxRights) {
        descriptors[descriptor_count++].Reset(fd);
      } else {
        close(fd);
        strange = true;
      }
    }
  }
  if (size == 0) return Received::kEnd;
  if (strange || static_cast<size_t>(size) < sizeof command) return Received::kInvalid;
  inlined_size = static_cast<size_t>(size) - sizeof command;
  return command.magic == protocol::kMagic ? Received::kPacket : Received::kInvalid;
}

bool Packet::Unpack(size_t streams, size_t head, char** copy, Strings* strings) {
  if (command.argc > protocol::kStrings || command.envc > protocol::kStrings || head > 4 * size_t{protocol::kStrings}) return false;
  if (command.payload_bytes > protocol::kPayloadBytes) return false;
  const size_t size = static_cast<size_t>(command.payload_bytes);
  const bool whole = descriptor_count == streams;
  if (whole ? inlined_size != size : descriptor_count != streams + 1 || inlined_size != 0) return false;
  char* bytes = inlined;
  if (!whole) {
    *copy = bytes = static_cast<char*>(malloc(size + 1));
    if (bytes == nullptr) return true;
    if (!ReadPayload(descriptors[streams].get(), bytes, size)) return false;
  }
  return strings->Split(bytes, size, head, command.argc, command.envc);
}

bool Packet::Forward(int socket) const {
  iovec parts[2] = {{const_cast<protocol::Command*>(&command), sizeof command}, {const_cast<char*>(inlined), inlined_size}};
  int fds[kMaxRights];
  for (size_t i = 0; i < descriptor_count; i++) fds[i] = descriptors[i].get();
  return SendPacket(socket, parts, 2, fds, descriptor_count, MSG_DONTWAIT);
}

}  // namespace skillscale
