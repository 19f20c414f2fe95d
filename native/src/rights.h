// Descriptors that travel with a packet over a Unix socket (SCM_RIGHTS).
#ifndef SKILLSCALE_RIGHTS_H_
#define SKILLSCALE_RIGHTS_H_

#include <errno.h>
#include <stddef.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>

namespace skillscale {

inline constexpr size_t kMaxRights = 5;

// Sends what is in `parts` as one packet, with at most kMaxRights descriptors. False with errno.
inline bool SendPacket(int socket, iovec* parts, size_t part_count, const int* descriptors, size_t descriptor_count, int flags) {
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int) * kMaxRights)] = {};
  msghdr message{};
  message.msg_iov = parts;
  message.msg_iovlen = part_count;
  if (descriptor_count > 0) {
    message.msg_control = control;
    message.msg_controllen = CMSG_SPACE(sizeof(int) * descriptor_count);
    cmsghdr* header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(sizeof(int) * descriptor_count);
    memcpy(CMSG_DATA(header), descriptors, sizeof(int) * descriptor_count);
  }
  ssize_t sent;
  do {
    sent = sendmsg(socket, &message, flags | MSG_NOSIGNAL);
  } while (sent < 0 && errno == EINTR);
  return sent >= 0;
}

}  // namespace skillscale

#endif  // SKILLSCALE_RIGHTS_H_
