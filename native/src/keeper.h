// A process that waits for its run has a keeper: a process that shares its memory and does nothing. When the run ends, the
// keeper is killed, and it is the keeper that gives the memory back, piece by piece, while the result is on its way already.
#ifndef SKILLSCALE_KEEPER_H_
#define SKILLSCALE_KEEPER_H_

#include <sys/types.h>

namespace skillscale {

// Starts the keeper of this process; returns its pid, or 0 when there is none, which costs only time. It is a child of the reaper,
// and no program finds it by waiting for its own; it holds no descriptor and no folder, and takes no signal. Only the reaper
// ends it. To be called once.
pid_t StartKeeper();

// Says over the socket on which a run will come that this process waits for it, and who its keeper is. Whether anybody hears it
// shows when the run comes, or does not.
void SayWaiting(int socket, pid_t keeper);

}  // namespace skillscale

#endif  // SKILLSCALE_KEEPER_H_
