// skillscale-reaper: owns one process tree at a time on behalf of a supervisor.
//
// It is the child subreaper of what it starts, so every descendant that loses its parent becomes its child. It has one
// thread and two descriptors of its own: the control socket (3) and a signalfd for SIGCHLD; the descriptors of a run are
// held only while it is being started. All signals are blocked, so that a script cannot end its reaper with anything but
// SIGKILL. Zombies are found by a peek that leaves them waitable and are then reaped by pid.
//
// First it is told how to live: as a process among others, or as the first process of a cell (cell.h), where each run finds
// its own view. A run that uses more memory, processes or disk than its whole tree may is killed; that is looked at every
// few milliseconds, since no kernel limit covers a tree without a cgroup.
//
//   configured ──▶ idle ──Spawn──▶ running ──main exits──▶ emptying ──nobody left──▶ idle
//                                     │ Terminate: SIGTERM to all, stay; emptying then waits for Kill or for the last to leave
//                                     │ Kill (answered at once), end of file, a limit, or a main process that leaves others
//                                     │ behind: SIGKILL to all, in rounds
//
// When the control socket reaches its end the supervisor is gone: the tree is killed and the reaper exits. A packet that
// is not valid ends the same way, with status 2.
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <string>
#include <vector>

#include "cell.h"
#include "clock.h"
#include "descriptor.h"
#include "landlock.h"
#include "packet.h"
#include "probe.h"
#include "process_tree.h"
#include "protocol.h"
#include "spawn.h"
#include "step_error.h"
#include "system_calls.h"

namespace skillscale {
namespace {

constexpr int kFirstRoundMilliseconds = 2;
constexpr int kLastRoundMilliseconds = 100;
constexpr uint64_t kOthers = 4;
// A fork server is replaced after so many runs.
constexpr uint32_t kMaxServed = 1000;
constexpr uint64_t kFirstMeasureNs = 5'000'000;
constexpr uint64_t kLastMeasureNs = 40'000'000;

bool CanFilter() {
  static const bool supported = SystemCallFilterSupport() == 0;
  return supported;
}

// What the reaper knows of its fork server.
struct Zygote {
  pid_t pid = 0;
  Descriptor socket;
  std::string key;
  bool ready = false;
  uint32_t served = 0;
};

class Reaper {
 public:
  int Run();

 private:
  bool Configure();
  bool Settle(const Packet& packet, const Strings& strings, StepError* failure);
  bool Handle(Packet* packet);
  bool StartRun(Packet* packet);
  bool Begin(Packet* packet, const Strings& strings, SpawnFailure* failure);
  bool Confine(const protocol::Command& command, const Strings& strings, Confinement* confinement, StepError* failure);
  const SystemCallFilter* FilterFor(uint32_t flags, StepError* failure);
  void FailRun(const SpawnFailure& failure);
  void Measure();
  void Leave();
  bool BeginWarm(const Packet& packet, const Confinement& confinement);
  bool StartZygote();
  void EndZygote();
  void HandleZygote();
  bool OthersLeft() const;
  bool Reap();
  void ReportExit(int status, const rusage& usage, bool clean);
  void SignalTree(int signal, Order order);
  void Say(protocol::ReplyType type);
  void Reply(protocol::Reply reply, int descriptor = -1);

  Descriptor signals_;
  pid_t main_ = 0;
  bool occupied_ = false;
  bool terminating_ = false;
  bool killing_ = false;
  bool leaving_ = false;
  int exit_code_ = 0;
  uint64_t started_ = 0;

  Cell cell_;
  std::vector<std::string> readable_;
  Landlock landlock_;
  // One for each set of flags that matters to it.
  SystemCallFilter filters_[8];
  bool built_[8] = {};
  protocol::Limits limits_;
  protocol::TreeLimit exceeded_ = protocol::kNoLimit;

  Zygote zygote_;
  // The fork server that the last run would have liked, its key and command, and under which filter.
  std::vector<std::string> wanted_;
  uint32_t wanted_flags_ = 0;
  // The fork server has a run that it did not start yet.
  bool forking_ = false;
  // The present run came from it.
  bool warm_ = false;
  // The main process ended, as the fork server tells.
  bool ended_ = false;
  int ended_status_ = 0;
  rusage ended_usage_{};
  uint64_t measure_at_ = kNever;
  uint64_t pause_ = 0;
};

void Reaper::Reply(protocol::Reply reply, int descriptor) {
  reply.magic = protocol::kMagic;
  iovec part{&reply, sizeof reply};
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof descriptor)] = {};
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  if (descriptor >= 0) {
    message.msg_control = control;
    message.msg_controllen = sizeof control;
    cmsghdr* header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(sizeof descriptor);
    memcpy(CMSG_DATA(header), &descriptor, sizeof descriptor);
  }
  while (sendmsg(protocol::kControlDescriptor, &message, MSG_NOSIGNAL) < 0) {
    if (errno == EINTR) continue;
    leaving_ = true;
    return;
  }
}

void Reaper::Say(protocol::ReplyType type) {
  protocol::Reply reply{};
  reply.type = type;
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
  if (occupied_ || command.argc == 0 || command.writec > protocol::kStrings || command.readc > protocol::kStrings ||
      command.warmc > protocol::kStrings) {
    return false;
  }
  char* copy = nullptr;
  bool valid;
  {
    Strings strings;
    valid = packet->Unpack(3, HeadSize(command), &copy, &strings);
    SpawnFailure failure{ENOMEM, protocol::kRead};
    if (valid && (!strings || !Begin(packet, strings, &failure))) {
      cell_.Close();
      FailRun(failure);
    }
  }
  free(copy);
  return valid;
}

bool Reaper::Begin(Packet* packet, const Strings& strings, SpawnFailure* failure) {
  const protocol::Command& command = packet->command;
  StepError error;
  Confinement confinement;
  const bool confined = (command.flags & protocol::kConfined) != 0;
  const ViewPlan view{strings.head(kAt), strings.head(kSkill), strings.head(kInputs), command.limits.disk_bytes};
  if ((cell_.entered() && !cell_.Open(view, &error)) || (confined && !Confine(command, strings, &confinement, &error))) {
    *failure = {error.error, error.step};
    return false;
  }
  limits_ = command.limits;
  // Those that share its user in a cell are the reaper, who waits outside, the fork server, and the one too many by which
  // it shows.
  protocol::Limits& limits = packet->command.limits;
  if (cell_.entered() && limits_.tree_tasks < protocol::kUnlimited - kOthers) {
    limits.processes = std::min(limits.processes, limits_.tree_tasks + kOthers);
  }
  wanted_.clear();
  for (size_t i = 0; i < command.warmc; i++) {
    wanted_.emplace_back(strings.head(kPaths + command.writec + command.readc + i));
  }
  wanted_flags_ = command.flags;
  terminating_ = killing_ = ended_ = false;
  exceeded_ = protocol::kNoLimit;
  started_ = Now();
  warm_ = BeginWarm(*packet, confinement);
  if (!warm_) {
    const SpawnPlan plan{strings.head(kDirectory),
                         strings.head(kFile),
                         strings.argv(),
                         strings.envp(),
                         {packet->descriptors[0].get(), packet->descriptors[1].get(), packet->descriptors[2].get()},
                         &limits,
                         confined ? &confinement : nullptr};
    const pid_t pid = Spawn(plan, failure);
    if (pid < 0) return false;
    main_ = pid;
  }
  occupied_ = true;
  pause_ = kFirstMeasureNs;
  const bool bounded = limits_.tree_bytes != protocol::kUnlimited || limits_.tree_tasks != protocol::kUnlimited ||
                       (cell_.entered() && limits_.disk_bytes != protocol::kUnlimited);
  measure_at_ = bounded ? After(started_, pause_) : kNever;
  return true;
}

// Gives the run to the fork server, if there is one for it.
bool Reaper::BeginWarm(const Packet& packet, const Confinement& confinement) {
  const bool fits = zygote_.ready && !wanted_.empty() && zygote_.key == wanted_[0] && confinement.landlock >= 0;
  if (!fits || !packet.Forward(zygote_.socket.get(), 3, confinement.landlock)) return false;
  zygote_.served++;
  main_ = 0;
  forking_ = true;
  return true;
}

// Starts the fork server that the last run would have liked, for the next one. Not having one costs time, nothing else.
bool Reaper::StartZygote() {
  int ends[2];
  if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) < 0) return false;
  Descriptor near(ends[0]);
  const Descriptor far(ends[1]);
  StepError error;
  Confinement confinement;
  Landlock scope;
  confinement.landlock = scope.BeginScope() ? scope.get() : -1;
  confinement.filter = CanFilter() ? FilterFor(wanted_flags_, &error) : nullptr;
  if (CanFilter() && confinement.filter == nullptr) return false;
  std::vector<char*> argv;
  for (size_t i = 1; i < wanted_.size(); i++) argv.push_back(wanted_[i].data());
  argv.push_back(nullptr);
  static char path[] = "PATH=/usr/local/bin:/usr/bin:/bin";
  static char home[] = "HOME=/tmp";
  static char temporary[] = "TMPDIR=/tmp";
  static char language[] = "LANG=C.UTF-8";
  static char bytecode[] = "PYTHONDONTWRITEBYTECODE=1";
  char* const envp[] = {path, home, temporary, language, bytecode, nullptr};
  const protocol::Limits unlimited;
  const SpawnPlan plan{"/", argv[0], argv.data(), envp, {far.get(), 1, 2}, &unlimited, &confinement};
  SpawnFailure failure{};
  const pid_t pid = Spawn(plan, &failure);
  if (pid < 0) return false;
  zygote_.pid = pid;
  zygote_.socket = std::move(near);
  zygote_.key = wanted_[0];
  zygote_.ready = false;
  zygote_.served = 0;
  return true;
}

void Reaper::EndZygote() {
  zygote_.socket.Reset();
  zygote_.ready = false;
  zygote_.key.clear();
  if (zygote_.pid == 0) return;
  kill(zygote_.pid, SIGKILL);
  while (waitpid(zygote_.pid, nullptr, __WALL) < 0 && errno == EINTR) {
  }
  zygote_.pid = 0;
}

void Reaper::HandleZygote() {
  protocol::Reply reply;
  ssize_t size;
  do {
    size = recv(zygote_.socket.get(), &reply, sizeof reply, MSG_DONTWAIT);
  } while (size < 0 && errno == EINTR);
  if (size < 0 && errno == EAGAIN) return;
  const bool valid = size == sizeof reply && reply.magic == protocol::kMagic && reply.step < protocol::kStepCount;
  if (valid && reply.type == protocol::kHello) {
    zygote_.ready = true;
  } else if (valid && reply.type == protocol::kStarted && forking_ && reply.pid > 1) {
    forking_ = false;
    main_ = reply.pid;
  } else if (valid && reply.type == protocol::kExited && main_ > 0 && reply.pid == main_) {
    ended_ = true;
    ended_status_ = reply.status;
    ended_usage_ = {};
    ended_usage_.ru_utime = {static_cast<time_t>(reply.user_us / 1'000'000), static_cast<suseconds_t>(reply.user_us % 1'000'000)};
    ended_usage_.ru_stime = {static_cast<time_t>(reply.system_us / 1'000'000),
                             static_cast<suseconds_t>(reply.system_us % 1'000'000)};
    ended_usage_.ru_maxrss = static_cast<long>(reply.max_rss_kib);
  } else {
    // A run that could not begin, one that was not forked, nonsense, or the end of the fork server: what it has forked dies
    // with it, and the next run starts cold.
    const bool refused = valid && reply.type == protocol::kSpawnFailed && occupied_ && (forking_ || main_ > 0);
    const bool lost = forking_;
    EndZygote();
    if (!refused && !lost) return;
    forking_ = false;
    main_ = 0;
    FailRun(refused ? SpawnFailure{reply.error, reply.step} : SpawnFailure{EAGAIN, protocol::kClone});
    Leave();
  }
}

// Whether there is anybody in the cell but the reaper and its fork server.
bool Reaper::OthersLeft() const {
  TreeUse use;
  return !MeasureTree(true, protocol::kUnlimited, zygote_.pid, &use) || use.processes > 0;
}

bool Reaper::Confine(const protocol::Command& command, const Strings& strings, Confinement* confinement, StepError* failure) {
  confinement->uid = command.uid;
  confinement->gid = command.gid;
  static const bool landlocked = Landlock::Abi() > 0;
  if (landlocked) {
    const bool tcp = cell_.entered() || (command.flags & protocol::kConnected) != 0;
    if (!landlock_.Begin(tcp, failure)) return false;
    for (const std::string& path : readable_) {
      if (!landlock_.AllowRead(path.c_str(), failure)) return false;
    }
    if (!landlock_.AllowRead("/proc", failure) || !landlock_.AllowDevices("/dev", failure)) return false;
    for (size_t i = 0; i < command.writec + command.readc; i++) {
      const char* path = strings.head(kPaths + i);
      if (!(i < command.writec ? landlock_.AllowWrite(path, failure) : landlock_.AllowRead(path, failure))) return false;
    }
    confinement->landlock = landlock_.get();
  }
  if (!CanFilter()) return true;
  confinement->filter = FilterFor(command.flags, failure);
  return confinement->filter != nullptr;
}

const SystemCallFilter* Reaper::FilterFor(uint32_t flags, StepError* failure) {
  const bool allow_list = (flags & protocol::kAllowList) != 0;
  const bool connected = cell_.entered() || (flags & protocol::kConnected) != 0;
  const size_t index = (allow_list ? 1 : 0) + (connected ? 2 : 0);
  if (!built_[index]) {
    built_[index] = filters_[index].Build({allow_list, connected ? Sockets::kLocal : Sockets::kNone});
  }
  if (built_[index]) return &filters_[index];
  *failure = {EINVAL, protocol::kSeccomp};
  return nullptr;
}

void Reaper::FailRun(const SpawnFailure& failure) {
  protocol::Reply reply{};
  reply.type = protocol::kSpawnFailed;
  reply.error = failure.error;
  reply.step = failure.step;
  reply.clean = 1;
  Reply(reply);
}

// Ends a run whose tree uses more than it may.
void Reaper::Measure() {
  pause_ = pause_ * 2 < kLastMeasureNs ? pause_ * 2 : kLastMeasureNs;
  measure_at_ = After(Now(), pause_);
  TreeUse use;
  if (!MeasureTree(cell_.entered(), limits_.tree_bytes, zygote_.pid, &use)) return;
  if (use.bytes > limits_.tree_bytes) {
    exceeded_ = protocol::kMemoryLimit;
  } else if (use.tasks > limits_.tree_tasks) {
    exceeded_ = protocol::kProcessLimit;
  } else if (cell_.full()) {
    exceeded_ = protocol::kDiskLimit;
  } else {
    return;
  }
  killing_ = true;
  measure_at_ = kNever;
}

// The group is addressed only while its leader is not reaped: until then the number cannot belong to a stranger.
void Reaper::SignalTree(int signal, Order order) {
  if (main_ > 0) kill(-main_, signal);
  if (zygote_.pid > 0) {
    SignalNamespace(signal, zygote_.pid);
  } else {
    SignalDescendants(signal, order);
  }
}

void Reaper::ReportExit(int status, const rusage& usage, bool clean) {
  protocol::Reply reply{};
  reply.type = protocol::kExited;
  reply.pid = main_;
  reply.status = status;
  reply.clean = clean ? 1 : 0;
  if (exceeded_ == protocol::kNoLimit && status != 0 && cell_.full()) exceeded_ = protocol::kDiskLimit;
  reply.detail = exceeded_;
  reply.error = warm_ ? 1 : 0;
  reply.wall_ns = Now() - started_;
  reply.user_us = Microseconds(usage.ru_utime);
  reply.system_us = Microseconds(usage.ru_stime);
  reply.max_rss_kib = static_cast<uint64_t>(usage.ru_maxrss);
  if (!clean) return Reply(reply);
  const Descriptor changes(cell_.TakeChanges());
  Reply(reply, changes.get());
}

// Nobody is left of a run: what it had is taken away, after all that waits was told.
void Reaper::Leave() {
  occupied_ = false;
  measure_at_ = kNever;
  if (!cell_.Close()) leaving_ = true;
  if (leaving_ || !cell_.entered() || wanted_.size() < 2) return;
  if (zygote_.key != wanted_[0] || zygote_.served >= kMaxServed) EndZygote();
  if (zygote_.pid == 0) StartZygote();
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
    if (info.si_pid == zygote_.pid) {
      zygote_.pid = 0;
    } else if (info.si_pid == main_) {
      exited = true;
      main_status = status;
      main_usage = usage;
    }
  }
  ended_ = false;
  if (!occupied_) return left && zygote_.pid == 0;
  if (forking_ || (main_ > 0 && !exited)) return true;
  if (left && zygote_.pid > 0) left = OthersLeft();
  if (exited) {
    ReportExit(main_status, main_usage, !left);
    main_ = 0;
    if (left && !terminating_) killing_ = true;
    if (!left) Leave();
  } else if (!left) {
    protocol::Reply reply{};
    reply.type = protocol::kClean;
    reply.clean = 1;
    const Descriptor changes(cell_.TakeChanges());
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
    if (!packet.Unpack(0, 0, &copy, &strings)) {
      free(copy);
      exit_code_ = 2;
      return false;
    }
    if (strings && Settle(packet, strings, &failure)) failure = {};
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
  for (uint32_t i = 0; i < command.argc; i++) readable_.emplace_back(strings.argv()[i]);
  if ((command.flags & protocol::kIsolated) != 0) {
    CellPlan plan;
    plan.network = (command.flags & protocol::kNetwork) != 0;
    plan.uid = command.uid;
    plan.gid = command.gid;
    plan.readable = readable_;
    for (uint32_t i = 0; i < command.envc; i++) plan.skills.emplace_back(strings.envp()[i]);
    if (!cell_.Enter(plan, failure)) return false;
  }
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

  static Packet packet;
  int round = kFirstRoundMilliseconds;
  for (;;) {
    const bool left = (occupied_ || leaving_ || zygote_.pid > 0) && Reap();
    if (leaving_) {
      EndZygote();
      forking_ = false;
      if (!left) return exit_code_;
      killing_ = true;
    }
    if (left && !killing_ && measure_at_ <= Now()) Measure();
    const bool rounds = left && killing_;
    if (rounds) SignalTree(SIGKILL, Order::kParentsFirst);
    round = rounds ? (round * 2 < kLastRoundMilliseconds ? round * 2 : kLastRoundMilliseconds) : kFirstRoundMilliseconds;

    pollfd ready[3] = {{signals_.get(), POLLIN, 0},
                       {leaving_ ? -1 : protocol::kControlDescriptor, POLLIN, 0},
                       {zygote_.socket.get(), POLLIN, 0}};
    int wait = rounds ? round : -1;
    if (!rounds && occupied_ && measure_at_ != kNever) {
      const uint64_t now = Now();
      wait = measure_at_ <= now ? 0 : static_cast<int>((measure_at_ - now) / 1'000'000 + 1);
    }
    if (poll(ready, 3, wait) < 0) continue;
    if (ready[0].revents != 0) {
      signalfd_siginfo discarded[8];
      while (read(signals_.get(), discarded, sizeof discarded) > 0) {
      }
    }
    if (ready[2].revents != 0 && zygote_.socket) HandleZygote();
    if (ready[1].revents == 0) continue;
    switch (packet.Receive(protocol::kControlDescriptor)) {
      case Received::kPacket:
        if (Handle(&packet)) break;
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
    packet.Clear();
  }
}

}  // namespace
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
