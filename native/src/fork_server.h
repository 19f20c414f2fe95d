// The fork server of a cell, as its reaper sees it: zygote.py with the library zygote.cc, which starts Python runs warm.
//
// There is at most one. It is wanted when two runs in a row have asked for the same one, so that skills that take turns do not
// pay for servers that nobody uses, and replaced when others are asked for or when it has forked kMaxForks times. While it
// starts it has the cell to itself, because what it reads then is in all that it forks. One that ended by itself before it was
// ready gave up, because the script's imports cannot be carried over a fork, and is tried again only after kMaxRest further runs;
// one that something else ended after a few, and after twice as many each time. So is one whose runs use the cell's network, which
// is then left for a new one: who runs there stays in the old one. Not having one costs time, nothing else.
#ifndef SKILLSCALE_FORK_SERVER_H_
#define SKILLSCALE_FORK_SERVER_H_

#include <stdint.h>
#include <sys/types.h>

#include <string>

#include "descriptor.h"
#include "protocol.h"
#include "run_plan.h"
#include "system_calls.h"

namespace skillscale {

enum class FromServer { kNothing, kReady, kReply, kGone };

class ForkServer {
 public:
  // 0 when there is none.
  pid_t pid() const { return pid_; }
  int socket() const { return socket_.get(); }

  // Told at the end of every run; returns whether a server should be started for runs like it.
  bool Wanted(const RunPlan& plan);
  // Starts one for runs like it, which are under `filter`, that may be null.
  bool Start(const RunPlan& plan, const SystemCallFilter* filter);
  // Whether it can make processes for it.
  bool Serves(const RunPlan& plan) const;
  // Asks for a process that will be the run which comes over `job`. Started and Exited will tell of it, with its number.
  bool Fork(const RunPlan& plan, uint64_t number, int landlock, int job);
  FromServer Receive(protocol::Reply* reply);
  // Kills it and waits. What it has forked goes on.
  void End();
  // Ends one that is not ready yet, and lets it rest.
  void GiveUp();
  // Ends one whose network a run has used, and lets it rest, longer each time.
  void Rest();
  // Somebody else has reaped it.
  void Reaped(int status) {
    pid_ = 0;
    status_ = status;
  }

 private:
  pid_t pid_ = 0;
  Descriptor socket_;
  bool ready_ = false;
  uint32_t forks_ = 0;
  std::string key_;
  uint32_t flags_ = 0;
  std::string asked_;
  std::string given_up_;
  uint32_t rest_ = 0;
  uint32_t next_rest_ = 0;
  uint32_t used_rest_ = 0;
  // Of the last one that ended.
  int status_ = 0;
};

}  // namespace skillscale

#endif  // SKILLSCALE_FORK_SERVER_H_
