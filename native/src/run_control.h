// Decides what happens to runs, on the supervisor's thread. It is told of commands, replies, ready streams and passed
// deadlines, and emits events.
//
// A run: waiting ▸ sent to a reaper ▸ exited ▸ clean (no descendant left) ▸ drained (both pipes at their end) ▸ done.
// Each run has at most one deadline at a time: its timeout, then the grace after SIGTERM, then the wait for a pipe whose
// far end was passed out of the tree. Every call does a bounded amount of work for one run, and ends with `Settle`.
//
// A run whose reaper dies ends as lost. One whose streams cannot be carried on is ended and has no result.
#ifndef SKILLSCALE_RUN_CONTROL_H_
#define SKILLSCALE_RUN_CONTROL_H_

#include <stdint.h>

#include <functional>
#include <map>
#include <memory>
#include <set>
#include <unordered_map>
#include <utility>
#include <vector>

#include "poller.h"
#include "protocol.h"
#include "reaper_pool.h"
#include "run.h"

namespace skillscale {

class RunControl {
 public:
  RunControl(SupervisorOptions options, Poller* poller, std::function<void(Event)> emit);
  RunControl(const RunControl&) = delete;
  RunControl& operator=(const RunControl&) = delete;

  bool Open(StepError* failure);
  void FillPool();
  // Hangs up on all reapers, waits for them, and closes everything. Runs under way are not answered.
  void End();

  void Spawn(std::unique_ptr<Run> wanted);
  void Terminate(uint64_t id);
  void Acknowledge(uint64_t id, uint64_t bytes);
  void Close();

  void HandleTimer();
  void HandleControl(uint64_t reaper_id);
  void HandlePidfd(uint64_t reaper_id);
  void HandleStream(Source source, uint64_t id);

  // When `HandleTimer` is due next.
  uint64_t wake_at() const;
  bool finished() const { return closing_ && runs_.empty(); }

 private:
  void HandleDeadline(Run& run);
  bool HandleHello(uint64_t reaper_id, const protocol::Reply& reply);
  bool HandleReply(uint64_t reaper_id, const protocol::Reply& reply, Descriptor changes);
  bool HandleRunReply(Run& run, const protocol::Reply& reply);

  void SetDeadline(Run& run, Deadline deadline, uint64_t at);
  void FailToBegin(const StepError& failure);
  void TellIdle();
  void LoseReaper(uint64_t reaper_id);
  void Schedule();
  bool Dispatch(Run& run, uint64_t reaper_id);
  void FailRun(Run& run, const StepError& failure);
  void BreakRun(Run& run, const StepError& failure);
  void EndRun(Run& run, Outcome outcome);
  void Hasten(Run& run);
  void TerminateAll();
  void Feed(Run& run);
  void Drain(Run& run, int index);
  void Settle(uint64_t run_id);

  const std::function<void(Event)> emit_;
  ReaperPool pool_;
  std::vector<uint8_t> scratch_;

  std::unordered_map<uint64_t, std::unique_ptr<Run>> runs_;
  // Turn to run, so that a run which has to wait again keeps its place.
  std::map<uint64_t, uint64_t> waiting_;
  uint64_t next_turn_ = 1;
  std::set<std::pair<uint64_t, uint64_t>> deadlines_;
  // As it was told last.
  uint32_t idle_processes_ = 0;
  uint64_t idle_kib_ = 0;
  bool ready_ = false;
  bool closing_ = false;
};

}  // namespace skillscale

#endif  // SKILLSCALE_RUN_CONTROL_H_
