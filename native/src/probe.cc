// See probe.h.
#include "probe.h"

#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cell.h"
#include "descriptor.h"
#include "landlock.h"
#include "step_error.h"
#include "system_calls.h"

namespace skillscale {
namespace {

struct Answer {
  StepError failure;
  int number = 0;
};

// Runs `attempt` in a child, which may leave through any process that it becomes.
template <typename Attempt>
Answer Ask(Attempt attempt) {
  Answer answer{{EIO, protocol::kRead}, 0};
  int ends[2];
  if (pipe(ends) < 0) return answer;
  Descriptor reader(ends[0]);
  Descriptor writer(ends[1]);
  const pid_t pid = fork();
  if (pid < 0) {
    answer.failure = {errno, protocol::kClone};
    return answer;
  }
  if (pid == 0) {
    Answer own;
    attempt(&own);
    const ssize_t written = write(writer.get(), &own, sizeof own);
    _exit(written == sizeof own ? 0 : 1);
  }
  writer.Reset();
  Answer told;
  ssize_t size;
  do {
    size = read(reader.get(), &told, sizeof told);
  } while (size < 0 && errno == EINTR);
  while (waitpid(pid, nullptr, 0) < 0 && errno == EINTR) {
  }
  return size == sizeof told ? told : answer;
}

void Print(const char* name, const Answer& answer) {
  printf("%s\t%d\t%s\t%d\n", name, answer.failure.error, protocol::kStepNames[answer.failure.step], answer.number);
}

Answer TryNamespace(int flags) {
  return Ask([flags](Answer* answer) {
    if (unshare(flags) < 0) answer->failure = {errno, protocol::kUnshare};
  });
}

}  // namespace

int Probe(uid_t uid, gid_t gid) {
  Print("user-namespace", TryNamespace(CLONE_NEWUSER));
  Print("mount-namespace", TryNamespace(CLONE_NEWUSER | CLONE_NEWNS));
  Print("pid-namespace", TryNamespace(CLONE_NEWUSER | CLONE_NEWPID));
  Print("ipc-namespace", TryNamespace(CLONE_NEWUSER | CLONE_NEWIPC));
  Print("uts-namespace", TryNamespace(CLONE_NEWUSER | CLONE_NEWUTS));
  Print("network-namespace", TryNamespace(CLONE_NEWUSER | CLONE_NEWNET));
  CellPlan plan;
  plan.uid = uid;
  plan.gid = gid;
  plan.readable = {"/bin", "/lib", "/lib64"};
  plan.skills = {"/usr"};
  Print("cell", Ask([&plan](Answer* answer) {
          Cell cell;
          cell.Enter(plan, &answer->failure);
        }));
  Print("overlay", Ask([&plan](Answer* answer) {
          Cell cell;
          const ViewPlan view{"/usr/bin", "/usr/bin", "", false, 1024 * 1024};
          if (cell.Enter(plan, &answer->failure)) cell.Open(view, &answer->failure);
        }));
  if (geteuid() == 0) {
    Print("mapped-mounts", Ask([&plan](Answer* answer) {
            Cell cell;
            if (cell.Enter(plan, &answer->failure) && (cell.mapped() & 1) == 0) answer->failure = {EOPNOTSUPP, protocol::kMountSetattr};
          }));
  }
  Answer landlock;
  landlock.number = Landlock::Abi();
  if (landlock.number == 0) landlock.failure = {errno, protocol::kLandlock};
  Print("landlock", landlock);
  const int filter = SystemCallFilterSupport();
  Print("seccomp", Answer{{filter, filter == 0 ? protocol::kNoStep : protocol::kSeccomp}, 0});
  Print("no-new-privileges", Ask([](Answer* answer) {
          if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0) answer->failure = {errno, protocol::kPrctl};
        }));
  return fflush(stdout) == 0 ? 0 : 1;
}

}  // namespace skillscale
