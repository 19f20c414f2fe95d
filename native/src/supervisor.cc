// See supervisor.h.
#include "supervisor.h"

#include <pthread.h>
#include <signal.h>

#include <utility>

namespace skillscale {

Supervisor::Supervisor(SupervisorOptions options, std::function<void()> notify)
    : notify_(std::move(notify)),
      control_(std::move(options), &poller_, [this](Event event) { Emit(std::move(event)); }) {}

Supervisor::~Supervisor() { Stop(); }

bool Supervisor::Start(StepError* failure) {
  if (!poller_.Open(failure) || !control_.Open(failure)) return false;
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
  bool first;
  {
    std::lock_guard lock(mutex_);
    if (stopping_) return;
    first = commands_.empty();
    commands_.push_back(std::move(command));
  }
  // Whom it wakes takes the lock at once.
  if (first) poller_.Wake();
}

void Supervisor::Spawn(RunRequest request) {
  const uint64_t id = request.id;
  Post({Command::Type::kSpawn, id, 0, std::make_unique<Run>(std::move(request), &poller_)});
}

void Supervisor::Terminate(uint64_t id) { Post({Command::Type::kTerminate, id, 0, nullptr}); }

void Supervisor::Acknowledge(uint64_t id, uint64_t bytes) { Post({Command::Type::kAcknowledge, id, bytes, nullptr}); }

void Supervisor::Close() { Post({Command::Type::kClose, 0, 0, nullptr}); }

void Supervisor::Stop() {
  {
    std::lock_guard lock(mutex_);
    if (joinable_) poller_.Wake();
    stopping_ = true;
  }
  if (joinable_) pthread_join(thread_, nullptr);
  joinable_ = false;
  commands_.clear();
  control_.End();
  poller_.Close();
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
  control_.FillPool();
  while (!stopped_ && !control_.finished()) {
    poller_.ArmTimer(control_.wake_at());
    const int count = poller_.Wait();
    if (count < 0) break;
    for (int i = 0; i < count && !stopped_; i++) Handle(poller_.source(i), poller_.id(i));
  }
  control_.End();
  Event closed;
  closed.type = EventType::kClosed;
  Emit(std::move(closed));
}

void Supervisor::Handle(Source source, uint64_t id) {
  switch (source) {
    case Source::kWake:
      return HandleCommands();
    case Source::kTimer:
      poller_.ClearTimer();
      return control_.HandleTimer();
    case Source::kControl:
      return control_.HandleControl(id);
    case Source::kPidfd:
      return control_.HandlePidfd(id);
    case Source::kInput:
    case Source::kStdout:
    case Source::kStderr:
      return control_.HandleStream(source, id);
  }
}

void Supervisor::HandleCommands() {
  poller_.ClearWake();
  std::vector<Command> commands;
  {
    std::lock_guard lock(mutex_);
    commands.swap(commands_);
    stopped_ = stopping_;
  }
  for (size_t i = 0; i < commands.size() && !stopped_; i++) HandleCommand(commands[i]);
}

void Supervisor::HandleCommand(Command& command) {
  switch (command.type) {
    case Command::Type::kSpawn:
      return control_.Spawn(std::move(command.run));
    case Command::Type::kTerminate:
      return control_.Terminate(command.id);
    case Command::Type::kAcknowledge:
      return control_.Acknowledge(command.id, command.bytes);
    case Command::Type::kClose:
      return control_.Close();
  }
}

}  // namespace skillscale
