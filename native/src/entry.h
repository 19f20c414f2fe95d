// How a process that was just made becomes the main process of a run: session, streams, folder, limits, confinement.
//
// One implementation for both ways to start: between clone and exec (spawn.h), and in the child of a fork server
// (zygote.cc). It makes only async-signal-safe calls and never allocates.
#ifndef SKILLSCALE_ENTRY_H_
#define SKILLSCALE_ENTRY_H_

#include <stdint.h>
#include <sys/types.h>

#include "protocol.h"
#include "system_calls.h"

namespace skillscale {

// What a run is forbidden, besides its limits.
struct Confinement {
  int landlock = -1;
  // Null where the process is under it already.
  const SystemCallFilter* filter = nullptr;
  // Whom root becomes; others stay who they are.
  uid_t uid = 0;
  gid_t gid = 0;
};

struct EntryPlan {
  // Dies with its parent, which is this one; 0 to outlive it.
  pid_t parent;
  const char* directory;
  // Below 0 when they are connected later.
  int streams[3];
  const protocol::Limits* limits;
  // Null for none.
  const Confinement* confinement;
};

// Both return kNoStep, or the step that failed, with errno.
uint32_t ConnectStreams(const int streams[3]);
uint32_t Enter(const EntryPlan& plan);

}  // namespace skillscale

#endif  // SKILLSCALE_ENTRY_H_
