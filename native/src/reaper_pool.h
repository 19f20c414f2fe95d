// The reapers of one supervisor: started ahead up to `min`, kept idle up to `idle`, never more than `max`.
//
// A reaper is idle, at work for one run, starting a fork server after it, or retired: its socket is closed and its end awaited. It leaves the pool when its
// pidfd says that it ended. Reapers are trusted to follow the protocol but not to be scheduled: a script of the same user can
// stop its reaper. `Tend`, called about once a second, sends SIGCONT to all that are expected to act, and SIGKILL to one that
// never greeted, did not leave, left several orders to kill unanswered, or whose tree is not gone some time after it was killed; its
// main process dies with it, and in a cell, or where it has a control group, all that it started.
#ifndef SKILLSCALE_REAPER_POOL_H_
#define SKILLSCALE_REAPER_POOL_H_

#include <stdint.h>

#include <algorithm>
#include <string>
#include <unordered_map>
#include <vector>

#include "control_group.h"
#include "descriptor.h"
#include "poller.h"
#include "reaper_process.h"
#include "step_error.h"

namespace skillscale {

// Where a run lives: a process among those of the host, or a cell without or with the host's network.
enum class Kind : uint32_t { kPlain, kCell, kConnectedCell };

struct SupervisorOptions {
  std::string reaper_path;
  // Where those that are started ahead live.
  Kind kind = Kind::kPlain;
  // What every reaper is configured with: the strings, how many of them are readable paths and folders with skills, and how many of
  // these a run can be given to write.
  std::string paths;
  uint32_t readable = 0;
  uint32_t skills = 0;
  uint32_t open = 0;
  uint32_t uid = 0;
  uint32_t gid = 0;
  uint64_t epoch = 0;
  uint32_t min_reapers = 1;
  uint32_t idle_reapers = 1;
  uint32_t max_reapers = 1;
  // Of how many the next run may be started ahead.
  uint32_t prestart = 0;
  // The folder in which each reaper gets a control group of its own; empty for none.
  std::string control_groups;
};

struct Reaper {
  ReaperProcess process;
  ControlGroup group;
  Kind kind = Kind::kPlain;
  // Of its last run.
  uint64_t affinity = 0;
  // Its last run started warm, or the next one will.
  bool warm = false;
  uint64_t epoch = 0;
  uint64_t run = 0;
  bool greeted = false;
  bool retired = false;
  // It may start a fork server after its present run, or does.
  bool may_start = false;
  bool starting = false;
  // Its next run may be started ahead.
  bool prestarts = false;
  // Which of the runs that can be started ahead was its last one.
  uint64_t prestart_turn = 0;
  // What waits there for runs, as it told last.
  uint32_t idle_processes = 0;
  uint64_t idle_kib = 0;
  // The tree of its present run is being killed, since then.
  bool killing = false;
  uint64_t killing_since = 0;
  int unanswered = 0;
  // When it was started, began to start a fork server, or was retired.
  uint64_t since = 0;
};

class ReaperPool {
 public:
  ReaperPool(SupervisorOptions options, Poller* poller);

  bool Open(StepError* failure);
  void Close() { null_.Reset(); }
  int null_descriptor() const { return null_.get(); }

  // Starts one and makes it idle.
  bool Start(Kind kind, StepError* failure);
  // From now on the folders are others than before: reapers that were started earlier serve no further run.
  void Renew(uint64_t epoch);
  // When the pool is full of idle ones of other kinds, retires one of them, so that there is room soon.
  void MakeRoom();
  // Starts reapers up to the minimum; false when there is none at all.
  bool Fill(StepError* failure);
  bool full() const { return reapers_.size() >= options_.max_reapers; }
  bool AnyAtWork() const;

  // Adds up what waits for runs.
  void AddIdle(uint32_t* processes, uint64_t* kib) const;

  Reaper* Find(uint64_t id);
  // Takes one whose last run had the same affinity, else one that was warm for nobody; if `any`, else the one that was idle
  // longest. Returns 0 when there is none.
  uint64_t TakeIdle(Kind kind, uint64_t affinity, bool any);
  // Whether one more would not be more than are kept.
  bool HasRoom() const { return reapers_.size() < std::min(options_.idle_reapers, options_.max_reapers); }
  const SupervisorOptions& options() const { return options_; }
  void PutBack(uint64_t id) { idle_.push_back(id); }
  // Whether this one may be busy with a fork server after its run. Those that are warm leave room for one that is not.
  bool MayStart(const Reaper& reaper) const;
  // Whether the next run of this one may be started ahead, which is asked once for each run. When there are as many as may be,
  // the one that waits longest is retired for it, if enough runs went by since its own.
  bool MayPrestart(uint64_t id);
  // Its run is over, but it is busy until Release.
  void AwaitReady(uint64_t id);
  // It can take another run. `wanted` keeps it whatever the number of idle ones.
  void Release(uint64_t id, bool wanted);
  void Retire(uint64_t id);
  // Collects one that has ended and forgets it.
  void Remove(uint64_t id);

  void Terminate(uint64_t id);
  void Kill(uint64_t id);
  // It kills its tree unasked.
  void ExpectClean(uint64_t id);
  // When `Tend` is due next; never while all are idle.
  uint64_t tend_at() const { return tend_at_; }
  void Tend();
  // Closes all sockets and waits, within bounds, until all are gone.
  void HangUpAndReap();

 private:
  bool Configure(Reaper& reaper, StepError* failure);
  void End(Reaper& reaper);
  void Abandon(Reaper& reaper);
  void RemoveGroups();
  void ExpectAction();

  const SupervisorOptions options_;
  Poller& poller_;
  Descriptor null_;
  std::unordered_map<uint64_t, Reaper> reapers_;
  std::vector<uint64_t> idle_;
  // Of reapers that are gone; the kernel takes a moment to empty them.
  std::vector<ControlGroup> emptying_;
  uint64_t next_id_ = 1;
  uint64_t epoch_ = 0;
  uint64_t prestart_turn_ = 0;
  uint64_t tend_at_;
};

}  // namespace skillscale

#endif  // SKILLSCALE_REAPER_POOL_H_
