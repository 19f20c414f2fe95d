// Tries every mechanism that confines runs, each in a process of its own, and prints what the kernel says: one line for
// each, with its name, the errno (0 when it works), the call that failed, and a number where the mechanism has one.
#ifndef SKILLSCALE_PROBE_H_
#define SKILLSCALE_PROBE_H_

#include <sys/types.h>

namespace skillscale {

// `uid` and `gid` are whom a server that is root becomes for its runs. Returns the exit code.
int Probe(uid_t uid, gid_t gid);

}  // namespace skillscale

#endif  // SKILLSCALE_PROBE_H_
