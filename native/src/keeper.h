// A process that waits for its run has a keeper: a process that shares its memory and does nothing. When the run ends, the
// keeper is killed, and it is the keeper that gives the memory back, piece by piece, while the result is on its way already.
#ifndef SKILLSCALE_KEEPER_H_
#define SKILLSCALE_KEEPER_H_

#include <sys/types.h>

namespace skillscale {

enum class EndsBy { kThread, kReaper };

// Starts the keeper of this process; returns its pid, or 0 when there is none, which costs only time. It is no child that a
// program finds by waiting for any child, holds no descriptor and no folder, and takes no signal. It is killed when the thread
// that called this ends, or only by the reaper: of a process with more threads the last one would give the memory back
// after all. To be called once.
pid_t StartKeeper(EndsBy ends_by);

// Says over the socket on which a run will come that this process waits for it, and who its keeper is. Whether anybody hears it
// shows when the run comes, or does not.
void SayWaiting(int socket, pid_t keeper);

}  // namespace skillscale

#endif  // SKILLSCALE_KEEPER_H_
