// Whether anything can be seen in a network namespace of what was done there.
//
// The kernel keeps more in one than connections: what it learned of peers (TCP metrics and fast open), labels of flows, counters that
// anybody can read, and sockets that are on the way to nobody. Most of it cannot be listed. But what is sent, and what is refused,
// is counted in numbers that never go back; the rest is a socket or a label that is still there.
#ifndef SKILLSCALE_NETWORK_TRACES_H_
#define SKILLSCALE_NETWORK_TRACES_H_

#include <string>
#include <vector>

#include "descriptor.h"

namespace skillscale {

class NetworkTraces {
 public:
  // Notes what is counted in the network namespace of this process. Returns whether all of it can be read.
  bool Note();
  // Whether nothing was counted since, and there are no more sockets than these, of any kind.
  bool AreNone(long sockets) const;

 private:
  struct Noted {
    Descriptor file;
    std::string text;
  };
  // Kept open: to open one costs as much as to read it.
  std::vector<Noted> noted_;
  Descriptor sockets_;
};

}  // namespace skillscale

#endif  // SKILLSCALE_NETWORK_TRACES_H_
