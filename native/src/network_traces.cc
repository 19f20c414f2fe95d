// See network_traces.h.
#include "network_traces.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <unistd.h>

#include <algorithm>
#include <utility>

namespace skillscale {
namespace {

constexpr const char* kCounters[] = {"/proc/net/snmp", "/proc/net/netstat", "/proc/net/snmp6", "/proc/net/ip6_flowlabel"};

// From the beginning, as much of it as the kernel gives at once: each of these files comes whole, but the list of labels, whose first
// line tells enough.
bool ReadText(const Descriptor& file, std::string* text) {
  char buffer[16 * 1024];
  ssize_t size;
  do {
    size = pread(file.get(), buffer, sizeof buffer, 0);
  } while (size < 0 && errno == EINTR);
  if (size <= 0) return false;
  text->assign(buffer, static_cast<size_t>(size));
  return true;
}

}  // namespace

bool NetworkTraces::Note() {
  noted_.clear();
  for (const char* path : kCounters) {
    Noted noted{Descriptor(open(path, O_RDONLY | O_CLOEXEC)), ""};
    // A kernel may have no IPv6.
    if (!noted.file && errno == ENOENT) continue;
    if (!noted.file || !ReadText(noted.file, &noted.text)) return false;
    noted_.push_back(std::move(noted));
  }
  sockets_.Reset(open("/proc/net/sockstat", O_RDONLY | O_CLOEXEC));
  return sockets_ && AreNone(LONG_MAX);
}

bool NetworkTraces::AreNone(long sockets) const {
  std::string text;
  long used = 0;
  if (!ReadText(sockets_, &text) || sscanf(text.c_str(), "sockets: used %ld", &used) != 1 || used > sockets) return false;
  return std::all_of(noted_.begin(), noted_.end(), [&text](const Noted& noted) { return ReadText(noted.file, &text) && text == noted.text; });
}

}  // namespace skillscale
