// See reaper_process.h.
#include "reaper_process.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/close_range.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>

#include "rights.h"
#include "sanitizer.h"

namespace skillscale {
namespace {

constexpr size_t kStackBytes = 64 * 1024;
constexpr int kSafeDescriptor = 16;

// Shares memory with the supervisor's thread, which is suspended until exec.
struct Birth {
  const char* path;
  int control;
  int null_descriptor;
  int error;
  uint32_t step;

  SKILLSCALE_UNCHECKED int Fail(uint32_t where) {
    error = errno;
    step = where;
    _exit(127);
  }
};

SKILLSCALE_UNCHECKED int BirthMain(void* argument) {
  Birth& birth = *static_cast<Birth*>(argument);
  if (setsid() < 0) return birth.Fail(protocol::kSetsid);
  const int control = fcntl(birth.control, F_DUPFD, kSafeDescriptor);
  const int null_descriptor = fcntl(birth.null_descriptor, F_DUPFD, kSafeDescriptor);
  if (control < 0 || null_descriptor < 0) return birth.Fail(protocol::kDup2);
  for (int i = 0; i < 3; i++) {
    if (dup2(null_descriptor, i) < 0) return birth.Fail(protocol::kDup2);
  }
  if (dup2(control, protocol::kControlDescriptor) < 0) return birth.Fail(protocol::kDup2);
  if (syscall(SYS_close_range, protocol::kControlDescriptor + 1, ~0U, 0) < 0) return birth.Fail(protocol::kCloseRange);
  if (chdir("/") < 0) return birth.Fail(protocol::kChdir);
  char* const argv[] = {const_cast<char*>("skillscale-reaper"), nullptr};
  char* const envp[] = {nullptr};
  execve(birth.path, argv, envp);
  return birth.Fail(protocol::kExecve);
}

class Stack {
 public:
  Stack() : base_(mmap(nullptr, kStackBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK, -1, 0)) {}
  Stack(const Stack&) = delete;
  Stack& operator=(const Stack&) = delete;
  ~Stack() {
    if (!*this) return;
    ForgetStack(base_, kStackBytes);
    munmap(base_, kStackBytes);
  }
  explicit operator bool() const { return base_ != MAP_FAILED; }
  void* top() const { return static_cast<char*>(base_) + kStackBytes; }

 private:
  void* base_;
};

bool WriteAll(int fd, const std::string& bytes) {
  size_t done = 0;
  while (done < bytes.size()) {
    const ssize_t count = write(fd, bytes.data() + done, bytes.size() - done);
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0) return false;
    done += static_cast<size_t>(count);
  }
  return true;
}

}  // namespace

bool ReaperProcess::Start(const char* path, int null_descriptor, StepError* failure) {
  int ends[2];
  if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends) < 0) {
    *failure = {errno, protocol::kSocketpair};
    return false;
  }
  control_.Reset(ends[0]);
  Descriptor far(ends[1]);
  // The reaper waits in poll and answers with blocking sends; only the near end is non-blocking.
  if (fcntl(far.get(), F_SETFL, 0) < 0) {
    *failure = {errno, protocol::kFcntl};
    return false;
  }
  Stack stack;
  if (!stack) {
    *failure = {errno, protocol::kClone};
    return false;
  }
  Birth birth{path, far.get(), null_descriptor, 0, protocol::kNoStep};
  // A handler of the host must not run in the child, which shares its memory.
  sigset_t all;
  sigset_t previous;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &previous);
  int pidfd = -1;
  const pid_t pid = clone(BirthMain, stack.top(), CLONE_VM | CLONE_VFORK | CLONE_PIDFD | SIGCHLD, &birth, &pidfd);
  const int clone_error = errno;
  pthread_sigmask(SIG_SETMASK, &previous, nullptr);
  if (pid < 0) {
    *failure = {clone_error, protocol::kClone};
    return false;
  }
  pidfd_.Reset(pidfd);
  if (birth.step == protocol::kNoStep) return true;
  *failure = {birth.error, birth.step};
  Collect(true);
  return false;
}

bool ReaperProcess::Send(protocol::Command command, const std::string& payload, const int* attached, size_t count,
                         StepError* failure) {
  command.magic = protocol::kMagic;
  command.payload_bytes = payload.size();
  int descriptors[4] = {-1, -1, -1, -1};
  std::copy_n(attached, count, descriptors);
  Descriptor memfd;
  if (payload.size() > protocol::kInlineBytes) {
    memfd.Reset(memfd_create("skillscale-arguments", MFD_CLOEXEC));
    if (!memfd || !WriteAll(memfd.get(), payload)) {
      *failure = {errno, protocol::kMemfd};
      return false;
    }
    descriptors[count++] = memfd.get();
  }
  iovec parts[2] = {{&command, sizeof command}, {const_cast<char*>(payload.data()), memfd ? 0 : payload.size()}};
  if (SendPacket(control_.get(), parts, 2, descriptors, count, 0)) return true;
  *failure = {errno, protocol::kSendmsg};
  return false;
}

bool ReaperProcess::SendCommand(protocol::CommandType type) {
  protocol::Command command{};
  command.magic = protocol::kMagic;
  command.type = type;
  iovec part{&command, sizeof command};
  return SendPacket(control_.get(), &part, 1, nullptr, 0, 0);
}

int ReaperProcess::Receive(protocol::Reply* reply, Descriptor* attached) {
  iovec part{reply, sizeof *reply};
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))];
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  message.msg_control = control;
  message.msg_controllen = sizeof control;
  ssize_t size;
  do {
    size = recvmsg(control_.get(), &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
  } while (size < 0 && errno == EINTR);
  if (size < 0 && errno == EAGAIN) return 0;
  if (size < 0) return -1;
  const cmsghdr* header = CMSG_FIRSTHDR(&message);
  if (header != nullptr && header->cmsg_level == SOL_SOCKET && header->cmsg_type == SCM_RIGHTS &&
      header->cmsg_len == CMSG_LEN(sizeof(int))) {
    int fd;
    memcpy(&fd, CMSG_DATA(header), sizeof fd);
    attached->Reset(fd);
  }
  if (size != sizeof *reply || (message.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) != 0) return -1;
  return reply->magic == protocol::kMagic && reply->step < protocol::kStepCount &&
                 (reply->type == protocol::kHello || reply->type == protocol::kIdle || reply->detail <= protocol::kCpuLimit) && reply->clean <= protocol::kBusy
             ? 1
             : -1;
}

bool ReaperProcess::Collect(bool wait) {
  if (!pidfd_) return true;
  siginfo_t info{};
  int result;
  do {
    result = waitid(P_PIDFD, static_cast<id_t>(pidfd_.get()), &info, WEXITED | __WALL | (wait ? 0 : WNOHANG));
  } while (result < 0 && errno == EINTR);
  if (result == 0 && info.si_pid == 0) return false;
  pidfd_.Reset();
  return true;
}

void ReaperProcess::Signal(int signal) {
  if (pidfd_) syscall(SYS_pidfd_send_signal, pidfd_.get(), signal, nullptr, 0);
}

}  // namespace skillscale
