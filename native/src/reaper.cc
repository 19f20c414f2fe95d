// skillscale-reaper: owns one process tree at a time on behalf of a supervisor.
//
// It is the child subreaper of what it starts, so every descendant that loses its parent becomes its child. It has one
// thread and two descriptors of its own: the control socket (3) and a signalfd for SIGCHLD; the descriptors of a run are
// held only while it is being started. All signals are blocked, so that a script cannot end its reaper with anything but
// SIGKILL. Zombies are found by a peek that leaves them waitable and are then reaped by pid.
//
//   idle ──Spawn──▶ running ──main exits──▶ emptying ──nobody left──▶ idle
//                      │ Terminate: SIGTERM to all, stay; emptying then waits for Kill or for the last to leave
//                      │ Kill (answered at once), end of file, or a main process that leaves others behind: SIGKILL to all, in rounds
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

#include "clock.h"
#include "descriptor.h"
#include "process_tree.h"
#include "protocol.h"
#include "spawn.h"

namespace skillscale {
namespace {

constexpr int kFirstRoundMilliseconds = 2;
constexpr int kLastRoundMilliseconds = 100;
constexpr size_t kMaxDescriptors = 4;

uint64_t Microseconds(const timeval& time) {
  return static_cast<uint64_t>(time.tv_sec) * 1'000'000U + static_cast<uint64_t>(time.tv_usec);
}

// The strings of a Spawn, split in place.
class Strings {
 public:
  Strings() = default;
  Strings(const Strings&) = delete;
  Strings& operator=(const Strings&) = delete;
  ~Strings() { free(pointers_); }

  bool Split(char* bytes, size_t size, uint32_t argc, uint32_t envc) {
    const size_t count = size_t{2} + argc + envc;
    if (size == 0 || bytes[size - 1] != '\0') return false;
    pointers_ = static_cast<char**>(calloc(count + 2, sizeof(char*)));
    if (pointers_ == nullptr) return false;
    size_t index = 0;
    for (size_t at = 0; at < size; at += strlen(bytes + at) + 1) {
      if (index == count) return false;
      const size_t slot = index < size_t{2} + argc ? index : index + 1;
      pointers_[slot] = bytes + at;
      index++;
    }
    argc_ = argc;
    return index == count;
  }

  const char* directory() const { return pointers_[0]; }
  const char* file() const { return pointers_[1]; }
  char* const* argv() const { return pointers_ + 2; }
  char* const* envp() const { return pointers_ + 3 + argc_; }

 private:
  char** pointers_ = nullptr;
  size_t argc_ = 0;
};

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
  bool Handle(Packet* packet);
  bool StartRun(Packet* packet);
  bool ReadPayload(int memfd, char* into, size_t size);
  void FailRun(const SpawnFailure& failure);
  bool Reap();
  void ReportExit(int status, const rusage& usage, bool clean);
  void SignalTree(int signal, Order order);
  void Say(protocol::ReplyType type);
  void Reply(protocol::Reply reply);

  Descriptor signals_;
  pid_t main_ = 0;
  bool occupied_ = false;
  bool terminating_ = false;
  bool killing_ = false;
  bool leaving_ = false;
  int exit_code_ = 0;
  uint64_t started_ = 0;
};

void Reaper::Reply(protocol::Reply reply) {
  reply.magic = protocol::kMagic;
  while (send(protocol::kControlDescriptor, &reply, sizeof reply, MSG_NOSIGNAL) < 0) {
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

bool Reaper::StartRun(Packet* packet) {
  const protocol::Command& command = packet->command;
  if (occupied_ || command.argc == 0 || command.argc > protocol::kStrings || command.envc > protocol::kStrings) return false;
  if (command.payload_bytes == 0 || command.payload_bytes > protocol::kPayloadBytes) return false;
  const size_t size = static_cast<size_t>(command.payload_bytes);
  const bool inlined = packet->descriptor_count == 3;
  if (inlined ? packet->inlined_size != size : packet->descriptor_count != 4 || packet->inlined_size != 0) return false;

  char* bytes = packet->inlined;
  char* copy = nullptr;
  if (!inlined) {
    copy = static_cast<char*>(malloc(size));
    if (copy == nullptr) {
      FailRun({ENOMEM, protocol::kRead});
      return true;
    }
    if (!ReadPayload(packet->descriptors[3].get(), copy, size)) {
      free(copy);
      return false;
    }
    bytes = copy;
  }
  bool valid;
  {
    Strings strings;
    valid = strings.Split(bytes, size, command.argc, command.envc);
    if (valid) {
      const SpawnPlan plan{strings.directory(),
                           strings.file(),
                           strings.argv(),
                           strings.envp(),
                           {packet->descriptors[0].get(), packet->descriptors[1].get(), packet->descriptors[2].get()},
                           &command.limits};
      SpawnFailure failure{};
      started_ = Now();
      const pid_t pid = Spawn(plan, &failure);
      if (pid < 0) {
        FailRun(failure);
      } else {
        main_ = pid;
        occupied_ = true;
        terminating_ = killing_ = false;
      }
    }
  }
  free(copy);
  return valid;
}

void Reaper::FailRun(const SpawnFailure& failure) {
  protocol::Reply reply{};
  reply.type = protocol::kSpawnFailed;
  reply.error = failure.error;
  reply.step = failure.step;
  reply.clean = 1;
  Reply(reply);
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
  reply.wall_ns = Now() - started_;
  reply.user_us = Microseconds(usage.ru_utime);
  reply.system_us = Microseconds(usage.ru_stime);
  reply.max_rss_kib = static_cast<uint64_t>(usage.ru_maxrss);
  Reply(reply);
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
    if (!left) occupied_ = false;
  } else if (!left && occupied_ && main_ == 0) {
    occupied_ = false;
    protocol::Reply reply{};
    reply.type = protocol::kClean;
    reply.clean = 1;
    Reply(reply);
  }
  if (!left) terminating_ = killing_ = false;
  return left;
}

int Reaper::Run() {
  for (int signal = 1; signal < NSIG; signal++) {
    if (signal != SIGKILL && signal != SIGSTOP) ::signal(signal, SIG_DFL);
  }
  sigset_t all;
  sigfillset(&all);
  if (sigprocmask(SIG_SETMASK, &all, nullptr) < 0) return 1;
  sigset_t children;
  sigemptyset(&children);
  sigaddset(&children, SIGCHLD);
  signals_.Reset(signalfd(-1, &children, SFD_CLOEXEC | SFD_NONBLOCK));
  if (!signals_ || prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) < 0) return 1;
  if (fcntl(protocol::kControlDescriptor, F_SETFD, FD_CLOEXEC) < 0) return 1;

  protocol::Reply hello{};
  hello.type = protocol::kHello;
  hello.pid = getpid();
  hello.error = CanListChildren() ? 0 : ENOSYS;
  Reply(hello);

  static Packet packet;
  int round = kFirstRoundMilliseconds;
  for (;;) {
    const bool left = (occupied_ || leaving_) && Reap();
    if (leaving_) {
      if (!left) return exit_code_;
      killing_ = true;
    }
    const bool rounds = left && killing_;
    if (rounds) SignalTree(SIGKILL, Order::kParentsFirst);
    round = rounds ? (round * 2 < kLastRoundMilliseconds ? round * 2 : kLastRoundMilliseconds) : kFirstRoundMilliseconds;

    pollfd ready[2] = {{signals_.get(), POLLIN, 0}, {leaving_ ? -1 : protocol::kControlDescriptor, POLLIN, 0}};
    if (poll(ready, 2, rounds ? round : -1) < 0) continue;
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

int main() {
  static skillscale::Reaper reaper;
  const int code = reaper.Run();
  _exit(code);
}
