// See reaper_pool.h.
#include "reaper_pool.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>

#include <algorithm>
#include <utility>

#include "clock.h"

namespace skillscale {
namespace {

constexpr uint64_t kTendNs = kSecond;
constexpr uint64_t kGreetNs = 5 * kSecond;
constexpr uint64_t kStartNs = 20 * kSecond;
constexpr uint64_t kLeaveNs = 10 * kSecond;
constexpr uint64_t kCleanNs = 10 * kSecond;
constexpr uint64_t kStopNs = 5 * kSecond;
constexpr uint64_t kEndNs = kSecond;
constexpr int kUnansweredKills = 5;
constexpr int kMaxStarting = 2;
// A process that was started ahead gives way when so many runs went by since its script's last one, times all that may wait.
constexpr uint64_t kPrestartTurns = 8;

// Returns whether it is gone at that time.
bool AwaitEnd(ReaperProcess& process, uint64_t until) {
  while (!process.Collect(false)) {
    const uint64_t now = Now();
    if (now >= until) return false;
    pollfd ended{process.pidfd(), POLLIN, 0};
    poll(&ended, 1, static_cast<int>((until - now) / 1'000'000 + 1));
  }
  return true;
}

}  // namespace

ReaperPool::ReaperPool(SupervisorOptions options, Poller* poller)
    : options_(std::move(options)), poller_(*poller), epoch_(options_.epoch), tend_at_(kNever) {}

bool ReaperPool::Open(StepError* failure) {
  null_.Reset(open("/dev/null", O_RDWR | O_CLOEXEC));
  if (!null_) *failure = {errno, protocol::kOpen};
  return static_cast<bool>(null_);
}

// Tells it how to live.
bool ReaperPool::Configure(Reaper& reaper, StepError* failure) {
  protocol::Command configure{};
  configure.type = protocol::kConfigure;
  configure.argc = options_.readable;
  configure.envc = options_.skills;
  configure.writec = options_.open;
  configure.uid = options_.uid;
  configure.gid = options_.gid;
  if (reaper.kind != Kind::kPlain) configure.flags |= protocol::kIsolated;
  if (reaper.kind == Kind::kConnectedCell) configure.flags |= protocol::kNetwork;
  if (!reaper.group) return reaper.process.Send(configure, options_.paths, nullptr, 0, failure);
  configure.flags |= protocol::kGrouped;
  const Descriptor door = reaper.group.Door(failure);
  const int attached = door.get();
  return door && reaper.process.Send(configure, options_.paths, &attached, 1, failure);
}

// Ends it and all that it started, as far as the kernel tells them.
void ReaperPool::End(Reaper& reaper) {
  reaper.process.Signal(SIGKILL);
  reaper.group.Kill();
}

// It never came up.
void ReaperPool::Abandon(Reaper& reaper) {
  reaper.process.Hangup();
  End(reaper);
  reaper.process.Collect(true);
  if (!reaper.group.Remove()) emptying_.push_back(std::move(reaper.group));
}

bool ReaperPool::Start(Kind kind, StepError* failure) {
  Reaper reaper;
  reaper.kind = kind;
  reaper.epoch = epoch_;
  const uint64_t id = next_id_++;
  if (!options_.control_groups.empty() && !reaper.group.Make(options_.control_groups, std::to_string(id), failure)) return false;
  if (!reaper.process.Start(options_.reaper_path.c_str(), null_.get(), failure) || !Configure(reaper, failure)) {
    Abandon(reaper);
    return false;
  }
  if (!poller_.Watch(reaper.process.control(), Source::kControl, id, EPOLLIN) ||
      !poller_.Watch(reaper.process.pidfd(), Source::kPidfd, id, EPOLLIN)) {
    *failure = {errno, protocol::kEpollCtl};
    poller_.Unwatch(reaper.process.control());
    Abandon(reaper);
    return false;
  }
  reaper.since = Now();
  reapers_.emplace(id, std::move(reaper));
  idle_.push_back(id);
  ExpectAction();
  return true;
}

bool ReaperPool::Fill(StepError* failure) {
  while (reapers_.size() < options_.min_reapers) {
    if (!Start(options_.kind, failure)) return !reapers_.empty();
  }
  return true;
}

bool ReaperPool::AnyAtWork() const {
  return std::any_of(reapers_.begin(), reapers_.end(),
                     [](const auto& entry) { return entry.second.run != 0 || entry.second.starting; });
}

void ReaperPool::AddIdle(uint32_t* processes, uint64_t* kib) const {
  for (const auto& entry : reapers_) {
    if (entry.second.retired) continue;
    *processes += entry.second.idle_processes;
    *kib += entry.second.idle_kib;
  }
}

Reaper* ReaperPool::Find(uint64_t id) {
  const auto found = reapers_.find(id);
  return found == reapers_.end() ? nullptr : &found->second;
}

uint64_t ReaperPool::TakeIdle(Kind kind, uint64_t affinity, bool any) {
  enum Fit { kNone, kOther, kUnused, kSame, kWarm };
  size_t best = idle_.size();
  Fit fit = kNone;
  for (size_t i = 0; i < idle_.size(); i++) {
    const Reaper& reaper = reapers_.at(idle_[i]);
    if (reaper.kind != kind) continue;
    Fit found = any ? kOther : kNone;
    if (reaper.affinity == affinity) {
      found = reaper.warm ? kWarm : kSame;
    } else if (reaper.affinity == 0) {
      found = kUnused;
    }
    // Of those that are warm the one that had the longest time to get ready; of others the one that was used last.
    if (found < fit || found == kNone || (found == fit && (found == kWarm || found == kOther))) continue;
    best = i;
    fit = found;
  }
  if (best == idle_.size()) return 0;
  const uint64_t id = idle_[best];
  idle_.erase(idle_.begin() + static_cast<std::ptrdiff_t>(best));
  ExpectAction();
  return id;
}

void ReaperPool::Renew(uint64_t epoch) {
  if (epoch == epoch_) return;
  epoch_ = epoch;
  const std::vector<uint64_t> idle = idle_;
  for (const uint64_t id : idle) {
    if (reapers_.at(id).kind != Kind::kPlain) Retire(id);
  }
}

void ReaperPool::MakeRoom() {
  if (!idle_.empty()) Retire(idle_.front());
}

bool ReaperPool::MayStart(const Reaper& reaper) const {
  const auto most = reaper.warm ? kMaxStarting - 1 : kMaxStarting;
  return std::count_if(reapers_.begin(), reapers_.end(), [](const auto& entry) { return entry.second.may_start; }) < most;
}

bool ReaperPool::MayPrestart(uint64_t id) {
  reapers_.at(id).prestart_turn = ++prestart_turn_;
  const auto others = std::count_if(reapers_.begin(), reapers_.end(),
                                    [id](const auto& entry) { return entry.second.prestarts && entry.first != id; });
  if (others < static_cast<std::ptrdiff_t>(options_.prestart)) return true;
  const auto idlest = std::find_if(idle_.begin(), idle_.end(), [this](uint64_t idle) { return reapers_.at(idle).prestarts; });
  if (idlest == idle_.end() || prestart_turn_ - reapers_.at(*idlest).prestart_turn <= kPrestartTurns * options_.prestart) {
    return false;
  }
  Retire(*idlest);
  return true;
}

void ReaperPool::AwaitReady(uint64_t id) {
  Reaper& reaper = reapers_.at(id);
  reaper.run = 0;
  reaper.killing = false;
  reaper.unanswered = 0;
  reaper.starting = true;
  reaper.since = Now();
  ExpectAction();
}

void ReaperPool::Release(uint64_t id, bool wanted) {
  Reaper& reaper = reapers_.at(id);
  reaper.run = 0;
  reaper.killing = reaper.starting = reaper.may_start = false;
  reaper.unanswered = 0;
  if (reaper.epoch == epoch_ && (wanted || idle_.size() < options_.idle_reapers)) {
    idle_.push_back(id);
  } else {
    Retire(id);
  }
}

void ReaperPool::Retire(uint64_t id) {
  Reaper& reaper = reapers_.at(id);
  if (reaper.retired) return;
  reaper.retired = true;
  reaper.may_start = reaper.prestarts = false;
  reaper.since = Now();
  poller_.Unwatch(reaper.process.control());
  reaper.process.Hangup();
  reaper.process.Signal(SIGCONT);
  idle_.erase(std::remove(idle_.begin(), idle_.end(), id), idle_.end());
  ExpectAction();
}

void ReaperPool::Remove(uint64_t id) {
  Retire(id);
  Reaper& reaper = reapers_.at(id);
  poller_.Unwatch(reaper.process.pidfd());
  reaper.process.Collect(true);
  reaper.group.Kill();
  emptying_.push_back(std::move(reaper.group));
  reapers_.erase(id);
  RemoveGroups();
}

void ReaperPool::RemoveGroups() {
  emptying_.erase(std::remove_if(emptying_.begin(), emptying_.end(), [](ControlGroup& group) { return group.Remove(); }),
                  emptying_.end());
  if (!emptying_.empty()) ExpectAction();
}

void ReaperPool::Terminate(uint64_t id) {
  Reaper& reaper = reapers_.at(id);
  reaper.process.SendCommand(protocol::kTerminate);
  reaper.process.Signal(SIGCONT);
}

// One that cannot be told, because its socket is full or closed, counts as one that does not answer.
void ReaperPool::Kill(uint64_t id) {
  ExpectClean(id);
  Reaper& reaper = reapers_.at(id);
  reaper.unanswered++;
  reaper.process.SendCommand(protocol::kKill);
  reaper.process.Signal(SIGCONT);
}

void ReaperPool::ExpectClean(uint64_t id) {
  Reaper& reaper = reapers_.at(id);
  if (reaper.killing) return;
  reaper.killing = true;
  reaper.killing_since = Now();
}

void ReaperPool::ExpectAction() {
  if (tend_at_ == kNever) tend_at_ = After(Now(), kTendNs);
}

void ReaperPool::Tend() {
  const uint64_t now = Now();
  bool expecting = false;
  for (auto& [id, reaper] : reapers_) {
    if (reaper.run == 0 && reaper.greeted && !reaper.starting && !reaper.retired) continue;
    expecting = true;
    const bool mute = !reaper.greeted && now - reaper.since >= kGreetNs;
    const bool stuck = reaper.starting && now - reaper.since >= kStartNs;
    const bool staying = reaper.retired && now - reaper.since >= kLeaveNs;
    const bool deaf = reaper.unanswered >= kUnansweredKills;
    const bool unclean = reaper.killing && now - reaper.killing_since >= kCleanNs;
    if (mute || stuck || staying || deaf || unclean) {
      End(reaper);
    } else if (reaper.killing && !reaper.retired) {
      Kill(id);
    } else {
      reaper.process.Signal(SIGCONT);
    }
  }
  tend_at_ = expecting ? After(now, kTendNs) : kNever;
  RemoveGroups();
}

void ReaperPool::HangUpAndReap() {
  for (auto& entry : reapers_) Retire(entry.first);
  const uint64_t until = After(Now(), kStopNs);
  for (auto& entry : reapers_) AwaitEnd(entry.second.process, until);
  for (auto& entry : reapers_) End(entry.second);
  const uint64_t last = After(Now(), kEndNs);
  for (auto& entry : reapers_) {
    AwaitEnd(entry.second.process, last);
    if (entry.second.process.pidfd() >= 0) poller_.Unwatch(entry.second.process.pidfd());
    emptying_.push_back(std::move(entry.second.group));
  }
  reapers_.clear();
  // Who made the folder removes what is not empty yet.
  RemoveGroups();
}

}  // namespace skillscale
