// Checks ShareMemory and MeasureTree of process_tree.cc; compiled together with it by process_tree.test.ts. Exits with the number of differences.
#include "process_tree.h"

#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

namespace {

using skillscale::MeasureTree;
using skillscale::ShareMemory;
using skillscale::TreeUse;

int differences = 0;

void Expect(const char* what, bool holds) {
  if (holds) return;
  fprintf(stderr, "%s\n", what);
  differences++;
}

constexpr uint64_t kBytes = 32 << 20;

int Sleep(void*) {
  for (;;) syscall(SYS_pause);
}

alignas(16) char stack[64 * 1024];

struct Shared {
  pid_t keeper;
  bool main_thread_ends;
};

void* Stay(void*) {
  for (;;) pause();
}

bool IsZombie(pid_t pid) {
  char path[64];
  snprintf(path, sizeof path, "/proc/%d/stat", pid);
  FILE* file = fopen(path, "re");
  char state = 0;
  const bool read = file != nullptr && fscanf(file, "%*d (%*[^)]) %c", &state) == 1;
  if (file != nullptr) fclose(file);
  return read && state == 'Z';
}

// A process with another one that shares its memory. Its main thread may end before another thread of it.
pid_t Start(Shared* shared) {
  const pid_t pid = fork();
  if (pid != 0) {
    while (__atomic_load_n(&shared->keeper, __ATOMIC_ACQUIRE) == 0 || (shared->main_thread_ends && !IsZombie(pid))) sched_yield();
    return pid;
  }
  if (mmap(nullptr, kBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0) == MAP_FAILED) _exit(1);
  pthread_t other;
  if (pthread_create(&other, nullptr, Stay, nullptr) != 0) _exit(1);
  __atomic_store_n(&shared->keeper, clone(Sleep, stack + sizeof stack, CLONE_VM, nullptr), __ATOMIC_RELEASE);
  if (shared->main_thread_ends) syscall(SYS_exit, 0);
  Stay(nullptr);
  _exit(1);
}

}  // namespace

int main() {
  Shared* const shared =
      static_cast<Shared*>(mmap(nullptr, 2 * sizeof(Shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0));
  for (const bool main_thread_ends : {false, true}) {
    *shared = {0, main_thread_ends};
    const pid_t pid = Start(shared);
    const pid_t keeper = shared->keeper;
    Expect(main_thread_ends ? "without its main thread" : "with its main thread", ShareMemory(pid, keeper));
    Expect("with a stranger", !ShareMemory(pid, getpid()));
    Shared* const others = shared + 1;
    *others = {0, main_thread_ends};
    const pid_t another = Start(others);
    TreeUse use;
    Expect("measures", MeasureTree(false, 0, {}, &use));
    Expect("counts every memory", use.bytes >= 2 * kBytes);
    Expect("counts a memory once", use.bytes < 3 * kBytes);
    kill(another, SIGKILL);
    kill(others->keeper, SIGKILL);
    waitpid(another, nullptr, 0);
    kill(pid, SIGKILL);
    siginfo_t info;
    waitid(P_PID, static_cast<id_t>(pid), &info, WEXITED | WNOWAIT);
    Expect("after its end", !ShareMemory(pid, keeper));
    waitpid(pid, nullptr, 0);
    Expect("when it is gone", !ShareMemory(pid, keeper));
    kill(keeper, SIGKILL);
  }
  return differences;
}
