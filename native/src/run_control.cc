// See run_control.h.
#include "run_control.h"

#include <errno.h>

#include <algorithm>

namespace skillscale {
namespace {

constexpr uint64_t kLingerNs = kSecond;
constexpr size_t kScratchBytes = 256 * 1024;
constexpr int kReadsPerWake = 16;

// What a run writes is memory, too.
bool LimitGroup(Reaper& reaper, const protocol::Limits& limits, StepError* failure) {
  const bool bounded = limits.tree_bytes != protocol::kUnlimited && limits.disk_bytes != protocol::kUnlimited;
  const uint64_t bytes = bounded ? After(limits.tree_bytes, limits.disk_bytes) : protocol::kUnlimited;
  reaper.group.TakeMemoryKills();
  return reaper.group.Limit(bytes, limits.tree_tasks, failure);
}

}  // namespace

RunControl::RunControl(SupervisorOptions options, Poller* poller, std::function<void(Event)> emit)
    : emit_(std::move(emit)), pool_(std::move(options), poller) {}

bool RunControl::Open(StepError* failure) {
  scratch_.resize(kScratchBytes);
  return pool_.Open(failure);
}

void RunControl::End() {
  pool_.HangUpAndReap();
  runs_.clear();
  pool_.Close();
}

uint64_t RunControl::wake_at() const {
  return std::min(deadlines_.empty() ? kNever : deadlines_.begin()->first, pool_.tend_at());
}

void RunControl::Spawn(std::unique_ptr<Run> wanted) {
  const uint64_t id = wanted->request.id;
  Run& run = *runs_.emplace(id, std::move(wanted)).first->second;
  if (closing_) {
    EndRun(run, Outcome::kClosing);
    return Settle(id);
  }
  if (run.request.kind != Kind::kPlain) pool_.Renew(run.request.epoch);
  run.turn = next_turn_++;
  waiting_.emplace(run.turn, id);
  Schedule();
}

void RunControl::Terminate(uint64_t id) {
  const auto found = runs_.find(id);
  if (found == runs_.end()) return;
  Run& run = *found->second;
  EndRun(run, Outcome::kTerminated);
  Hasten(run);
  Settle(id);
}

void RunControl::Acknowledge(uint64_t id, uint64_t bytes) {
  const auto found = runs_.find(id);
  if (found == runs_.end()) return;
  StepError failure;
  if (!found->second->Acknowledge(bytes, &failure)) BreakRun(*found->second, failure);
  Settle(id);
}

void RunControl::Close() {
  closing_ = true;
  TerminateAll();
}

void RunControl::HandleStream(Source source, uint64_t id) {
  const auto found = runs_.find(id);
  if (found == runs_.end()) return;
  if (source == Source::kInput) {
    Feed(*found->second);
  } else {
    Drain(*found->second, source == Source::kStdout ? 0 : 1);
  }
  Settle(id);
}

void RunControl::HandleTimer() {
  const uint64_t now = Now();
  if (pool_.tend_at() <= now) pool_.Tend();
  while (!deadlines_.empty() && deadlines_.begin()->first <= now) {
    const uint64_t id = deadlines_.begin()->second;
    HandleDeadline(*runs_.at(id));
    Settle(id);
  }
}

void RunControl::HandleDeadline(Run& run) {
  const Deadline deadline = run.deadline;
  SetDeadline(run, Deadline::kNone, 0);
  switch (deadline) {
    case Deadline::kTimeout:
      return EndRun(run, Outcome::kTimedOut);
    case Deadline::kGrace:
      if (run.reaper != 0) pool_.Kill(run.reaper);
      return;
    case Deadline::kLinger:
      run.CloseStream(0);
      run.CloseStream(1);
      return;
    case Deadline::kNone:
      return;
  }
}

void RunControl::HandleControl(uint64_t reaper_id) {
  for (;;) {
    Reaper* reaper = pool_.Find(reaper_id);
    if (reaper == nullptr || reaper->retired) return;
    protocol::Reply reply;
    Descriptor attached;
    const int result = reaper->process.Receive(&reply, &attached);
    if (result == 0) return;
    // Its pidfd tells the rest. A reaper that still lives after this kills its tree at the end of its socket.
    if (result < 0 || !HandleReply(reaper_id, reply, std::move(attached))) return pool_.Retire(reaper_id);
  }
}

// Returns false when the reaper cannot serve.
bool RunControl::HandleHello(uint64_t reaper_id, const protocol::Reply& reply) {
  Reaper& reaper = *pool_.Find(reaper_id);
  reaper.greeted = true;
  if (reply.error == 0) {
    if (ready_) return true;
    Event event;
    event.detail = reply.detail;
    emit_(std::move(event));
    ready_ = true;
    return true;
  }
  const StepError failure{reply.error, reply.step};
  const auto found = runs_.find(reaper.run);
  reaper.run = 0;
  if (found != runs_.end()) {
    found->second->reaper = 0;
    FailRun(*found->second, failure);
    Settle(found->first);
  }
  if (!ready_) FailToBegin(failure);
  return false;
}

// Returns false when the reaper does not follow the protocol, or cannot serve.
bool RunControl::HandleReply(uint64_t reaper_id, const protocol::Reply& reply, Descriptor changes) {
  Reaper& reaper = *pool_.Find(reaper_id);
  if ((reply.type == protocol::kHello) == reaper.greeted) return false;
  if (reply.type == protocol::kHello) return HandleHello(reaper_id, reply);
  if (reply.type == protocol::kKilling) {
    reaper.unanswered = 0;
    if (reply.detail == protocol::kNoLimit) return true;
    const auto limited = runs_.find(reaper.run);
    if (limited == runs_.end()) return false;
    limited->second->result.detail = reply.detail;
    pool_.ExpectClean(reaper_id);
    return true;
  }
  if (reply.type == protocol::kIdle) {
    reaper.idle_processes = reply.detail;
    reaper.idle_kib = reply.max_rss_kib;
    TellIdle();
    return true;
  }
  if (reply.type == protocol::kReady) {
    if (!reaper.starting) return false;
    reaper.warm = reply.detail != 0;
    pool_.Release(reaper_id, !closing_ && !waiting_.empty());
    Schedule();
    return true;
  }
  const auto found = runs_.find(reaper.run);
  if (found == runs_.end()) return false;
  const uint64_t run_id = found->first;
  Run& run = *found->second;
  if (!HandleRunReply(run, reply)) return false;
  if (reply.type == protocol::kExited) {
    reaper.warm = run.result.warm;
    if (run.result.detail == protocol::kNoLimit && reaper.group.TakeMemoryKills() > 0) run.result.detail = protocol::kMemoryLimit;
  }
  if (reply.clean == protocol::kLeft) {
    if (!run.ending) pool_.ExpectClean(reaper_id);
  } else {
    run.clean = true;
    run.reaper = 0;
    run.result.changes = std::move(changes);
    if (reply.clean == protocol::kBusy) {
      pool_.AwaitReady(reaper_id);
    } else {
      pool_.Release(reaper_id, !closing_ && !waiting_.empty());
    }
  }
  Settle(run_id);
  if (reply.clean != protocol::kLeft) Schedule();
  return true;
}

bool RunControl::HandleRunReply(Run& run, const protocol::Reply& reply) {
  switch (reply.type) {
    case protocol::kSpawnFailed:
      if (run.phase != Phase::kSent || reply.clean != protocol::kFree) return false;
      FailRun(run, {reply.error, reply.step});
      return true;
    case protocol::kExited:
      if (run.phase != Phase::kSent) return false;
      run.phase = Phase::kExited;
      run.result.status = reply.status;
      run.result.wall_ns = reply.wall_ns;
      run.result.user_us = reply.user_us;
      run.result.system_us = reply.system_us;
      run.result.max_rss_kib = reply.max_rss_kib;
      run.result.detail = reply.detail;
      run.result.warm = reply.error != 0;
      if (run.deadline == Deadline::kTimeout) SetDeadline(run, Deadline::kNone, 0);
      return true;
    case protocol::kClean:
      if (run.phase != Phase::kExited || reply.clean == protocol::kLeft) return false;
      run.result.user_us = After(run.result.user_us, reply.user_us);
      return true;
    default:
      return false;
  }
}

void RunControl::HandlePidfd(uint64_t reaper_id) {
  HandleControl(reaper_id);
  LoseReaper(reaper_id);
  Schedule();
}

void RunControl::SetDeadline(Run& run, Deadline deadline, uint64_t at) {
  if (run.deadline != Deadline::kNone) deadlines_.erase({run.deadline_at, run.request.id});
  run.deadline = at == kNever ? Deadline::kNone : deadline;
  run.deadline_at = at;
  if (run.deadline != Deadline::kNone) deadlines_.emplace(at, run.request.id);
}

void RunControl::FailToBegin(const StepError& failure) {
  Event failed;
  failed.type = EventType::kFailed;
  failed.failure = failure;
  ready_ = closing_ = true;
  emit_(std::move(failed));
  TerminateAll();
}

void RunControl::TellIdle() {
  Event idle;
  idle.type = EventType::kIdle;
  pool_.AddIdle(&idle.detail, &idle.max_rss_kib);
  if (idle.detail == idle_processes_ && idle.max_rss_kib == idle_kib_) return;
  idle_processes_ = idle.detail;
  idle_kib_ = idle.max_rss_kib;
  emit_(std::move(idle));
}

void RunControl::LoseReaper(uint64_t reaper_id) {
  Reaper* reaper = pool_.Find(reaper_id);
  if (reaper == nullptr) return;
  const uint64_t run_id = reaper->run;
  const bool greeted = reaper->greeted;
  pool_.Remove(reaper_id);
  TellIdle();
  if (!greeted && !ready_) FailToBegin({ECHILD, protocol::kExecve});
  const auto found = runs_.find(run_id);
  if (found != runs_.end()) {
    Run& run = *found->second;
    run.reaper = 0;
    run.clean = true;
    // One that never came up has started nothing.
    if (!greeted) {
      FailRun(run, {ECHILD, protocol::kExecve});
    } else if (run.result.detail == protocol::kNoLimit) {
      if (run.phase != Phase::kExited) EndRun(run, Outcome::kLost);
      // What it changed is gone with its cell.
      if (run.request.kind != Kind::kPlain && run.result.outcome == Outcome::kEnded) run.result.outcome = Outcome::kLost;
    }
    Settle(run_id);
  }
  // One that died before it said anything would only die again.
  if (greeted && !closing_) FillPool();
}

void RunControl::FillPool() {
  StepError failure;
  if (!pool_.Fill(&failure) && !ready_) FailToBegin(failure);
}

void RunControl::Schedule() {
  while (!waiting_.empty()) {
    const uint64_t run_id = waiting_.begin()->second;
    Run& run = *runs_.at(run_id);
    uint64_t reaper_id = pool_.TakeIdle(run.request.kind, run.request.affinity, !pool_.HasRoom());
    StepError failure;
    if (reaper_id == 0) {
      if (pool_.full()) return pool_.MakeRoom();
      if (pool_.Start(run.request.kind, &failure)) continue;
      reaper_id = pool_.TakeIdle(run.request.kind, run.request.affinity, true);
    }
    if (reaper_id == 0) {
      // With others at work, one of them takes the run later.
      if (pool_.AnyAtWork()) return;
      FailRun(run, failure);
      Settle(run_id);
      continue;
    }
    if (!Dispatch(run, reaper_id)) continue;
    Settle(run_id);
  }
}

// Returns false when the reaper had died while it was idle: nothing was started, and another one takes the run.
bool RunControl::Dispatch(Run& run, uint64_t reaper_id) {
  const RunRequest& request = run.request;
  Reaper& reaper = *pool_.Find(reaper_id);
  Descriptor far[3];
  StepError failure{E2BIG, protocol::kExecve};
  const bool oversized = request.oversized || request.payload.size() > protocol::kPayloadBytes ||
                         request.argc > protocol::kStrings || request.envc > protocol::kStrings;
  if (oversized || !run.Open(far, &failure)) {
    pool_.PutBack(reaper_id);
    FailRun(run, failure);
    return true;
  }
  const int streams[3] = {far[0] ? far[0].get() : pool_.null_descriptor(), far[1].get(), far[2].get()};
  protocol::Command spawn{};
  spawn.type = protocol::kSpawn;
  spawn.argc = request.argc;
  spawn.envc = request.envc;
  spawn.writec = request.writec;
  spawn.readc = request.readc;
  spawn.warmc = request.warmc;
  spawn.flags = request.flags;
  const bool ahead = request.warmc > 0 && (request.flags & protocol::kAhead) != 0;
  const bool may_prestart = ahead && pool_.MayPrestart(reaper_id);
  const bool may_start = request.warmc > 0 && !ahead && pool_.MayStart(reaper);
  if (may_start || may_prestart) spawn.flags |= protocol::kMayStart;
  spawn.uid = pool_.options().uid;
  spawn.gid = pool_.options().gid;
  spawn.limits = request.limits;
  if (!LimitGroup(reaper, request.limits, &failure)) {
    pool_.PutBack(reaper_id);
    FailRun(run, failure);
    return true;
  }
  if (!reaper.process.Send(spawn, request.payload, streams, 3, &failure)) {
    const bool dead = failure.error == EPIPE || failure.error == ECONNRESET || failure.error == ENOTCONN;
    if (!dead) {
      pool_.PutBack(reaper_id);
      FailRun(run, failure);
      return true;
    }
    pool_.Retire(reaper_id);
    for (int i = 0; i < 2; i++) run.CloseStream(i);
    run.CloseInput();
    return false;
  }
  waiting_.erase(run.turn);
  run.request.payload = std::string();
  run.phase = Phase::kSent;
  run.reaper = reaper_id;
  reaper.run = request.id;
  reaper.affinity = request.affinity;
  reaper.may_start = may_start;
  reaper.prestarts = may_prestart;
  if (request.timeout_ns != protocol::kUnlimited) SetDeadline(run, Deadline::kTimeout, After(Now(), request.timeout_ns));
  Feed(run);
  return true;
}

// Nothing of it was started.
void RunControl::FailRun(Run& run, const StepError& failure) {
  if (run.phase == Phase::kWaiting) waiting_.erase(run.turn);
  if (run.result.outcome == Outcome::kEnded) {
    run.result.failure = failure;
    run.result.outcome = Outcome::kSpawnFailed;
  }
  run.phase = Phase::kExited;
  run.clean = true;
  for (int i = 0; i < 2; i++) run.CloseStream(i);
}

// Its input or output cannot be carried on, so what it did so far is no result.
void RunControl::BreakRun(Run& run, const StepError& failure) {
  if (run.result.outcome == Outcome::kEnded) {
    run.result.failure = failure;
    run.result.outcome = Outcome::kSpawnFailed;
  }
  EndRun(run, Outcome::kSpawnFailed);
  for (int i = 0; i < 2; i++) run.CloseStream(i);
}

// The first reason stays. What a run writes from now on is read and thrown away, so that it can end.
void RunControl::EndRun(Run& run, Outcome outcome) {
  const bool limit = outcome == Outcome::kStdoutLimit || outcome == Outcome::kStderrLimit;
  if (run.result.outcome == Outcome::kEnded && (limit || run.phase != Phase::kExited)) run.result.outcome = outcome;
  run.CloseInput();
  if (run.ending) return;
  run.ending = true;
  StepError failure;
  if (!run.Discard(&failure)) {
    for (int i = 0; i < 2; i++) run.CloseStream(i);
  }
  if (run.phase == Phase::kWaiting) {
    waiting_.erase(run.turn);
    run.phase = Phase::kExited;
    run.clean = true;
    return;
  }
  if (run.clean || run.reaper == 0) return;
  pool_.Terminate(run.reaper);
  SetDeadline(run, Deadline::kGrace, After(Now(), run.request.grace_ns));
}

// Nobody waits for it any more, so that it may have less time than it was given when it was told to end.
void RunControl::Hasten(Run& run) {
  if (!run.ending || run.clean || run.reaper == 0) return;
  const uint64_t at = After(Now(), run.request.interrupt_grace_ns);
  if (run.deadline == Deadline::kNone || at < run.deadline_at) SetDeadline(run, Deadline::kGrace, at);
}

void RunControl::TerminateAll() {
  std::vector<uint64_t> ids;
  for (const auto& entry : runs_) ids.push_back(entry.first);
  for (const uint64_t id : ids) {
    EndRun(*runs_.at(id), Outcome::kClosing);
    Settle(id);
  }
}

void RunControl::Feed(Run& run) {
  StepError failure;
  if (!run.Feed(&failure)) BreakRun(run, failure);
}

void RunControl::Drain(Run& run, int index) {
  for (int reads = 0; reads < kReadsPerWake; reads++) {
    StepError failure;
    const Taken taken = run.Take(index, &scratch_, &failure);
    if (taken == Taken::kNothing || taken == Taken::kEnd) return;
    if (taken == Taken::kFailed) return BreakRun(run, failure);
    if (run.streamed() && !run.ending && run.output(index).pending() > 0) {
      Event event;
      event.type = EventType::kOutput;
      event.id = run.request.id;
      event.stream = static_cast<uint32_t>(index + 1);
      event.bytes[0] = run.TakePiece(index);
      emit_(std::move(event));
    }
    if (run.output(index).overflowed() && run.request.fail_on_overflow) {
      EndRun(run, index == 0 ? Outcome::kStdoutLimit : Outcome::kStderrLimit);
    }
  }
}

// Moves a run as far as it can go after any change to it, and forgets it when it is done.
void RunControl::Settle(uint64_t run_id) {
  const auto found = runs_.find(run_id);
  if (found == runs_.end()) return;
  Run& run = *found->second;
  if (!run.clean) return;
  run.CloseInput();
  if (run.deadline == Deadline::kTimeout || run.deadline == Deadline::kGrace) SetDeadline(run, Deadline::kNone, 0);
  Drain(run, 0);
  Drain(run, 1);
  if (run.drained()) {
    SetDeadline(run, Deadline::kNone, 0);
    emit_(run.Result());
    runs_.erase(found);
    return;
  }
  if (run.paused()) {
    SetDeadline(run, Deadline::kNone, 0);
  } else if (run.deadline == Deadline::kNone) {
    SetDeadline(run, Deadline::kLinger, After(Now(), kLingerNs));
  }
}

}  // namespace skillscale
