// Finds and signals every descendant of this process, which is a child subreaper: a descendant whose parent died is its
// direct child, whatever session or group it moved to.
//
// Children are read from /proc/<pid>/task/<tid>/children. A direct child cannot change its identity, because nobody
// else can reap it. A deeper one can be reaped by its own parent and its number be taken by a stranger, so each is
// pinned by a pidfd, its parent is read after that, and the parent's own pin is checked again before the signal goes
// out through the pidfd.
#ifndef SKILLSCALE_PROCESS_TREE_H_
#define SKILLSCALE_PROCESS_TREE_H_

#include <stdint.h>
#include <sys/types.h>

#include <array>
#include <vector>

#include "cpu_ledger.h"

namespace skillscale {

// What a tree has in memory that is its own, how many processes and threads it is, and the CPU time of those that live and of
// the children that they waited for.
struct TreeUse {
  uint64_t bytes = 0;
  uint64_t tasks = 0;
  uint64_t cpu_us = 0;
  // Zombies among them.
  uint64_t processes = 0;
  // Of each of them.
  std::vector<CpuReading> cpu;
};

// Pids, or 0.
using Except = std::array<pid_t, 3>;

enum class Order { kParentsFirst, kChildrenFirst };

bool CanListChildren();
void SignalDescendants(int signal, Order order);
// Signals everybody else in the pid namespace of which this is the first process, but `except`.
void SignalNamespace(int signal, pid_t except);
// Adds up what every descendant uses, or, as the first process of a pid namespace, everybody else in it but those in `except`. Pages that a
// fork shares are counted once, and so is a memory that several processes have: what each process has at most is added up first, and
// looked at closely only when that is more than `enough`.
bool MeasureTree(bool whole_namespace, uint64_t enough, const Except& except, TreeUse* use);
// Whether both have the same memory, as far as the kernel tells.
bool ShareMemory(pid_t one, pid_t other);
// The CPU time of one process, in microseconds; 0 when it is gone.
uint64_t CpuTime(pid_t pid);
// False when it is gone.
bool ReadCpu(pid_t pid, CpuReading* reading);
// In what the kernel tells times.
uint64_t TickMicroseconds();

}  // namespace skillscale

#endif  // SKILLSCALE_PROCESS_TREE_H_
