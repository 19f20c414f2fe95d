// One reaper as the supervisor sees it: a pidfd and the near end of its control socket. The reaper is started from the
// supervisor's thread in a session of its own, with nothing but its socket and /dev/null open and an empty environment.
// Closing the socket ends it; `Collect` reaps it by its pidfd, never by a wildcard.
#ifndef SKILLSCALE_REAPER_PROCESS_H_
#define SKILLSCALE_REAPER_PROCESS_H_

#include <string>

#include "descriptor.h"
#include "protocol.h"
#include "step_error.h"

namespace skillscale {

class ReaperProcess {
 public:
  ReaperProcess() = default;
  ReaperProcess(ReaperProcess&&) = default;
  ReaperProcess& operator=(ReaperProcess&&) = default;

  bool Start(const char* path, int null_descriptor, StepError* failure);
  // Sends a Configure, or a Spawn with its three streams. Fills in what the payload tells.
  bool Send(protocol::Command command, const std::string& payload, const int* attached, size_t count, StepError* failure);
  bool SendCommand(protocol::CommandType type);
  // Returns 1 with a reply and what is attached to it, 0 when there is none yet, -1 when the reaper is gone or talks nonsense.
  int Receive(protocol::Reply* reply, Descriptor* attached);
  void Hangup() { control_.Reset(); }
  // Returns whether the process has ended and been reaped.
  bool Collect(bool wait);
  // Signals the reaper itself, not its tree.
  void Signal(int signal);

  int control() const { return control_.get(); }
  int pidfd() const { return pidfd_.get(); }

 private:
  Descriptor control_;
  Descriptor pidfd_;
};

}  // namespace skillscale

#endif  // SKILLSCALE_REAPER_PROCESS_H_
