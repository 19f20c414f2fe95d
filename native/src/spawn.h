// Starts the main process of a run from inside a reaper.
//
// The child shares the reaper's memory and suspends it until exec (clone with CLONE_VM | CLONE_VFORK on a stack of its
// own), so a start costs no page tables. Everything that the child needs is built before; between clone and exec it
// makes only async-signal-safe calls. What went wrong comes back as {errno, step} through a close-on-exec pipe: end of
// file on it means that exec happened.
#ifndef SKILLSCALE_SPAWN_H_
#define SKILLSCALE_SPAWN_H_

#include <sys/types.h>

#include "entry.h"
#include "protocol.h"

namespace skillscale {

struct SpawnFailure {
  int error;
  uint32_t step;
};

struct SpawnPlan {
  const char* directory;
  const char* file;
  char* const* argv;
  char* const* envp;
  int streams[3];
  const protocol::Limits* limits;
  // Null for none.
  const Confinement* confinement;
};

// Returns the child's pid, or -1 with `failure` filled.
pid_t Spawn(const SpawnPlan& plan, SpawnFailure* failure);

}  // namespace skillscale

#endif  // SKILLSCALE_SPAWN_H_
