// See process_tree.h.
#include "process_tree.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/kcmp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <cstddef>

#include "descriptor.h"

namespace skillscale {
namespace {

// Deeper levels come within reach when the levels above them are gone and the kernel hands their children up.
constexpr int kDepth = 48;

struct PidList {
  pid_t* items = nullptr;
  size_t size = 0;
  size_t capacity = 0;

  PidList() = default;
  PidList(const PidList&) = delete;
  PidList& operator=(const PidList&) = delete;
  ~PidList() { free(items); }

  void Add(pid_t pid) {
    if (size == capacity) {
      const size_t wanted = capacity == 0 ? 64 : capacity * 2;
      void* grown = realloc(items, wanted * sizeof(pid_t));
      if (grown == nullptr) return;
      items = static_cast<pid_t*>(grown);
      capacity = wanted;
    }
    items[size++] = pid;
  }
};

int SendSignal(int pidfd, int signal) {
  return static_cast<int>(syscall(SYS_pidfd_send_signal, pidfd, signal, nullptr, 0));
}

ssize_t ReadSome(int fd, char* buffer, size_t size) {
  ssize_t count;
  do {
    count = read(fd, buffer, size);
  } while (count < 0 && errno == EINTR);
  return count;
}

void ReadPids(const char* path, PidList* out) {
  Descriptor file(open(path, O_RDONLY | O_CLOEXEC));
  if (!file) return;
  char buffer[4096];
  long pid = 0;
  ssize_t count;
  while ((count = ReadSome(file.get(), buffer, sizeof buffer)) > 0) {
    for (ssize_t i = 0; i < count; i++) {
      if (buffer[i] >= '0' && buffer[i] <= '9') {
        pid = pid * 10 + (buffer[i] - '0');
      } else if (pid > 0) {
        out->Add(static_cast<pid_t>(pid));
        pid = 0;
      }
    }
  }
  if (pid > 0) out->Add(static_cast<pid_t>(pid));
}

void ReadChildren(pid_t parent, PidList* out) {
  char path[64];
  snprintf(path, sizeof path, "/proc/%d/task", parent);
  DIR* tasks = opendir(path);
  if (tasks == nullptr) return;
  while (const dirent* entry = readdir(tasks)) {
    if (entry->d_name[0] < '0' || entry->d_name[0] > '9') continue;
    char children[96];
    snprintf(children, sizeof children, "/proc/%d/task/%.20s/children", parent, entry->d_name);
    ReadPids(children, out);
  }
  closedir(tasks);
}

// The name of a program may hold spaces and parentheses, so the fields are counted from the last parenthesis.
pid_t ParentOf(pid_t pid) {
  char path[64];
  snprintf(path, sizeof path, "/proc/%d/stat", pid);
  Descriptor file(open(path, O_RDONLY | O_CLOEXEC));
  if (!file) return -1;
  char buffer[512];
  const ssize_t count = ReadSome(file.get(), buffer, sizeof buffer - 1);
  if (count <= 0) return -1;
  buffer[count] = '\0';
  const char* end = strrchr(buffer, ')');
  char state;
  int parent;
  if (end == nullptr || sscanf(end + 1, " %c %d", &state, &parent) != 2) return -1;
  return parent;
}

void SignalChildrenOf(pid_t parent, int parent_pidfd, int signal, Order order, int depth) {
  const pid_t self = getpid();
  PidList children;
  ReadChildren(parent, &children);
  for (size_t i = 0; i < children.size; i++) {
    const pid_t pid = children.items[i];
    Descriptor pin(static_cast<int>(syscall(SYS_pidfd_open, pid, 0)));
    if (!pin) continue;
    const pid_t actual = ParentOf(pid);
    if (actual != parent && actual != self) continue;
    if (parent != self && actual != self && SendSignal(parent_pidfd, 0) < 0 && errno == ESRCH) continue;
    if (order == Order::kParentsFirst) SendSignal(pin.get(), signal);
    if (depth < kDepth) SignalChildrenOf(pid, pin.get(), signal, order, depth + 1);
    if (order == Order::kChildrenFirst) SendSignal(pin.get(), signal);
  }
}

bool ReadKib(const char* rollup, const char* name, uint64_t* kib) {
  const char* line = strstr(rollup, name);
  unsigned long long value;
  if (line == nullptr || sscanf(line + strlen(name), " %llu", &value) != 1) return false;
  *kib += value;
  return true;
}

struct Stat {
  char state = 0;
  pid_t parent = 0;
  uint64_t began = 0;
  uint64_t own_us = 0;
  uint64_t waited_us = 0;
  uint64_t threads = 0;
  uint64_t bytes = 0;
};

bool ReadStat(const char* path, Stat* stat) {
  static const uint64_t page_bytes = static_cast<uint64_t>(sysconf(_SC_PAGESIZE));
  Descriptor file(open(path, O_RDONLY | O_CLOEXEC));
  if (!file) return false;
  char buffer[1024];
  const ssize_t count = ReadSome(file.get(), buffer, sizeof buffer - 1);
  if (count <= 0) return false;
  buffer[count] = '\0';
  // The name of the program, in parentheses, may have anything in it.
  const char* rest = strrchr(buffer, ')');
  unsigned long long cpu[4];
  unsigned long long threads;
  unsigned long long began;
  unsigned long long pages;
  if (rest == nullptr || sscanf(rest + 1,
                                " %c %d %*d %*d %*d %*d %*u %*u %*u %*u %*u %llu %llu %llu %llu %*d %*d %llu %*d %llu %*u %llu",
                                &stat->state, &stat->parent, &cpu[0], &cpu[1], &cpu[2], &cpu[3], &threads, &began, &pages) != 9) {
    return false;
  }
  stat->began = began;
  stat->own_us = (cpu[0] + cpu[1]) * TickMicroseconds();
  stat->waited_us = (cpu[2] + cpu[3]) * TickMicroseconds();
  stat->threads = threads;
  stat->bytes = pages * page_bytes;
  return true;
}

// Whether a test holds for a thread of a process that has not ended, given its number and state. Its main thread may have ended.
template <typename Test>
bool AnyThread(pid_t pid, const Test& test) {
  char path[64];
  snprintf(path, sizeof path, "/proc/%d/task", pid);
  DIR* threads = opendir(path);
  if (threads == nullptr) return false;
  bool found = false;
  while (const dirent* entry = found ? nullptr : readdir(threads)) {
    Stat stat;
    const pid_t thread = atoi(entry->d_name);
    snprintf(path, sizeof path, "/proc/%d/task/%d/stat", pid, thread);
    found = ReadStat(path, &stat) && stat.state != 'Z' && stat.state != 'X' && test(thread, stat);
  }
  closedir(threads);
  return found;
}

// What the threads of a process share, as the first of them tells.
uint64_t ThreadBytes(pid_t pid) {
  uint64_t bytes = 0;
  AnyThread(pid, [&bytes](pid_t, const Stat& stat) {
    bytes = stat.bytes;
    return bytes > 0;
  });
  return bytes;
}

// More exactly than in ticks.
uint64_t OwnTime(pid_t pid, uint64_t otherwise) {
  clockid_t clock;
  timespec time;
  if (clock_getcpuclockid(pid, &clock) != 0 || clock_gettime(clock, &time) < 0) return otherwise;
  return static_cast<uint64_t>(time.tv_sec) * 1'000'000 + static_cast<uint64_t>(time.tv_nsec) / 1'000;
}

CpuReading ReadingOf(pid_t pid, const Stat& stat) {
  return {pid, stat.parent, stat.began, std::max(stat.own_us, OwnTime(pid, stat.own_us)), stat.waited_us};
}

// A process that has ended has no threads and no memory; one whose main thread has ended has both.
void AddStat(pid_t pid, TreeUse* use) {
  char path[64];
  snprintf(path, sizeof path, "/proc/%d/stat", pid);
  Stat stat;
  if (!ReadStat(path, &stat)) return;
  use->cpu.push_back(ReadingOf(pid, stat));
  use->cpu_us += use->cpu.back().own_us + use->cpu.back().waited_us;
  const bool ended = stat.state == 'Z' || stat.state == 'X';
  if (ended && stat.threads <= 1) return;
  use->tasks += stat.threads;
  use->bytes += ended ? ThreadBytes(pid) : stat.bytes;
}

bool HasMemory(pid_t thread) {
  char path[64];
  snprintf(path, sizeof path, "/proc/%d/stat", thread);
  Stat stat;
  return ReadStat(path, &stat) && stat.bytes > 0;
}

// A thread by which the memory of a process can be named: the main one, unless that has ended; 0 for none.
pid_t ThreadWithMemory(pid_t pid) {
  if (HasMemory(pid)) return pid;
  pid_t found = 0;
  AnyThread(pid, [&found](pid_t thread, const Stat& stat) {
    if (stat.bytes > 0) found = thread;
    return found > 0;
  });
  return found;
}

// Whether this is another memory than those, of which there is one thread each, in the kernel's order. A child of vfork has its
// parent's until it becomes another program.
bool AddMemory(pid_t thread, std::vector<pid_t>* memories) {
  size_t low = 0;
  size_t high = memories->size();
  while (low < high) {
    const size_t middle = (low + high) / 2;
    const long order = syscall(SYS_kcmp, thread, (*memories)[middle], KCMP_VM, 0, 0);
    // Two threads that end have the same: none.
    if (order == 0) return !HasMemory(thread);
    if (order != 1 && order != 2) return true;
    if (order == 1) {
      high = middle;
    } else {
      low = middle + 1;
    }
  }
  memories->insert(memories->begin() + static_cast<std::ptrdiff_t>(low), thread);
  return true;
}

// The process's share of its memory that is not that of a file; falls back on all that is resident.
uint64_t ProportionalBytes(pid_t pid) {
  char path[64];
  snprintf(path, sizeof path, "/proc/%d/smaps_rollup", pid);
  Descriptor file(open(path, O_RDONLY | O_CLOEXEC));
  char buffer[2048];
  const ssize_t count = file ? ReadSome(file.get(), buffer, sizeof buffer - 1) : -1;
  if (count <= 0) return ThreadBytes(pid);
  buffer[count] = '\0';
  uint64_t kib = 0;
  if (!ReadKib(buffer, "\nPss_Anon:", &kib) || !ReadKib(buffer, "\nPss_Shmem:", &kib)) return ThreadBytes(pid);
  return kib * 1024;
}

void ListDescendants(pid_t parent, int depth, PidList* out) {
  const size_t first = out->size;
  ReadChildren(parent, out);
  const size_t end = out->size;
  if (depth == kDepth) return;
  for (size_t i = first; i < end; i++) ListDescendants(out->items[i], depth + 1, out);
}

bool ListNamespace(const Except& except, PidList* out) {
  DIR* processes = opendir("/proc");
  if (processes == nullptr) return false;
  const pid_t self = getpid();
  while (const dirent* entry = readdir(processes)) {
    const pid_t pid = atoi(entry->d_name);
    if (pid > 0 && pid != self && std::find(except.begin(), except.end(), pid) == except.end()) out->Add(pid);
  }
  closedir(processes);
  return true;
}

}  // namespace

void SignalNamespace(int signal, pid_t except) {
  PidList pids;
  ListNamespace({except}, &pids);
  for (size_t i = 0; i < pids.size; i++) kill(pids.items[i], signal);
}

bool MeasureTree(bool whole_namespace, uint64_t enough, const Except& except, TreeUse* use) {
  PidList pids;
  if (whole_namespace) {
    if (!ListNamespace(except, &pids)) return false;
  } else {
    ListDescendants(getpid(), 0, &pids);
  }
  *use = {};
  use->processes = pids.size;
  for (size_t i = 0; i < pids.size; i++) AddStat(pids.items[i], use);
  if (use->bytes <= enough) return true;
  use->bytes = 0;
  std::vector<pid_t> memories;
  for (size_t i = 0; i < pids.size; i++) {
    const pid_t thread = ThreadWithMemory(pids.items[i]);
    if (thread == 0 || AddMemory(thread, &memories)) use->bytes += ProportionalBytes(pids.items[i]);
  }
  return true;
}

bool ReadCpu(pid_t pid, CpuReading* reading) {
  char path[64];
  snprintf(path, sizeof path, "/proc/%d/stat", pid);
  Stat stat;
  if (!ReadStat(path, &stat)) return false;
  *reading = ReadingOf(pid, stat);
  return true;
}

uint64_t CpuTime(pid_t pid) {
  CpuReading reading;
  return ReadCpu(pid, &reading) ? reading.own_us + reading.waited_us : 0;
}

uint64_t TickMicroseconds() {
  static const uint64_t tick_us = 1'000'000 / static_cast<uint64_t>(sysconf(_SC_CLK_TCK));
  return tick_us;
}

bool ShareMemory(pid_t one, pid_t other) {
  return AnyThread(one, [other](pid_t thread, const Stat&) { return syscall(SYS_kcmp, thread, other, KCMP_VM, 0, 0) == 0; });
}

bool CanListChildren() { return access("/proc/thread-self/children", R_OK) == 0; }

void SignalDescendants(int signal, Order order) { SignalChildrenOf(getpid(), -1, signal, order, 0); }

}  // namespace skillscale
