// See spawn.h. Runs in the reaper, whose signal dispositions are all default, so the child has none to reset.
#include "spawn.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/close_range.h>
#include <sched.h>
#include <signal.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "descriptor.h"
#include "sanitizer.h"

namespace skillscale {
namespace {

alignas(16) char child_stack[64 * 1024];

struct Child {
  const SpawnPlan& plan;
  pid_t reaper;
  int errors;

  [[noreturn]] SKILLSCALE_UNCHECKED void Fail(uint32_t step) const {
    const SpawnFailure failure{errno, step};
    while (write(errors, &failure, sizeof failure) < 0 && errno == EINTR) {
    }
    _exit(127);
  }
};

SKILLSCALE_UNCHECKED int ChildMain(void* argument) {
  const Child& child = *static_cast<const Child*>(argument);
  const SpawnPlan& plan = child.plan;
  const EntryPlan entry{child.reaper, plan.directory, {plan.streams[0], plan.streams[1], plan.streams[2]}, plan.limits,
                        plan.confinement};
  const uint32_t step = Enter(entry);
  if (step != protocol::kNoStep) child.Fail(step);
  if (syscall(SYS_close_range, 3U, ~0U, CLOSE_RANGE_CLOEXEC) < 0) child.Fail(protocol::kCloseRange);
  execve(plan.file, plan.argv, plan.envp);
  child.Fail(protocol::kExecve);
}

}  // namespace

pid_t Spawn(const SpawnPlan& plan, SpawnFailure* failure) {
  int ends[2];
  if (pipe2(ends, O_CLOEXEC) < 0) {
    *failure = {errno, protocol::kPipe};
    return -1;
  }
  Descriptor reader(ends[0]);
  Descriptor writer(ends[1]);
  // In a cell, where this is process 1, the kernel ends it with this one; a run that a fork server started dies with no parent, either.
  Child child{plan, getpid() == 1 ? 0 : getpid(), writer.get()};
  ForgetStack(child_stack, sizeof child_stack);
  const pid_t pid = clone(ChildMain, child_stack + sizeof child_stack, CLONE_VM | CLONE_VFORK | SIGCHLD, &child);
  if (pid < 0) {
    *failure = {errno, protocol::kClone};
    return -1;
  }
  writer.Reset();
  SpawnFailure report{};
  ssize_t size;
  do {
    size = read(reader.get(), &report, sizeof report);
  } while (size < 0 && errno == EINTR);
  if (size == 0) return pid;
  while (waitpid(pid, nullptr, __WALL) < 0 && errno == EINTR) {
  }
  *failure = size == sizeof report ? report : SpawnFailure{EIO, protocol::kExecve};
  return -1;
}

}  // namespace skillscale
