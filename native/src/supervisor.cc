// See supervisor.h.
#include "supervisor.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>

namespace skillscale {
namespace {

constexpr uint64_t kSecond = 1'000'000'000;
constexpr uint64_t kLingerNs = kSecond;
constexpr uint64_t kStopNs = 5 * kSecond;
constexpr int kPipeBytes = 1024 * 1024;
constexpr size_t kScratchBytes = 256 * 1024;
constexpr size_t kDefaultPipeBytes = 64 * 1024;
constexpr int kReadsPerWake = 16;
constexpr int kKindShift = 56;
constexpr uint64_t kIdMask = (uint64_t{1} << kKindShift) - 1;

uint64_t Now() {
  timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return static_cast<uint64_t>(time.tv_sec) * kSecond + static_cast<uint64_t>(time.tv_nsec);
}

uint64_t After(uint64_t now, uint64_t delay) { return delay > UINT64_MAX - now ? UINT64_MAX : now + delay; }

}  // namespace

Supervisor::Run::Run(RunRequest wanted)
    : request(std::move(wanted)), outputs{Output(request.stdout_bytes), Output(request.stderr_bytes)} {
  result.type = EventType::kDone;
  result.id = request.id;
}

Supervisor::Supervisor(SupervisorOptions options, std::function<void()> notify)
    : options_(std::move(options)), notify_(std::move(notify)) {}

Supervisor::~Supervisor() { Stop(); }

bool Supervisor::Start(StepError* failure) {
  epoll_.Reset(epoll_create1(EPOLL_CLOEXEC));
  wake_.Reset(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  timer_.Reset(timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK));
  null_.Reset(open("/dev/null", O_RDWR | O_CLOEXEC));
  if (!epoll_ || !wake_ || !timer_ || !null_ || !Watch(wake_.get(), Kind::kWake, 0, EPOLLIN) ||
      !Watch(timer_.get(), Kind::kTimer, 0, EPOLLIN)) {
    *failure = {errno, null_ ? protocol::kEpoll : protocol::kOpen};
    return false;
  }
  scratch_.resize(kScratchBytes);
  // The thread starts with every signal blocked: the host's handlers never run on it, and a write to a pipe that
  // nobody reads is an error code.
  sigset_t all;
  sigset_t previous;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &previous);
  const int error = pthread_create(&thread_, nullptr, ThreadMain, this);
  pthread_sigmask(SIG_SETMASK, &previous, nullptr);
  joinable_ = error == 0;
  if (!joinable_) *failure = {error, protocol::kThread};
  return joinable_;
}

void* Supervisor::ThreadMain(void* self) {
  pthread_setname_np(pthread_self(), "skillscale");
  static_cast<Supervisor*>(self)->Loop();
  return nullptr;
}

void Supervisor::Post(Command command) {
  bool wake;
  {
    std::lock_guard lock(mutex_);
    wake = commands_.empty();
    commands_.push_back(std::move(command));
  }
  if (wake) eventfd_write(wake_.get(), 1);
}

void Supervisor::Spawn(RunRequest request) {
  const uint64_t id = request.id;
  Post({Command::Type::kSpawn, id, 0, std::make_unique<Run>(std::move(request))});
}

void Supervisor::Terminate(uint64_t id) { Post({Command::Type::kTerminate, id, 0, nullptr}); }

void Supervisor::Acknowledge(uint64_t id, uint64_t bytes) { Post({Command::Type::kAcknowledge, id, bytes, nullptr}); }

void Supervisor::Close() { Post({Command::Type::kClose, 0, 0, nullptr}); }

void Supervisor::Stop() {
  if (!joinable_) return;
  joinable_ = false;
  {
    std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  eventfd_write(wake_.get(), 1);
  pthread_join(thread_, nullptr);
}

std::deque<Event> Supervisor::TakeEvents() {
  std::deque<Event> taken;
  std::lock_guard lock(mutex_);
  taken.swap(events_);
  return taken;
}

void Supervisor::Emit(Event event) {
  bool first;
  {
    std::lock_guard lock(mutex_);
    first = events_.empty();
    events_.push_back(std::move(event));
  }
  if (first) notify_();
}

void Supervisor::Loop() {
  FillPool();
  epoll_event ready[64];
  while (!finished_) {
    ArmTimer();
    const int count = epoll_wait(epoll_.get(), ready, 64, -1);
    if (count < 0 && errno != EINTR) break;
    for (int i = 0; i < count && !finished_; i++) {
      const uint64_t id = ready[i].data.u64 & kIdMask;
      const Kind kind = static_cast<Kind>(ready[i].data.u64 >> kKindShift);
      switch (kind) {
        case Kind::kWake:
          HandleCommands();
          break;
        case Kind::kTimer:
          HandleTimer();
          break;
        case Kind::kControl:
          HandleControl(id);
          break;
        case Kind::kPidfd:
          HandlePidfd(id);
          break;
        case Kind::kInput:
        case Kind::kStdout:
        case Kind::kStderr: {
          const auto run = runs_.find(id);
          if (run == runs_.end()) break;
          if (kind == Kind::kInput) {
            Feed(*run->second);
          } else {
            Drain(*run->second, kind == Kind::kStdout ? 0 : 1);
          }
          Settle(id);
          break;
        }
      }
    }
    LeaveIfDone();
  }
  HangUpAndReap();
  runs_.clear();
  Event closed;
  closed.type = EventType::kClosed;
  Emit(std::move(closed));
}

void Supervisor::HandleCommands() {
  eventfd_t ignored;
  eventfd_read(wake_.get(), &ignored);
  std::vector<Command> commands;
  {
    std::lock_guard lock(mutex_);
    commands.swap(commands_);
    if (stopping_) finished_ = true;
  }
  if (finished_) return;
  for (Command& command : commands) {
    if (command.type == Command::Type::kSpawn) {
      Run& run = *runs_.emplace(command.id, std::move(command.run)).first->second;
      if (closing_) {
        EndRun(run, Outcome::kClosing);
        Settle(command.id);
      } else {
        waiting_.push_back(command.id);
        Schedule();
      }
      continue;
    }
    if (command.type == Command::Type::kClose) {
      closing_ = true;
      TerminateAll();
      continue;
    }
    const auto found = runs_.find(command.id);
    if (found == runs_.end()) continue;
    Run& run = *found->second;
    if (command.type == Command::Type::kTerminate) {
      EndRun(run, Outcome::kTerminated);
    } else {
      run.in_flight -= std::min(run.in_flight, command.bytes);
      Resume(run);
    }
    Settle(command.id);
  }
}

void Supervisor::HandleTimer() {
  uint64_t ignored;
  [[maybe_unused]] const ssize_t count = read(timer_.get(), &ignored, sizeof ignored);
  armed_at_ = 0;
  const uint64_t now = Now();
  while (!deadlines_.empty() && deadlines_.begin()->first <= now) {
    const uint64_t id = deadlines_.begin()->second;
    Run& run = *runs_.at(id);
    const Deadline deadline = run.deadline;
    SetDeadline(run, Deadline::kNone, 0);
    switch (deadline) {
      case Deadline::kTimeout:
        EndRun(run, Outcome::kTimedOut);
        break;
      case Deadline::kGrace: {
        const auto reaper = reapers_.find(run.reaper);
        if (reaper != reapers_.end()) reaper->second.process.SendCommand(protocol::kKill);
        break;
      }
      case Deadline::kLinger:
        CloseStream(run, 0);
        CloseStream(run, 1);
        break;
      case Deadline::kNone:
        break;
    }
    Settle(id);
  }
}

void Supervisor::HandleControl(uint64_t reaper_id) {
  for (;;) {
    const auto found = reapers_.find(reaper_id);
    if (found == reapers_.end() || found->second.process.control() < 0) return;
    protocol::Reply reply;
    const int result = found->second.process.Receive(&reply);
    if (result == 0) return;
    if (result < 0) {
      // Its pidfd tells the rest. A reaper that still lives after this kills its tree at the end of its socket.
      Unwatch(found->second.process.control());
      found->second.process.Hangup();
      return;
    }
    HandleReply(reaper_id, found->second, reply);
  }
}

void Supervisor::HandleReply(uint64_t reaper_id, Reaper& reaper, const protocol::Reply& reply) {
  if (reply.type == protocol::kHello) {
    reaper.greeted = true;
    if (reply.error != 0) {
      Event failed;
      failed.type = EventType::kFailed;
      failed.failure = {reply.error, protocol::kOpen};
      if (!ready_) Emit(std::move(failed));
      ready_ = closing_ = true;
      TerminateAll();
    } else if (!ready_) {
      ready_ = true;
      Emit(Event{});
    }
    return;
  }
  const uint64_t run_id = reaper.run;
  const auto found = runs_.find(run_id);
  if (found == runs_.end()) return;
  Run& run = *found->second;
  if (reply.type == protocol::kSpawnFailed) {
    FailRun(run, {reply.error, reply.step});
  } else if (reply.type == protocol::kExited) {
    run.phase = Phase::kExited;
    run.result.status = reply.status;
    run.result.wall_ns = reply.wall_ns;
    run.result.user_us = reply.user_us;
    run.result.system_us = reply.system_us;
    run.result.max_rss_kib = reply.max_rss_kib;
    if (run.deadline == Deadline::kTimeout) SetDeadline(run, Deadline::kNone, 0);
  }
  if (reply.clean != 0) {
    run.clean = true;
    run.reaper = 0;
    ReleaseReaper(reaper_id);
  }
  Settle(run_id);
  if (reply.clean != 0) Schedule();
}

void Supervisor::HandlePidfd(uint64_t reaper_id) {
  HandleControl(reaper_id);
  // One that died before it said anything would only die again.
  if (LoseReaper(reaper_id) && !closing_) FillPool();
  Schedule();
}

bool Supervisor::Watch(int fd, Kind kind, uint64_t id, uint32_t events) {
  epoll_event event{};
  event.events = events;
  event.data.u64 = static_cast<uint64_t>(kind) << kKindShift | id;
  return epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, fd, &event) == 0;
}

// Closing alone is not enough: a process that the host is forking at this moment may share the open file.
void Supervisor::Unwatch(int fd) { epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, fd, nullptr); }

void Supervisor::SetDeadline(Run& run, Deadline deadline, uint64_t at) {
  if (run.deadline != Deadline::kNone) deadlines_.erase({run.deadline_at, run.request.id});
  run.deadline = at == UINT64_MAX ? Deadline::kNone : deadline;
  run.deadline_at = at;
  if (run.deadline != Deadline::kNone) deadlines_.emplace(at, run.request.id);
}

// A timer that is set for too early costs one idle wake-up; setting it anew for every run would cost a call each.
void Supervisor::ArmTimer() {
  if (deadlines_.empty()) return;
  const uint64_t at = std::max<uint64_t>(deadlines_.begin()->first, 1);
  if (armed_at_ != 0 && armed_at_ <= at) return;
  armed_at_ = at;
  itimerspec when{};
  when.it_value.tv_sec = static_cast<time_t>(at / kSecond);
  when.it_value.tv_nsec = static_cast<long>(at % kSecond);
  timerfd_settime(timer_.get(), TFD_TIMER_ABSTIME, &when, nullptr);
}

uint64_t Supervisor::StartReaper(StepError* failure) {
  Reaper reaper;
  if (!reaper.process.Start(options_.reaper_path.c_str(), null_.get(), failure)) return 0;
  const uint64_t id = next_reaper_++;
  if (!Watch(reaper.process.control(), Kind::kControl, id, EPOLLIN) ||
      !Watch(reaper.process.pidfd(), Kind::kPidfd, id, EPOLLIN)) {
    *failure = {errno, protocol::kEpoll};
    Unwatch(reaper.process.control());
    reaper.process.Hangup();
    reaper.process.Kill();
    reaper.process.Collect(true);
    return 0;
  }
  reapers_.emplace(id, std::move(reaper));
  return id;
}

void Supervisor::RetireReaper(Reaper& reaper) {
  if (reaper.retired) return;
  reaper.retired = true;
  if (reaper.process.control() >= 0) Unwatch(reaper.process.control());
  reaper.process.Hangup();
}

// Returns whether the reaper had been at work at all.
bool Supervisor::LoseReaper(uint64_t reaper_id) {
  const auto found = reapers_.find(reaper_id);
  if (found == reapers_.end()) return false;
  Reaper& reaper = found->second;
  RetireReaper(reaper);
  Unwatch(reaper.process.pidfd());
  reaper.process.Collect(true);
  const uint64_t run_id = reaper.run;
  const bool greeted = reaper.greeted;
  reapers_.erase(found);
  idle_.erase(std::remove(idle_.begin(), idle_.end(), reaper_id), idle_.end());
  if (!greeted && !ready_) {
    Event failed;
    failed.type = EventType::kFailed;
    failed.failure = {ECHILD, protocol::kExecve};
    ready_ = closing_ = true;
    Emit(std::move(failed));
    TerminateAll();
  }
  const auto run = runs_.find(run_id);
  if (run == runs_.end()) return greeted;
  run->second->reaper = 0;
  run->second->clean = true;
  if (run->second->phase != Phase::kExited) EndRun(*run->second, Outcome::kLost);
  Settle(run_id);
  return greeted;
}

void Supervisor::ReleaseReaper(uint64_t reaper_id) {
  Reaper& reaper = reapers_.at(reaper_id);
  reaper.run = 0;
  if (closing_ || (waiting_.empty() && idle_.size() >= options_.idle_reapers)) {
    RetireReaper(reaper);
  } else {
    idle_.push_back(reaper_id);
  }
}

void Supervisor::FillPool() {
  StepError failure;
  while (reapers_.size() < options_.min_reapers) {
    const uint64_t id = StartReaper(&failure);
    if (id == 0) {
      if (ready_) return;
      Event failed;
      failed.type = EventType::kFailed;
      failed.failure = failure;
      ready_ = closing_ = finished_ = true;
      Emit(std::move(failed));
      return;
    }
    idle_.push_back(id);
  }
}

void Supervisor::Schedule() {
  while (!waiting_.empty()) {
    const auto found = runs_.find(waiting_.front());
    if (found == runs_.end() || found->second->phase != Phase::kWaiting) {
      waiting_.pop_front();
      continue;
    }
    if (idle_.empty()) {
      if (reapers_.size() >= options_.max_reapers) return;
      StepError failure;
      const uint64_t id = StartReaper(&failure);
      if (id == 0) {
        // With others at work, one of them takes the run later.
        if (std::any_of(reapers_.begin(), reapers_.end(), [](const auto& entry) { return entry.second.run != 0; })) return;
        waiting_.pop_front();
        FailRun(*found->second, failure);
        Settle(found->first);
        continue;
      }
      idle_.push_back(id);
    }
    const uint64_t reaper_id = idle_.back();
    idle_.pop_back();
    waiting_.pop_front();
    const uint64_t run_id = found->first;
    Dispatch(*found->second, reaper_id);
    Settle(run_id);
  }
}

bool Supervisor::OpenStreams(Run& run, Descriptor far[3], StepError* failure) {
  const auto open_pipe = [failure](Descriptor* reader, Descriptor* writer) {
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) < 0) {
      *failure = {errno, protocol::kPipe};
      return false;
    }
    reader->Reset(ends[0]);
    writer->Reset(ends[1]);
    return true;
  };
  if (run.request.input_size > 0) {
    if (!open_pipe(&far[0], &run.input)) return false;
    fcntl(run.input.get(), F_SETFL, O_NONBLOCK);
    if (run.request.input_size > kDefaultPipeBytes) fcntl(run.input.get(), F_SETPIPE_SZ, kPipeBytes);
  }
  for (int i = 0; i < 2; i++) {
    if (!open_pipe(&run.streams[i], &far[i + 1])) return false;
    fcntl(run.streams[i].get(), F_SETFL, O_NONBLOCK);
  }
  return true;
}

void Supervisor::Dispatch(Run& run, uint64_t reaper_id) {
  Descriptor far[3];
  StepError failure{E2BIG, protocol::kExecve};
  Reaper& reaper = reapers_.at(reaper_id);
  const bool too_big = run.request.payload.size() > protocol::kPayloadBytes || run.request.argc > protocol::kStrings ||
                       run.request.envc > protocol::kStrings;
  if (too_big || !OpenStreams(run, far, &failure)) {
    idle_.push_back(reaper_id);
    FailRun(run, failure);
    return;
  }
  const int streams[3] = {far[0] ? far[0].get() : null_.get(), far[1].get(), far[2].get()};
  const RunRequest& request = run.request;
  if (!reaper.process.SendSpawn(request.payload, request.argc, request.envc, request.limits, streams, &failure)) {
    if (failure.step == protocol::kSendmsg) {
      // It died while idle and its pidfd was not read yet: nothing was started, so another one takes the run.
      RetireReaper(reaper);
      for (int i = 0; i < 2; i++) CloseStream(run, i);
      CloseInput(run);
      waiting_.push_front(request.id);
      return;
    }
    idle_.push_back(reaper_id);
    FailRun(run, failure);
    return;
  }
  run.request.payload = std::string();
  run.phase = Phase::kSent;
  run.reaper = reaper_id;
  reaper.run = request.id;
  if (request.timeout_ns != protocol::kUnlimited) SetDeadline(run, Deadline::kTimeout, After(Now(), request.timeout_ns));
  for (int i = 0; i < 2; i++) {
    run.watched[i] = Watch(run.streams[i].get(), i == 0 ? Kind::kStdout : Kind::kStderr, request.id, EPOLLIN);
  }
  if (run.input) Feed(run);
}

void Supervisor::FailRun(Run& run, const StepError& failure) {
  run.result.failure = failure;
  if (run.result.outcome == Outcome::kEnded) run.result.outcome = Outcome::kSpawnFailed;
  run.phase = Phase::kExited;
  run.clean = true;
  for (int i = 0; i < 2; i++) CloseStream(run, i);
}

// The first reason stays. What a run writes from now on is read and thrown away, so that it can end.
void Supervisor::EndRun(Run& run, Outcome outcome) {
  const bool limit = outcome == Outcome::kStdoutLimit || outcome == Outcome::kStderrLimit;
  if (run.result.outcome == Outcome::kEnded && (limit || run.phase != Phase::kExited)) run.result.outcome = outcome;
  if (run.request.window_bytes > 0) {
    run.outputs[0].Discard();
    run.outputs[1].Discard();
    run.in_flight = 0;
    Resume(run);
  }
  CloseInput(run);
  if (run.ending) return;
  run.ending = true;
  if (run.phase == Phase::kWaiting) {
    run.phase = Phase::kExited;
    run.clean = true;
    return;
  }
  const auto reaper = reapers_.find(run.reaper);
  if (run.clean || reaper == reapers_.end()) return;
  reaper->second.process.SendCommand(protocol::kTerminate);
  SetDeadline(run, Deadline::kGrace, After(Now(), run.request.grace_ns));
}

void Supervisor::TerminateAll() {
  std::vector<uint64_t> ids;
  for (const auto& entry : runs_) ids.push_back(entry.first);
  for (const uint64_t id : ids) {
    EndRun(*runs_.at(id), Outcome::kClosing);
    Settle(id);
  }
}

void Supervisor::Feed(Run& run) {
  if (!run.input) return;
  while (run.written < run.request.input_size) {
    const ssize_t count = write(run.input.get(), run.request.input + run.written, run.request.input_size - run.written);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0 && errno == EAGAIN) {
      if (!run.input_watched) {
        run.input_watched = Watch(run.input.get(), Kind::kInput, run.request.id, EPOLLOUT);
        if (!run.input_watched) break;
      }
      return;
    }
    if (count <= 0) break;
    run.written += static_cast<size_t>(count);
  }
  CloseInput(run);
}

void Supervisor::CloseInput(Run& run) {
  if (run.input_watched) Unwatch(run.input.get());
  run.input_watched = false;
  run.input.Reset();
}

void Supervisor::Drain(Run& run, int index) {
  Output& output = run.outputs[index];
  const uint64_t window = run.request.window_bytes;
  for (int reads = 0; run.streams[index] && (run.clean || reads < kReadsPerWake); reads++) {
    size_t limit = SIZE_MAX;
    if (window > 0 && !run.ending) {
      if (run.in_flight >= window) {
        Pause(run);
        return;
      }
      limit = std::min<size_t>(window - run.in_flight, kDefaultPipeBytes);
    }
    const ssize_t count = output.Read(run.streams[index].get(), scratch_.data(), scratch_.size(), limit);
    if (count < 0 && errno == EAGAIN) return;
    if (count <= 0) {
      CloseStream(run, index);
      return;
    }
    if (static_cast<size_t>(count) >= kDefaultPipeBytes && !run.enlarged[index] && window == 0) {
      run.enlarged[index] = true;
      fcntl(run.streams[index].get(), F_SETPIPE_SZ, kPipeBytes);
    }
    if (window > 0 && output.pending() > 0 && !run.ending) {
      Event event;
      event.type = EventType::kOutput;
      event.id = run.request.id;
      event.stream = static_cast<uint32_t>(index + 1);
      event.bytes[0] = output.Take();
      run.in_flight += event.bytes[0].size();
      Emit(std::move(event));
    }
    if (output.lost() || (output.overflowed() && run.request.fail_on_overflow)) {
      EndRun(run, index == 0 ? Outcome::kStdoutLimit : Outcome::kStderrLimit);
    }
  }
}

void Supervisor::CloseStream(Run& run, int index) {
  if (run.watched[index]) Unwatch(run.streams[index].get());
  run.watched[index] = false;
  run.streams[index].Reset();
}

void Supervisor::Pause(Run& run) {
  for (int i = 0; i < 2; i++) {
    if (run.watched[i]) Unwatch(run.streams[i].get());
    run.watched[i] = false;
  }
}

void Supervisor::Resume(Run& run) {
  if (run.request.window_bytes > 0 && run.in_flight >= run.request.window_bytes) return;
  for (int i = 0; i < 2; i++) {
    if (run.streams[i] && !run.watched[i] && run.phase != Phase::kWaiting) {
      run.watched[i] = Watch(run.streams[i].get(), i == 0 ? Kind::kStdout : Kind::kStderr, run.request.id, EPOLLIN);
    }
  }
}

// Moves a run as far as it can go after any change to it, and forgets it when it is done.
void Supervisor::Settle(uint64_t run_id) {
  const auto found = runs_.find(run_id);
  if (found == runs_.end()) return;
  Run& run = *found->second;
  if (!run.clean) return;
  CloseInput(run);
  if (run.deadline == Deadline::kTimeout || run.deadline == Deadline::kGrace) SetDeadline(run, Deadline::kNone, 0);
  Drain(run, 0);
  Drain(run, 1);
  if (!run.streams[0] && !run.streams[1]) {
    Finish(run);
    SetDeadline(run, Deadline::kNone, 0);
    runs_.erase(found);
    return;
  }
  const bool paused = (run.streams[0] && !run.watched[0]) || (run.streams[1] && !run.watched[1]);
  if (!paused && run.deadline == Deadline::kNone) SetDeadline(run, Deadline::kLinger, After(Now(), kLingerNs));
}

void Supervisor::Finish(Run& run) {
  Event& result = run.result;
  for (int i = 0; i < 2; i++) {
    result.truncated[i] = run.outputs[i].overflowed();
    result.bytes[i] = run.outputs[i].Take();
    result.bytes[i].Shrink();
  }
  Emit(std::move(result));
}

void Supervisor::LeaveIfDone() {
  if (closing_ && runs_.empty()) finished_ = true;
}

void Supervisor::HangUpAndReap() {
  for (auto& entry : reapers_) RetireReaper(entry.second);
  const uint64_t until = Now() + kStopNs;
  for (auto& entry : reapers_) {
    ReaperProcess& process = entry.second.process;
    while (!process.Collect(false)) {
      const uint64_t now = Now();
      if (now >= until) break;
      pollfd ended{process.pidfd(), POLLIN, 0};
      poll(&ended, 1, static_cast<int>((until - now) / 1'000'000 + 1));
    }
  }
  reapers_.clear();
}

}  // namespace skillscale
