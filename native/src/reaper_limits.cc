// What a run uses, and the end of one that uses more than its whole tree may: its memory, processes, disk and CPU time are
// looked at every few milliseconds, since no kernel limit covers a tree without a cgroup. A spare that waits is looked at, too,
// less and less often.
#include <signal.h>

#include <algorithm>

#include "reaper.h"

namespace skillscale {
namespace {

constexpr uint64_t kFirstMeasureNs = 5'000'000;
constexpr uint64_t kLastMeasureNs = 40'000'000;
constexpr uint64_t kLastIdleMeasureNs = 1'000'000'000;
constexpr uint64_t kKeeperCpuUs = 20'000;

}  // namespace

void Reaper::MeasureSoon() {
  pause_ = kFirstMeasureNs;
  const bool bounded = limits_.cpu_seconds != protocol::kUnlimited || limits_.tree_bytes != protocol::kUnlimited || limits_.tree_tasks != protocol::kUnlimited ||
                       (cell_.entered() && limits_.disk_bytes != protocol::kUnlimited);
  measure_at_ = bounded ? After(Now(), pause_) : kNever;
}

void Reaper::ForgetCpu() {
  gone_cpu_us_ = told_cpu_us_ = 0;
  ledger_.Clear();
}

// Of those that are gone, since it was asked last.
uint64_t Reaper::UntoldCpu() {
  const uint64_t gone_us = gone_cpu_us_ + ledger_.lost_us();
  const uint64_t untold_us = gone_us > told_cpu_us_ ? gone_us - told_cpu_us_ : 0;
  told_cpu_us_ += untold_us;
  return untold_us;
}

protocol::TreeLimit Reaper::Exceeded() {
  TreeUse use;
  if (!MeasureTree(cell_.entered(), limits_.tree_bytes, Uncounted(), &use)) return protocol::kNoLimit;
  ledger_.Look(use.cpu, gone_cpu_us_, ReadCpu);
  if (use.bytes > limits_.tree_bytes) return protocol::kMemoryLimit;
  if (use.tasks > limits_.tree_tasks) return protocol::kProcessLimit;
  if (cell_.view().full()) return protocol::kDiskLimit;
  const bool late = limits_.cpu_seconds != protocol::kUnlimited && (use.cpu_us + gone_cpu_us_ + ledger_.lost_us()) / 1'000'000 >= limits_.cpu_seconds;
  return late ? protocol::kCpuLimit : protocol::kNoLimit;
}

// A program that failed because no process could be started leaves the others: as many as there may be, without itself.
bool Reaper::LackedTasks() {
  TreeUse use;
  return limits_.tree_tasks != protocol::kUnlimited && MeasureTree(cell_.entered(), protocol::kUnlimited, Uncounted(), &use) && use.tasks > 0 &&
         use.tasks + 1 >= limits_.tree_tasks;
}

// Ends a run, or a spare, whose tree uses more than it may. What the main process alone uses is the kernel's to end.
void Reaper::Measure() {
  pause_ = std::min(pause_ * 2, occupied_ ? kLastMeasureNs : kLastIdleMeasureNs);
  measure_at_ = After(Now(), pause_);
  // A program that replaced itself left it what it had in memory; and who is no keeper, or works, is not left uncounted.
  if (keeper_ > 0 && (!ShareMemory(occupied_ ? main_ : spare_pid_, keeper_) || CpuTime(keeper_) > kKeeperCpuUs)) {
    gone_cpu_us_ += CpuTime(keeper_);
    DropKeeper();
  }
  // Processes are looked at one after the other: memory that one shares with a child that it makes meanwhile counts twice. A
  // second look tells.
  if (Exceeded() == protocol::kNoLimit) return;
  const protocol::TreeLimit exceeded = Exceeded();
  if (exceeded == protocol::kNoLimit) return;
  measure_at_ = kNever;
  if (!occupied_) return ReplaceSpare();
  exceeded_ = exceeded;
  // What it did before it read its run is not the run's: that starts cold.
  if (handing_) {
    kill(main_, SIGKILL);
    return;
  }
  killing_ = true;
  protocol::Reply reply{};
  reply.type = protocol::kKilling;
  reply.detail = exceeded_;
  Reply(reply);
}

}  // namespace skillscale
