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
constexpr size_t kMaxDescriptors = 4;
constexpr uint64_t kOthers = 3;
constexpr uint64_t kFirstMeasureNs = 5'000'000;
constexpr uint64_t kLastMeasureNs = 40'000'000;

uint64_t Microseconds(const timeval& time) {
  return static_cast<uint64_t>(time.tv_sec) * 1'000'000U + static_cast<uint64_t>(time.tv_usec);
}

// The strings of a packet, split in place. `argv` and `envp` end with a null pointer.
class Strings {
 public:
  Strings() = default;
  Strings(const Strings&) = delete;
  Strings& operator=(const Strings&) = delete;
  ~Strings() { free(pointers_); }

  // There are `head` strings, then argc, then envc.
  bool Split(char* bytes, size_t size, size_t head, uint32_t argc, uint32_t envc) {
    const size_t count = head + argc + envc;
    if (count == 0 ? size != 0 : size == 0 || bytes[size - 1] != '\0') return false;
    pointers_ = static_cast<char**>(calloc(count + 2, sizeof(char*)));
    if (pointers_ == nullptr) return false;
    size_t index = 0;
    for (size_t at = 0; at < size; at += strlen(bytes + at) + 1) {
      if (index == count) return false;
      pointers_[index < head + argc ? index : index + 1] = bytes + at;
      index++;
    }
    head_ = head;
    argc_ = argc;
    return index == count;
  }

  explicit operator bool() const { return pointers_ != nullptr; }
  const char* head(size_t index) const { return pointers_[index]; }
  char* const* argv() const { return pointers_ + head_; }
  char* const* envp() const { return pointers_ + head_ + argc_ + 1; }

 private:
  char** pointers_ = nullptr;
  size_t head_ = 0;
  size_t argc_ = 0;
};

// Where the head of a Spawn has what.
enum Head : size_t { kDirectory, kFile, kAt, kSkill, kInputs, kPaths };

struct Packet {
  protocol::Command command{};
  Descriptor descriptors[kMaxDescriptors];
  size_t descriptor_count = 0;
  size_t inlined_size = 0;
  char inlined[protocol::kInlineBytes];

  void Clear() {
    for (Descriptor& descriptor : descriptors) descriptor.Reset();
    descriptor_count = 0;
    inlined_size = 0;
  }
};

enum class Received { kPacket, kNothing, kEnd, kInvalid };

class Reaper {
 public:
  int Run();

 private:
  Received Receive(Packet* packet);
  bool Configure();
  bool Settle(const Packet& packet, const Strings& strings, StepError* failure);
  bool Handle(Packet* packet);
  bool StartRun(Packet* packet);
  bool Unpack(Packet* packet, size_t streams, size_t head, char** copy, Strings* strings);
  bool Begin(const protocol::Command& command, const Packet& packet, const Strings& strings, SpawnFailure* failure);
  bool Confine(const protocol::Command& command, const Strings& strings, Confinement* confinement, StepError* failure);
  const SystemCallFilter* FilterFor(uint32_t flags, StepError* failure);
  bool ReadPayload(int memfd, char* into, size_t size);
  void FailRun(const SpawnFailure& failure);
  void Measure();
  void Leave();
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

Received Reaper::Receive(Packet* packet) {
  iovec parts[2] = {{&packet->command, sizeof packet->command}, {packet->inlined, sizeof packet->inlined}};
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int) * kMaxDescriptors)];
  msghdr message{};
  message.msg_iov = parts;
  message.msg_iovlen = 2;
  message.msg_control = control;
  message.msg_controllen = sizeof control;
  ssize_t size;
  do {
    size = recvmsg(protocol::kControlDescriptor, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
  } while (size < 0 && errno == EINTR);
  if (size < 0) return errno == EAGAIN ? Received::kNothing : Received::kEnd;
  bool strange = (message.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) != 0;
  for (cmsghdr* header = CMSG_FIRSTHDR(&message); header != nullptr; header = CMSG_NXTHDR(&message, header)) {
    if (header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_RIGHTS) {
      strange = true;
      continue;
    }
    const size_t count = (header->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (size_t i = 0; i < count; i++) {
      int fd;
      memcpy(&fd, CMSG_DATA(header) + i * sizeof(int), sizeof fd);
      if (packet->descriptor_count < kMaxDescriptors) {
        packet->descriptors[packet->descriptor_count++].Reset(fd);
      } else {
        close(fd);
        strange = true;
      }
    }
  }
  if (size == 0) return Received::kEnd;
  if (strange || static_cast<size_t>(size) < sizeof packet->command) return Received::kInvalid;
  packet->inlined_size = static_cast<size_t>(size) - sizeof packet->command;
  return packet->command.magic == protocol::kMagic ? Received::kPacket : Received::kInvalid;
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

bool Reaper::ReadPayload(int memfd, char* into, size_t size) {
  size_t done = 0;
  while (done < size) {
    const ssize_t count = pread(memfd, into + done, size - done, static_cast<off_t>(done));
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0) return false;
    done += static_cast<size_t>(count);
  }
  return true;
}

// Reads the strings of a packet that has `streams` descriptors besides. False when it is not valid; nothing split and a null
// `copy` when there is no memory for it.
bool Reaper::Unpack(Packet* packet, size_t streams, size_t head, char** copy, Strings* strings) {
  const protocol::Command& command = packet->command;
  if (command.argc > protocol::kStrings || command.envc > protocol::kStrings || head > protocol::kStrings) return false;
  if (command.payload_bytes > protocol::kPayloadBytes) return false;
  const size_t size = static_cast<size_t>(command.payload_bytes);
  const bool inlined = packet->descriptor_count == streams;
  if (inlined ? packet->inlined_size != size : packet->descriptor_count != streams + 1 || packet->inlined_size != 0) {
    return false;
  }
  char* bytes = packet->inlined;
  if (!inlined) {
    *copy = bytes = static_cast<char*>(malloc(size + 1));
    if (bytes == nullptr) return true;
    if (!ReadPayload(packet->descriptors[streams].get(), bytes, size)) return false;
  }
  return strings->Split(bytes, size, head, command.argc, command.envc);
}

bool Reaper::StartRun(Packet* packet) {
  const protocol::Command& command = packet->command;
  if (occupied_ || command.argc == 0 || command.writec > protocol::kStrings || command.readc > protocol::kStrings) {
    return false;
  }
  char* copy = nullptr;
  bool valid;
  {
    Strings strings;
    valid = Unpack(packet, 3, kPaths + command.writec + command.readc, &copy, &strings);
    SpawnFailure failure{ENOMEM, protocol::kRead};
    if (valid && (!strings || !Begin(command, *packet, strings, &failure))) {
      cell_.Close();
      FailRun(failure);
    }
  }
  free(copy);
  return valid;
}

bool Reaper::Begin(const protocol::Command& command, const Packet& packet, const Strings& strings, SpawnFailure* failure) {
  StepError error;
  Confinement confinement;
  const bool confined = (command.flags & protocol::kConfined) != 0;
  const ViewPlan view{strings.head(kAt), strings.head(kSkill), strings.head(kInputs), command.limits.disk_bytes};
  if ((cell_.entered() && !cell_.Open(view, &error)) || (confined && !Confine(command, strings, &confinement, &error))) {
    *failure = {error.error, error.step};
    return false;
  }
  limits_ = command.limits;
  protocol::Limits limits = command.limits;
  // Those that share its user in a cell are the reaper, who waits outside, and the one too many by which it shows.
  if (cell_.entered() && limits_.tree_tasks < protocol::kUnlimited - kOthers) {
    limits.processes = std::min(limits.processes, limits_.tree_tasks + kOthers);
  }
  const SpawnPlan plan{strings.head(kDirectory),
                       strings.head(kFile),
                       strings.argv(),
                       strings.envp(),
                       {packet.descriptors[0].get(), packet.descriptors[1].get(), packet.descriptors[2].get()},
                       &limits,
                       confined ? &confinement : nullptr};
  started_ = Now();
  const pid_t pid = Spawn(plan, failure);
  if (pid < 0) return false;
  main_ = pid;
  occupied_ = true;
  terminating_ = killing_ = false;
  exceeded_ = protocol::kNoLimit;
  pause_ = kFirstMeasureNs;
  const bool bounded = limits_.tree_bytes != protocol::kUnlimited || limits_.tree_tasks != protocol::kUnlimited ||
                       (cell_.entered() && limits_.disk_bytes != protocol::kUnlimited);
  measure_at_ = bounded ? After(started_, pause_) : kNever;
  return true;
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
  if (!MeasureTree(cell_.entered(), limits_.tree_bytes, &use)) return;
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
  SignalDescendants(signal, order);
}

void Reaper::ReportExit(int status, const rusage& usage, bool clean) {
  protocol::Reply reply{};
  reply.type = protocol::kExited;
  reply.pid = main_;
  reply.status = status;
  reply.clean = clean ? 1 : 0;
  if (exceeded_ == protocol::kNoLimit && status != 0 && cell_.full()) exceeded_ = protocol::kDiskLimit;
  reply.detail = exceeded_;
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
}

// Reaps every zombie child. Returns true while children are left.
bool Reaper::Reap() {
  bool exited = false;
  int main_status = 0;
  rusage main_usage{};
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
    if (info.si_pid == main_) {
      exited = true;
      main_status = status;
      main_usage = usage;
    }
  }
  if (exited) {
    ReportExit(main_status, main_usage, !left);
    main_ = 0;
    if (left && !terminating_) killing_ = true;
    if (!left) Leave();
  } else if (!left && occupied_ && main_ == 0) {
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
  if (Receive(&packet) != Received::kPacket || packet.command.type != protocol::kConfigure) {
    exit_code_ = 2;
    return false;
  }
  char* copy = nullptr;
  StepError failure{ENOMEM, protocol::kRead};
  {
    Strings strings;
    if (!Unpack(&packet, 0, 0, &copy, &strings)) {
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
  hello.detail = cell_.mapped() ? 1 : 0;
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
    const bool left = (occupied_ || leaving_) && Reap();
    if (leaving_) {
      if (!left) return exit_code_;
      killing_ = true;
    }
    if (left && !killing_ && measure_at_ <= Now()) Measure();
    const bool rounds = left && killing_;
    if (rounds) SignalTree(SIGKILL, Order::kParentsFirst);
    round = rounds ? (round * 2 < kLastRoundMilliseconds ? round * 2 : kLastRoundMilliseconds) : kFirstRoundMilliseconds;

    pollfd ready[2] = {{signals_.get(), POLLIN, 0}, {leaving_ ? -1 : protocol::kControlDescriptor, POLLIN, 0}};
    int wait = rounds ? round : -1;
    if (!rounds && occupied_ && measure_at_ != kNever) {
      const uint64_t now = Now();
      wait = measure_at_ <= now ? 0 : static_cast<int>((measure_at_ - now) / 1'000'000 + 1);
    }
    if (poll(ready, 2, wait) < 0) continue;
    if (ready[0].revents != 0) {
      signalfd_siginfo discarded[8];
      while (read(signals_.get(), discarded, sizeof discarded) > 0) {
      }
    }
    if (ready[1].revents == 0) continue;
    switch (Receive(&packet)) {
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
