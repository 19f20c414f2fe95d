// The library that the Python fork server (zygote.py) loads: it waits for runs, and makes the child that the interpreter
// forked into the main process of one, by the same code as a cold start (entry.h). The interpreter does the rest.
//
// The fork server talks to its reaper over one SOCK_SEQPACKET socket. It gets Spawn packets as the supervisor sent
// them, with the run's Landlock ruleset as a fourth descriptor, and answers Hello when it is ready, Started, and Exited.
// A child that cannot become a run says SpawnFailed itself. It has one thread, and forks one run at a time.
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "entry.h"
#include "packet.h"
#include "protocol.h"

namespace skillscale {
namespace {

constexpr int kHighDescriptor = 100;

Packet job;
Strings strings;
char* large = nullptr;
int control = -1;
pid_t own = 0;
pid_t child = 0;

bool Say(protocol::Reply reply) {
  reply.magic = protocol::kMagic;
  ssize_t sent;
  do {
    sent = send(control, &reply, sizeof reply, MSG_NOSIGNAL);
  } while (sent < 0 && errno == EINTR);
  return sent >= 0;
}

void Forget() {
  job.Clear();
  strings.Clear();
  free(large);
  large = nullptr;
}

bool TellExit() {
  int status = 0;
  rusage usage{};
  pid_t ended;
  do {
    ended = wait4(child, &status, 0, &usage);
  } while (ended < 0 && errno == EINTR);
  protocol::Reply reply{};
  reply.type = protocol::kExited;
  reply.pid = child;
  reply.status = status;
  reply.user_us = Microseconds(usage.ru_utime);
  reply.system_us = Microseconds(usage.ru_stime);
  reply.max_rss_kib = static_cast<uint64_t>(usage.ru_maxrss);
  child = 0;
  return ended > 0 && Say(reply);
}

}  // namespace
}  // namespace skillscale

using skillscale::job;
namespace protocol = skillscale::protocol;

extern "C" {

// The socket is standard input; nothing of the fork server is, from now on.
__attribute__((visibility("default"))) int skillscale_zygote_open() {
  skillscale::own = getpid();
  skillscale::control = fcntl(0, F_DUPFD_CLOEXEC, skillscale::kHighDescriptor);
  const int null = open("/dev/null", O_RDWR | O_CLOEXEC);
  if (skillscale::control < 0 || null < 0 || dup2(null, 0) < 0) return -1;
  close(null);
  return prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
}

// Says that runs may come.
__attribute__((visibility("default"))) int skillscale_zygote_ready() {
  protocol::Reply reply{};
  reply.type = protocol::kHello;
  reply.pid = skillscale::own;
  return skillscale::Say(reply) ? 0 : -1;
}

// Waits for the next run. Returns 1 when there is one, 0 when there will be none.
__attribute__((visibility("default"))) int skillscale_zygote_wait() {
  for (;;) {
    const int pidfd = skillscale::child > 0 ? static_cast<int>(syscall(SYS_pidfd_open, skillscale::child, 0)) : -1;
    if (skillscale::child > 0 && pidfd < 0) return 0;
    pollfd ready[2] = {{skillscale::control, POLLIN, 0}, {pidfd, POLLIN, 0}};
    const int count = poll(ready, 2, -1);
    if (pidfd >= 0) close(pidfd);
    if (count < 0) {
      if (errno == EINTR) continue;
      return 0;
    }
    if (ready[1].revents != 0) {
      if (!skillscale::TellExit()) return 0;
      continue;
    }
    skillscale::Forget();
    switch (job.Receive(skillscale::control)) {
      case skillscale::Received::kNothing:
        continue;
      case skillscale::Received::kPacket:
        if (skillscale::child == 0 && job.command.type == protocol::kSpawn &&
            job.Unpack(4, skillscale::HeadSize(job.command), &skillscale::large, &skillscale::strings) &&
            skillscale::strings) {
          return 1;
        }
        return 0;
      default:
        return 0;
    }
  }
}

// In the child: makes it the run's main process, or says why not and ends.
__attribute__((visibility("default"))) void skillscale_zygote_enter() {
  skillscale::Confinement confinement;
  confinement.landlock = job.descriptors[3].get();
  confinement.uid = geteuid();
  confinement.gid = getegid();
  const skillscale::EntryPlan plan{skillscale::own,
                                   skillscale::strings.head(skillscale::kDirectory),
                                   {job.descriptors[0].get(), job.descriptors[1].get(), job.descriptors[2].get()},
                                   &job.command.limits,
                                   &confinement};
  uint32_t step = skillscale::Enter(plan);
  if (step == protocol::kNoStep && prctl(PR_SET_DUMPABLE, 1, 0, 0, 0) < 0) step = protocol::kPrctl;
  if (step != protocol::kNoStep) {
    protocol::Reply reply{};
    reply.type = protocol::kSpawnFailed;
    reply.error = errno;
    reply.step = step;
    skillscale::Say(reply);
    _exit(127);
  }
  if (syscall(SYS_close_range, 3U, ~0U, 0) < 0) _exit(127);
}

// In the fork server: `pid` is the run.
__attribute__((visibility("default"))) int skillscale_zygote_started(int pid) {
  skillscale::child = pid;
  skillscale::Forget();
  protocol::Reply reply{};
  reply.type = protocol::kStarted;
  reply.pid = pid;
  if (pid < 0) {
    reply.type = protocol::kSpawnFailed;
    reply.error = -pid;
    reply.step = protocol::kClone;
    skillscale::child = 0;
  }
  return skillscale::Say(reply) ? 0 : -1;
}

__attribute__((visibility("default"))) int skillscale_zygote_argc() { return static_cast<int>(job.command.argc); }
__attribute__((visibility("default"))) int skillscale_zygote_envc() { return static_cast<int>(job.command.envc); }
__attribute__((visibility("default"))) const char* skillscale_zygote_arg(int index) { return skillscale::strings.argv()[index]; }
__attribute__((visibility("default"))) const char* skillscale_zygote_env(int index) { return skillscale::strings.envp()[index]; }
}
