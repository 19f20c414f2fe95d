// The reaper's one object: reaper.cc has the life of a run, reaper_limits.cc what it uses, reaper_spare.cc what makes the next
// one warm.
#ifndef SKILLSCALE_REAPER_H_
#define SKILLSCALE_REAPER_H_

#include <stdint.h>
#include <sys/resource.h>
#include <sys/types.h>

#include <string>

#include "cell.h"
#include "clock.h"
#include "cpu_ledger.h"
#include "descriptor.h"
#include "fork_server.h"
#include "packet.h"
#include "process_tree.h"
#include "protocol.h"
#include "rules.h"
#include "run_plan.h"
#include "spawn.h"
#include "step_error.h"

namespace skillscale {

class Reaper {
 public:
  int Run();

 private:
  bool Configure();
  bool Settle(const Packet& packet, const Strings& strings, StepError* failure);
  bool Handle(Packet* packet);
  bool StartRun(Packet* packet);
  bool Begin(Packet* packet, const Strings& strings, bool cold, SpawnFailure* failure);
  bool Open(const RunPlan& plan, Confinement* confinement, StepError* failure);
  void FailRun(const SpawnFailure& failure);
  void MeasureSoon();
  void Measure();
  protocol::TreeLimit Exceeded();
  bool LackedTasks();
  void ForgetCpu();
  uint64_t UntoldCpu();
  protocol::Cleanness Freed();
  void Leave();
  bool Reap();
  void ReportExit(int status, const rusage& usage, bool left);
  void SignalTree(int signal, Order order);

  bool StartForkServer();
  void FinishStart();
  void HandleForkServer();
  void AskForSpare(bool view_is_open = false);
  void TellIdle();
  bool MakeSpare(const Confinement& confinement);
  bool MakeAhead(const Confinement& confinement, int job);
  bool AwaitSpare();
  bool GiveToSpare(const Packet& packet);
  enum class Word { kNothing, kReady, kRead, kUnread };
  Word HearSpare();
  bool IsUnread() const;
  void HandleSpare(bool ended);
  void ReplaceSpare();
  void LoseSpare();
  void DropSpare();
  void BeginCold();
  void EndStrangers();
  void EndOthers();
  bool UsedNetwork() const;
  void Forget(bool used_network);
  bool OthersLeft() const;
  void DropKeeper();
  Except Uncounted() const { return {fork_server_.pid(), keeper_, fading_}; }
  void Say(protocol::ReplyType type, uint32_t detail = 0);
  void Reply(protocol::Reply reply, int descriptor = -1);

  Descriptor signals_;
  pid_t main_ = 0;
  bool occupied_ = false;
  bool terminating_ = false;
  bool killing_ = false;
  bool leaving_ = false;
  // The last run used the cell's network, so that the next one gets a new one.
  bool used_network_ = false;
  int exit_code_ = 0;
  uint64_t started_ = 0;
  // Of the run's processes that are gone, but not through those that live: what the reaper waited for, and what nobody did.
  uint64_t gone_cpu_us_ = 0;
  CpuLedger ledger_{TickMicroseconds()};
  // Of both, what the supervisor knows.
  uint64_t told_cpu_us_ = 0;

  Cell cell_;
  Rules rules_;
  protocol::Limits limits_;
  protocol::TreeLimit exceeded_ = protocol::kNoLimit;

  // Of the present run, the last one, or the next one.
  RunPlan plan_;

  ForkServer fork_server_;
  // The fork server has the cell to itself until it is ready, or until this time.
  bool starting_ = false;
  uint64_t start_by_ = kNever;
  // Whether the supervisor lets this reaper be busy after its run.
  bool may_start_ = false;
  // Where the spare waits for its run, or has it and did not read it yet; 0 until its pid is known.
  Descriptor spare_;
  pid_t spare_pid_ = 0;
  // Of the spare or the run, when it has one (keeper.h); and the last one that was killed, until it is gone.
  pid_t keeper_ = 0;
  pid_t fading_ = 0;
  // Of the spare that was asked for last, and of the last one that ended.
  uint64_t spare_number_ = 0;
  uint64_t ended_number_ = 0;
  int lost_spares_ = 0;
  // When to start one ahead. It imports what its script does before it waits, until this time; so many of the next ones do not.
  uint64_t spare_at_ = kNever;
  bool importing_ = false;
  uint64_t import_by_ = kNever;
  int plain_spares_ = 0;
  uint64_t told_idle_ = 0;
  uint64_t tell_at_ = kNever;
  // What made the last runs warm, or would have, and whether two in a row agree.
  std::string last_key_;
  bool again_ = false;
  // The run that the spare has not read yet.
  bool handing_ = false;
  Packet* kept_ = nullptr;
  // The present run is a spare that the fork server made.
  bool warm_ = false;
  // The main process ended, as the fork server tells.
  bool ended_ = false;
  int ended_status_ = 0;
  rusage ended_usage_{};
  uint64_t measure_at_ = kNever;
  uint64_t pause_ = 0;
};

}  // namespace skillscale

#endif  // SKILLSCALE_REAPER_H_
