// See keeper.h.
#include "keeper.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "descriptor.h"
#include "protocol.h"
#include "sanitizer.h"

namespace skillscale {
namespace {

alignas(16) char keeper_stack[16 * 1024];
alignas(16) char parent_stack[16 * 1024];

struct Birth {
  int ready;
  pid_t keeper;
};

// Who started it waits until it has closed what it has open. From then on it uses nothing of that thread, with whom it shares even
// errno: it sleeps in a call that the C library knows nothing of.
SKILLSCALE_UNCHECKED int Keep(void* birth) {
  const char ready = 1;
  if (chdir("/") < 0 || write(static_cast<Birth*>(birth)->ready, &ready, 1) != 1 || syscall(SYS_close_range, 0U, ~0U, 0) < 0) _exit(1);
  for (;;) syscall(SYS_ppoll, nullptr, 0, nullptr, nullptr, 0);
}

// Its parent ends at once, so that it is the reaper's, who adopts what has none.
SKILLSCALE_UNCHECKED int Bear(void* birth) {
  static_cast<Birth*>(birth)->keeper = clone(Keep, keeper_stack + sizeof keeper_stack, CLONE_VM, birth);
  _exit(0);
}

}  // namespace

pid_t StartKeeper() {
  int ends[2];
  if (pipe2(ends, O_CLOEXEC) < 0) return 0;
  const Descriptor reader(ends[0]);
  Descriptor writer(ends[1]);
  sigset_t all;
  sigset_t before;
  sigfillset(&all);
  if (sigprocmask(SIG_SETMASK, &all, &before) < 0) return 0;
  Birth birth{writer.get(), -1};
  // A child that nobody waits for is not in what a program is told of its children. Who has a handler may wait for others.
  struct sigaction handling {};
  struct sigaction ignoring {};
  ignoring.sa_handler = SIG_IGN;
  const bool ignored = sigaction(SIGCHLD, nullptr, &handling) == 0 && handling.sa_handler == SIG_DFL && sigaction(SIGCHLD, &ignoring, nullptr) == 0;
  const int flags = CLONE_VM | CLONE_VFORK | (ignored ? SIGCHLD : 0);
  const pid_t parent = clone(Bear, parent_stack + sizeof parent_stack, flags, &birth);
  writer.Reset();
  while (parent > 0 && waitpid(parent, nullptr, __WALL) < 0 && errno == EINTR) {
  }
  if (ignored && sigaction(SIGCHLD, &handling, nullptr) < 0) _exit(127);
  // The end of the pipe says that it has closed what it had.
  char ready[2];
  size_t said = 0;
  ssize_t size = birth.keeper > 0 ? 1 : 0;
  while (size > 0 && said < sizeof ready) {
    size = read(reader.get(), ready + said, sizeof ready - said);
    if (size > 0) said += static_cast<size_t>(size);
  }
  if (birth.keeper > 0 && (size < 0 || said != 1)) kill(birth.keeper, SIGKILL);
  sigprocmask(SIG_SETMASK, &before, nullptr);
  return said == 1 && size == 0 ? birth.keeper : 0;
}

void SayWaiting(int socket, pid_t keeper) {
  protocol::Reply reply{};
  reply.magic = protocol::kMagic;
  reply.type = protocol::kReady;
  reply.pid = keeper;
  ssize_t sent;
  do {
    sent = send(socket, &reply, sizeof reply, MSG_NOSIGNAL);
  } while (sent < 0 && errno == EINTR);
}

}  // namespace skillscale
