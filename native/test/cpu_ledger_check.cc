// Checks cpu_ledger.cc; compiled together with it by process_tree.test.ts. Exits with the number of differences.
#include "cpu_ledger.h"

#include <stdio.h>

#include <map>
#include <vector>

namespace {

using skillscale::CpuLedger;
using skillscale::CpuReading;

constexpr uint64_t kMs = 1'000;
constexpr uint64_t kTick = 10 * kMs;

int differences = 0;

// A tree of made-up processes, which a reaper (1) looks at. The kernel tells waited-for times in ticks.
class Tree {
 public:
  void Fork(pid_t parent, pid_t pid) { all_[pid] = {parent, pid, ++began_, 0, 0}; }
  void Work(pid_t pid, uint64_t us) { all_[pid].own += us; }
  // Its parent ignores that it is gone, or waits for it.
  void Drop(pid_t pid) {
    dropped_ += all_[pid].own + all_[pid].waited;
    Remove(pid);
  }
  void Wait(pid_t pid) {
    const Process gone = all_[pid];
    Remove(pid);
    if (gone.parent == 1) {
      reaped_ += gone.own + gone.waited;
    } else {
      all_[gone.parent].waited += gone.own + gone.waited;
    }
  }
  CpuReading Read(pid_t pid) const {
    const Process& one = all_.at(pid);
    return {pid, one.parent, one.began, one.own, one.waited / kTick * kTick};
  }
  std::vector<CpuReading> ReadAll() const {
    std::vector<CpuReading> all;
    for (const auto& entry : all_) all.push_back(Read(entry.first));
    return all;
  }
  void Look() { Look(ReadAll()); }
  void Look(const std::vector<CpuReading>& all) {
    ledger_.Look(all, reaped_, [this](pid_t pid, CpuReading* reading) {
      if (all_.count(pid) == 0) return false;
      *reading = Read(pid);
      return true;
    });
  }
  void Expect(const char* what, uint64_t at_least, uint64_t at_most) {
    const uint64_t lost = ledger_.lost_us();
    if (lost >= at_least && lost <= at_most && lost <= dropped_) return;
    fprintf(stderr, "%s: %lu us are lost, of %lu\n", what, static_cast<unsigned long>(lost), static_cast<unsigned long>(dropped_));
    differences++;
  }

 private:
  struct Process {
    pid_t parent;
    pid_t pid;
    uint64_t began;
    uint64_t own;
    uint64_t waited;
  };

  void Remove(pid_t pid) {
    for (auto& entry : all_) {
      if (entry.second.parent == pid) entry.second.parent = 1;
    }
    all_.erase(pid);
  }

  std::map<pid_t, Process> all_;
  uint64_t began_ = 0;
  uint64_t reaped_ = 0;
  uint64_t dropped_ = 0;
  CpuLedger ledger_{kTick};
};

void WaitedFor() {
  Tree tree;
  tree.Fork(1, 10);
  uint64_t random = 1;
  for (pid_t pid = 11; pid < 3000; pid++) {
    tree.Fork(10, pid);
    random = random * 6364136223846793005 + 1442695040888963407;
    tree.Work(pid, (random >> 33) % (60 * kMs));
    tree.Look();
    tree.Work(pid, (random >> 13) % (3 * kMs));
    tree.Wait(pid);
    if ((random >> 60) % 2 == 0) tree.Look();
  }
  tree.Look();
  tree.Expect("waited for", 0, 0);
}

void Dropped() {
  Tree tree;
  tree.Fork(1, 10);
  for (pid_t pid = 11; pid < 61; pid++) {
    tree.Fork(10, pid);
    tree.Work(pid, 150 * kMs);
    tree.Look();
    tree.Work(pid, 30 * kMs);
    tree.Drop(pid);
  }
  tree.Look();
  tree.Expect("dropped", 50 * 150 * kMs, 50 * 150 * kMs);
}

void DroppedBesideOthers() {
  Tree tree;
  tree.Fork(1, 10);
  tree.Fork(10, 11);
  tree.Fork(10, 12);
  tree.Fork(10, 13);
  tree.Work(11, 500 * kMs);
  tree.Work(12, 200 * kMs);
  tree.Work(13, 100 * kMs);
  tree.Look();
  tree.Drop(11);
  tree.Wait(12);
  tree.Drop(13);
  tree.Look();
  tree.Expect("dropped beside others", 500 * kMs + 100 * kMs - 2 * kTick, 600 * kMs);
}

// The parent has the time of a child before that is seen to be gone, or when it is seen again.
void BetweenReadings() {
  Tree tree;
  tree.Fork(1, 10);
  tree.Fork(10, 11);
  tree.Work(11, 300 * kMs);
  tree.Look();
  std::vector<CpuReading> early = tree.ReadAll();
  tree.Wait(11);
  early[0] = tree.Read(10);
  tree.Look(early);
  tree.Look();
  tree.Expect("read before it was waited for", 0, 0);

  tree.Fork(10, 12);
  tree.Work(12, 300 * kMs);
  tree.Look();
  std::vector<CpuReading> late = {tree.Read(10)};
  tree.Wait(12);
  tree.Look(late);
  tree.Look();
  tree.Expect("gone before its parent had waited", 0, 0);
}

void Orphans() {
  Tree tree;
  tree.Fork(1, 10);
  tree.Fork(10, 11);
  tree.Fork(11, 12);
  tree.Work(11, 100 * kMs);
  tree.Work(12, 400 * kMs);
  tree.Look();
  tree.Wait(11);
  tree.Wait(12);
  tree.Look();
  tree.Expect("orphans that the reaper waited for", 0, 0);
  tree.Fork(10, 13);
  tree.Fork(13, 14);
  tree.Work(14, 400 * kMs);
  tree.Look();
  tree.Drop(14);
  tree.Wait(13);
  tree.Look();
  tree.Expect("dropped below one that was waited for", 400 * kMs, 400 * kMs);
}

void SameNumber() {
  Tree tree;
  tree.Fork(1, 10);
  tree.Fork(10, 11);
  tree.Work(11, 200 * kMs);
  tree.Look();
  tree.Drop(11);
  tree.Fork(10, 11);
  tree.Look();
  tree.Expect("a number that came again", 200 * kMs, 200 * kMs);
  tree.Wait(11);
  tree.Look();
  tree.Expect("a number that came again", 200 * kMs, 200 * kMs);
}

}  // namespace

int main() {
  WaitedFor();
  Dropped();
  DroppedBesideOthers();
  BetweenReadings();
  Orphans();
  SameNumber();
  return differences;
}
