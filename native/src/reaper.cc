// skillscale-reaper: owns one process tree at a time on behalf of a supervisor.
//
// It is the child subreaper of what it starts, so every descendant that loses its parent becomes its child. It has one
// thread and two descriptors of its own: the control socket (3) and a signalfd for SIGCHLD; the descriptors of a run are
// held only while it is being started. All signals are blocked, so that a script cannot end its reaper with anything but
// SIGKILL. Zombies are found by a peek that leaves them waitable and are then reaped by pid.
//
// First it is told how to live: as a process among others, or as the first process of a cell (cell.h), where each run finds
// its own view. A run that uses more memory, processes or disk than its whole tree may is killed (reaper_limits.cc).
//
//   configured ──▶ idle ──Spawn──▶ running ──main exits──▶ emptying ──nobody left──▶ idle
//                                     │ Terminate: SIGTERM to all, stay; emptying then waits for Kill or for the last to leave
//                                     │ Kill (answered at once), end of file, a limit, or a main process that leaves others
//                                     │ behind: SIGKILL to all, in rounds
//
// When the control socket reaches its end the supervisor is gone: the tree is killed and the reaper exits. A packet that
// is not valid ends the same way, with status 2.
#include "reaper.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <utility>

#include "probe.h"
#include "rights.h"

namespace skillscale {
namespace {

constexpr int kFirstRoundMilliseconds = 2;
constexpr int kLastRoundMilliseconds = 100;
constexpr uint64_t kOthers = 5;
constexpr uint64_t kSparePauseNs = 5'000'000;

// Goes through the door into a control group, of which all that follows is part.
bool Join(int door, StepError* failure) {
  return write(door, "0", 1) == 1 || Fails(failure, protocol::kControlGroup);
}

}  // namespace

void Reaper::Reply(protocol::Reply reply, int descriptor) {
  reply.magic = protocol::kMagic;
  iovec part{&reply, sizeof reply};
  if (!SendPacket(protocol::kControlDescriptor, &part, 1, &descriptor, descriptor >= 0 ? 1 : 0, 0)) leaving_ = true;
}

void Reaper::Say(protocol::ReplyType type, uint32_t detail) {
  protocol::Reply reply{};
  reply.type = type;
  reply.detail = detail;
  Reply(reply);
}

bool Reaper::Handle(Packet* packet) {
  const protocol::Command& command = packet->command;
  if (command.type == protocol::kSpawn) return StartRun(packet);
  if (packet->inlined_size != 0 || packet->descriptor_count != 0 || command.payload_bytes != 0) return false;
  switch (command.type) {
    case protocol::kTerminate:
      if (occupied_ && !terminating_) {
        terminating_ = true;
        SignalTree(SIGTERM, Order::kChildrenFirst);
        SignalTree(SIGCONT, Order::kChildrenFirst);
      }
      return true;
    case protocol::kKill:
      killing_ = occupied_;
      Say(protocol::kKilling);
      return true;
    default:
      return false;
  }
}

bool Reaper::StartRun(Packet* packet) {
  const protocol::Command& command = packet->command;
  if (occupied_ || starting_ || command.argc == 0 || command.writec > protocol::kStrings || command.readc > protocol::kStrings ||
      command.warmc > protocol::kStrings) {
    return false;
  }
  char* copy = nullptr;
  bool valid;
  {
    Strings strings;
    valid = packet->Unpack(3, HeadSize(command), &copy, &strings);
    SpawnFailure failure{ENOMEM, protocol::kRead};
    if (valid && (!strings || !Begin(packet, strings, false, &failure))) {
      cell_.view().Close();
      FailRun(failure);
    }
  }
  free(copy);
  return valid;
}

bool Reaper::Begin(Packet* packet, const Strings& strings, bool cold, SpawnFailure* failure) {
  started_ = Now();
  spare_at_ = kNever;
  RunPlan plan(packet->command, strings);
  // Those that share its user in a cell are the reaper, who waits outside, the fork server, a keeper, and the one too many by
  // which it shows.
  if (cell_.entered() && plan.limits().tree_tasks < protocol::kUnlimited - kOthers) {
    plan.set_processes(plan.limits().tree_tasks + kOthers);
  }
  may_start_ = (packet->command.flags & protocol::kMayStart) != 0;
  limits_ = plan.limits();
  terminating_ = killing_ = ended_ = warm_ = used_network_ = false;
  exceeded_ = protocol::kNoLimit;
  ForgetCpu();
  main_ = 0;
  const bool expected = !cold && spare_ && plan == plan_ && cell_.view().IsCurrent();
  warm_ = expected && AwaitSpare() && GiveToSpare(*packet);
  if (!warm_) {
    DropSpare();
    plan_ = std::move(plan);
    EndStrangers();
    if (leaving_) {
      *failure = {EAGAIN, protocol::kUnshare};
      return false;
    }
    StepError error;
    Confinement confinement;
    if (!cold && fork_server_.Serves(plan_) && Open(plan_, &confinement, &error)) {
      warm_ = MakeSpare(confinement) && AwaitSpare() && GiveToSpare(*packet);
      if (!warm_) DropSpare();
    }
    if (!warm_) {
      if (!Open(plan_, &confinement, &error)) {
        *failure = {error.error, error.step};
        return false;
      }
      const SpawnPlan spawn{plan_.head(kDirectory),
                            plan_.head(kFile),
                            strings.argv(),
                            strings.envp(),
                            {packet->descriptors[0].get(), packet->descriptors[1].get(), packet->descriptors[2].get()},
                            &limits_,
                            plan_.has(protocol::kConfined) ? &confinement : nullptr};
      main_ = Spawn(spawn, failure);
      if (main_ < 0) {
        main_ = 0;
        return false;
      }
    }
  }
  occupied_ = true;
  MeasureSoon();
  return true;
}

// Makes what a run finds, and the rules that it is under.
bool Reaper::Open(const RunPlan& plan, Confinement* confinement, StepError* failure) {
  ViewPlan view = plan.view();
  view.may_stay = !plan.ahead() && fork_server_.Serves(plan);
  return (!cell_.entered() || cell_.Open(view, failure)) &&
         (!plan.has(protocol::kConfined) || rules_.Make(plan, confinement, failure));
}

void Reaper::FailRun(const SpawnFailure& failure) {
  protocol::Reply reply{};
  reply.type = protocol::kSpawnFailed;
  reply.error = failure.error;
  reply.step = failure.step;
  reply.clean = protocol::kFree;
  Reply(reply);
}

// The group is addressed only while its leader is not reaped: until then the number cannot belong to a stranger.
void Reaper::SignalTree(int signal, Order order) {
  if (main_ > 0) kill(-main_, signal);
  if (fork_server_.pid() > 0) {
    SignalNamespace(signal, fork_server_.pid());
  } else {
    SignalDescendants(signal, order);
  }
}

void Reaper::ReportExit(int status, const rusage& usage, bool left) {
  protocol::Reply reply{};
  reply.type = protocol::kExited;
  reply.pid = main_;
  reply.status = status;
  reply.clean = left ? protocol::kLeft : Freed();
  if (exceeded_ == protocol::kNoLimit && status != 0 && cell_.view().may_have_failed_full()) exceeded_ = protocol::kDiskLimit;
  if (exceeded_ == protocol::kNoLimit && left && WIFEXITED(status) && status != 0 && LackedTasks()) exceeded_ = protocol::kProcessLimit;
  reply.detail = exceeded_;
  reply.error = warm_ ? 1 : 0;
  reply.wall_ns = Now() - started_;
  reply.user_us = Microseconds(usage.ru_utime);
  reply.system_us = Microseconds(usage.ru_stime);
  reply.max_rss_kib = static_cast<uint64_t>(usage.ru_maxrss);
  // It was the main process's that far; which part of the rest is which is not known.
  told_cpu_us_ += reply.user_us + reply.system_us;
  reply.user_us += UntoldCpu();
  if (left) return Reply(reply);
  const Descriptor changes(cell_.view().TakeChanges());
  Reply(reply, changes.get());
}

// Nobody is left of a run. Tells whether the next one may come at once.
protocol::Cleanness Reaper::Freed() {
  used_network_ = UsedNetwork();
  if (used_network_) fork_server_.Rest();
  starting_ = cell_.entered() && !leaving_ && !used_network_ && fork_server_.Wanted(plan_) && may_start_;
  return starting_ || used_network_ ? protocol::kBusy : protocol::kFree;
}

// What a run had is taken away, after all that waits was told.
void Reaper::Leave() {
  const bool was_warm = warm_;
  occupied_ = warm_ = false;
  measure_at_ = kNever;
  ended_number_ = spare_number_;
  const bool keep = !starting_ && !plan_.ahead() && plan_.has(protocol::kConfined) && fork_server_.Serves(plan_) && cell_.IsUntouched() && cell_.view().IsCurrent();
  if (!keep && !cell_.view().Close()) leaving_ = true;
  Forget(used_network_);
  if (leaving_ || !cell_.entered()) return;
  if (used_network_) Say(protocol::kReady, plan_.ahead() && was_warm ? 1 : 0);
  // Where a process will wait, it has the rules.
  if (plan_.warm() == 0 && plan_.has(protocol::kConfined)) rules_.Prepare(plan_);
  const std::string key = plan_.warm() > 0 ? plan_.warm(0) : "";
  again_ = key == last_key_;
  if (!again_) lost_spares_ = plain_spares_ = 0;
  last_key_ = key;
  if (!starting_) {
    // What a start ahead takes is not taken from the way of a result that came quickly.
    if (plan_.ahead() && was_warm) {
      spare_at_ = After(Now(), kSparePauseNs);
    } else {
      AskForSpare(keep);
    }
    if (!spare_) TellIdle();
  } else if (!StartForkServer()) {
    FinishStart();
  }
}

// Reaps every zombie child. Returns true while anybody of the run is left.
bool Reaper::Reap() {
  bool exited = ended_;
  int main_status = ended_status_;
  rusage main_usage = ended_usage_;
  bool left = true;
  for (;;) {
    siginfo_t info{};
    if (waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT | __WALL) < 0) {
      if (errno == EINTR) continue;
      left = false;
      break;
    }
    if (info.si_pid == 0) break;
    int status = 0;
    rusage usage{};
    if (wait4(info.si_pid, &status, WNOHANG | __WALL, &usage) != info.si_pid) continue;
    if (info.si_pid == spare_pid_) spare_pid_ = 0;
    if (info.si_pid == keeper_) keeper_ = 0;
    if (info.si_pid == fading_) {
      fading_ = 0;
      continue;
    }
    if (info.si_pid != fork_server_.pid()) gone_cpu_us_ += Microseconds(usage.ru_utime) + Microseconds(usage.ru_stime);
    if (info.si_pid == fork_server_.pid()) {
      fork_server_.Reaped(status);
    } else if (main_ > 0 && info.si_pid == main_) {
      exited = true;
      main_status = status;
      main_usage = usage;
    }
  }
  ended_ = false;
  if (!occupied_) return left && fork_server_.pid() == 0;
  if (exited && handing_) {
    HandleSpare(true);
    if (!warm_) return true;
  }
  if (main_ > 0 && !exited) return true;
  if (exited) DropKeeper();
  if (left && (fork_server_.pid() > 0 || fading_ > 0)) left = OthersLeft();
  if (exited) {
    ReportExit(main_status, main_usage, left);
    main_ = 0;
    if (left && !terminating_) killing_ = true;
    if (!left) Leave();
  } else if (!left) {
    protocol::Reply reply{};
    reply.type = protocol::kClean;
    reply.clean = Freed();
    reply.user_us = UntoldCpu();
    const Descriptor changes(cell_.view().TakeChanges());
    Reply(reply, changes.get());
    Leave();
  }
  if (!left) terminating_ = killing_ = false;
  return left;
}

// Waits for the first packet and does what it says. False when there is nobody to serve.
bool Reaper::Configure() {
  static Packet packet;
  pollfd ready{protocol::kControlDescriptor, POLLIN, 0};
  while (poll(&ready, 1, -1) < 0 && errno == EINTR) {
  }
  if (packet.Receive(protocol::kControlDescriptor) != Received::kPacket || packet.command.type != protocol::kConfigure) {
    exit_code_ = 2;
    return false;
  }
  char* copy = nullptr;
  StepError failure{ENOMEM, protocol::kRead};
  {
    Strings strings;
    const bool grouped = (packet.command.flags & protocol::kGrouped) != 0;
    if (!packet.Unpack(grouped ? 1 : 0, 0, &copy, &strings)) {
      free(copy);
      exit_code_ = 2;
      return false;
    }
    if (strings && (!grouped || Join(packet.descriptors[0].get(), &failure)) && Settle(packet, strings, &failure)) failure = {};
  }
  free(copy);
  packet.Clear();
  protocol::Reply hello{};
  hello.type = protocol::kHello;
  hello.pid = getpid();
  hello.error = failure.error;
  hello.step = failure.step;
  hello.detail = cell_.mapped();
  Reply(hello);
  return failure.error == 0;
}

bool Reaper::Settle(const Packet& packet, const Strings& strings, StepError* failure) {
  const protocol::Command& command = packet.command;
  std::vector<std::string> readable;
  for (uint32_t i = 0; i < command.argc; i++) readable.emplace_back(strings.argv()[i]);
  if ((command.flags & protocol::kIsolated) != 0) {
    CellPlan plan;
    plan.network = (command.flags & protocol::kNetwork) != 0;
    plan.uid = command.uid;
    plan.gid = command.gid;
    plan.readable = std::move(readable);
    for (uint32_t i = 0; i < command.envc; i++) plan.skills.emplace_back(strings.envp()[i]);
    plan.open = std::min<size_t>(command.writec, plan.skills.size());
    if (!cell_.Enter(plan, failure)) return false;
    readable = cell_.roots();
  }
  rules_.SetReadable(std::move(readable), cell_.entered());
  sigset_t children;
  sigemptyset(&children);
  sigaddset(&children, SIGCHLD);
  signals_.Reset(signalfd(-1, &children, SFD_CLOEXEC | SFD_NONBLOCK));
  if (!signals_ || prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) < 0) {
    *failure = {errno, protocol::kPrctl};
    return false;
  }
  if (!CanListChildren()) {
    *failure = {ENOSYS, protocol::kOpen};
    return false;
  }
  return true;
}

int Reaper::Run() {
  for (int signal = 1; signal < NSIG; signal++) {
    if (signal != SIGKILL && signal != SIGSTOP) ::signal(signal, SIG_DFL);
  }
  sigset_t all;
  sigfillset(&all);
  if (sigprocmask(SIG_SETMASK, &all, nullptr) < 0) return 1;
  if (fcntl(protocol::kControlDescriptor, F_SETFD, FD_CLOEXEC) < 0) return 1;
  if (!Configure()) return exit_code_;

  static Packet packets[2];
  Packet* packet = &packets[0];
  kept_ = &packets[1];
  int round = kFirstRoundMilliseconds;
  for (;;) {
    const bool left = (occupied_ || leaving_ || spare_ || fork_server_.pid() > 0) && Reap();
    if (leaving_) {
      fork_server_.End();
      if (!left) return exit_code_;
      killing_ = true;
    }
    const uint64_t now = Now();
    if ((left || spare_) && !killing_ && measure_at_ <= now) Measure();
    if (start_by_ <= now) {
      fork_server_.GiveUp();
      FinishStart();
    }
    if (import_by_ <= now && !handing_) ReplaceSpare();
    if (spare_at_ <= now) {
      spare_at_ = kNever;
      if (!leaving_) AskForSpare();
    }
    if (tell_at_ <= now) TellIdle();
    const bool rounds = left && killing_;
    if (rounds) SignalTree(SIGKILL, Order::kParentsFirst);
    round = rounds ? (round * 2 < kLastRoundMilliseconds ? round * 2 : kLastRoundMilliseconds) : kFirstRoundMilliseconds;

    pollfd ready[4] = {{signals_.get(), POLLIN, 0},
                       {leaving_ ? -1 : protocol::kControlDescriptor, POLLIN, 0},
                       {fork_server_.socket(), POLLIN, 0},
                       {spare_.get(), POLLIN, 0}};
    int wait = rounds ? round : -1;
    const uint64_t wake = std::min({measure_at_, start_by_, spare_at_, tell_at_, handing_ ? kNever : import_by_});
    if (!rounds && wake != kNever) wait = wake <= now ? 0 : static_cast<int>((wake - now) / 1'000'000 + 1);
    if (poll(ready, 4, wait) < 0) continue;
    if (ready[0].revents != 0) {
      signalfd_siginfo discarded[8];
      while (read(signals_.get(), discarded, sizeof discarded) > 0) {
      }
    }
    if (ready[2].revents != 0 && fork_server_.socket() >= 0) HandleForkServer();
    if (ready[3].revents != 0 && spare_) HandleSpare(false);
    if (ready[1].revents == 0) continue;
    const bool waiting = handing_;
    switch (packet->Receive(protocol::kControlDescriptor)) {
      case Received::kPacket:
        if (Handle(packet)) break;
        [[fallthrough]];
      case Received::kInvalid:
        exit_code_ = 2;
        [[fallthrough]];
      case Received::kEnd:
        leaving_ = true;
        break;
      case Received::kNothing:
        break;
    }
    // Kept to be started cold if the spare never reads it.
    if (handing_ && !waiting) std::swap(packet, kept_);
    packet->Clear();
  }
}

}  // namespace skillscale

// `--probe UID GID` tells what this machine has to confine runs with.
int main(int argc, char** argv) {
  if (argc == 4 && strcmp(argv[1], "--probe") == 0) {
    return skillscale::Probe(static_cast<uid_t>(strtoul(argv[2], nullptr, 10)), static_cast<gid_t>(strtoul(argv[3], nullptr, 10)));
  }
  static skillscale::Reaper reaper;
  const int code = reaper.Run();
  _exit(code);
}
