// See keeper.h.
#include "keeper.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>
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

// Who started it waits until it has closed what it has open. From then on it uses nothing of that thread, with whom it shares even
// errno: it sleeps in a call that the C library knows nothing of.
SKILLSCALE_UNCHECKED int Keep(void* ends_by) {
  const int signal = *static_cast<EndsBy*>(ends_by) == EndsBy::kThread ? SIGKILL : 0;
  if (prctl(PR_SET_PDEATHSIG, signal, 0, 0, 0) < 0 || chdir("/") < 0 || syscall(SYS_close_range, 0U, ~0U, 0) < 0) _exit(1);
  for (;;) syscall(SYS_ppoll, nullptr, 0, nullptr, nullptr, 0);
}

}  // namespace

pid_t StartKeeper(EndsBy ends_by) {
  int ends[2];
  if (pipe2(ends, O_CLOEXEC) < 0) return 0;
  const Descriptor reader(ends[0]);
  Descriptor writer(ends[1]);
  sigset_t all;
  sigset_t before;
  sigfillset(&all);
  if (sigprocmask(SIG_SETMASK, &all, &before) < 0) return 0;
  // Without a signal for its end it is found only by who asks for such children.
  const pid_t pid = clone(Keep, keeper_stack + sizeof keeper_stack, CLONE_VM, &ends_by);
  writer.Reset();
  char nothing;
  if (pid > 0 && read(reader.get(), &nothing, 1) < 0) kill(pid, SIGKILL);
  sigprocmask(SIG_SETMASK, &before, nullptr);
  if (pid <= 0) return 0;
  return waitpid(pid, nullptr, WNOHANG | __WALL) == 0 ? pid : 0;
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
