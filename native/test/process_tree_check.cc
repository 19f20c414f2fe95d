// Checks ShareMemory of process_tree.cc; compiled together with it by process_tree.test.ts. Exits with the number of differences.
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

using skillscale::ShareMemory;

int differences = 0;

void Expect(const char* what, bool holds) {
  if (holds) return;
  fprintf(stderr, "%s\n", what);
  differences++;
}

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
      static_cast<Shared*>(mmap(nullptr, sizeof(Shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0));
  for (const bool main_thread_ends : {false, true}) {
    *shared = {0, main_thread_ends};
    const pid_t pid = Start(shared);
    const pid_t keeper = shared->keeper;
    Expect(main_thread_ends ? "without its main thread" : "with its main thread", ShareMemory(pid, keeper));
    Expect("with a stranger", !ShareMemory(pid, getpid()));
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
