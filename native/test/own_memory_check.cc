// Checks own_memory.cc; compiled together with it by own_memory.test.ts. The argument names the case. Exits with the number of
// differences.
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <functional>
#include <string>

#include "own_memory.h"

namespace {

using skillscale::OwnMemory;

constexpr size_t kPage = 4096;
constexpr size_t kMiB = size_t{1} << 20;

int differences = 0;
OwnMemory memory;

void Expect(const char* what, bool holds) {
  if (holds) return;
  fprintf(stderr, "%s\n", what);
  differences++;
}

// With pages before and behind it that keep it apart from others.
char* Map(size_t size, int file = -1) {
  char* const apart = static_cast<char*>(mmap(nullptr, size + 2 * kPage, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
  const int kind = MAP_PRIVATE | MAP_FIXED | (file < 0 ? MAP_ANONYMOUS : 0);
  return static_cast<char*>(mmap(apart + kPage, size, PROT_READ | PROT_WRITE, kind, file, 0));
}

char Content(size_t at) { return static_cast<char>((at >> 12) * 31 + at * 7 + 1); }

char* Filled(size_t size, int file = -1) {
  char* start = Map(size, file);
  for (size_t at = 0; at < size; at += 64) start[at] = Content(at);
  return start;
}

bool Holds(const char* start, size_t size) {
  for (size_t at = 0; at < size; at += 64) {
    if (start[at] != Content(at)) return false;
  }
  return true;
}

long Faults(const std::function<void()>& what) {
  rusage before{};
  rusage after{};
  getrusage(RUSAGE_SELF, &before);
  what();
  getrusage(RUSAGE_SELF, &after);
  return after.ru_minflt - before.ru_minflt;
}

// Writes to a page without changing it.
void Touch(char* page) { *const_cast<volatile char*>(page) = *page; }

void InChild(const std::function<void()>& what) {
  const pid_t pid = fork();
  if (pid == 0) {
    what();
    _exit(differences);
  }
  int status = 0;
  Expect("a child", pid > 0 && waitpid(pid, &status, 0) == pid && WIFEXITED(status));
  differences += WEXITSTATUS(status);
}

// A child that writes shows what the next ones will write to.
void Learn(const std::function<void()>& write) {
  int ends[2];
  Expect("a pipe", pipe(ends) == 0);
  InChild([&] {
    write();
    memory.Tell(ends[1]);
  });
  close(ends[1]);
  memory.Hear(ends[0]);
  close(ends[0]);
}

std::string Mapping(const char* at) {
  FILE* maps = fopen("/proc/self/smaps", "re");
  char line[512];
  std::string found;
  while (fgets(line, sizeof line, maps) != nullptr) {
    size_t start = 0;
    size_t end = 0;
    if (sscanf(line, "%zx-%zx ", &start, &end) == 2) {
      if (!found.empty()) break;
      if (start > reinterpret_cast<size_t>(at) || end <= reinterpret_cast<size_t>(at)) continue;
    } else if (found.empty()) {
      continue;
    }
    found += line;
  }
  fclose(maps);
  return found;
}

void CopiesWhatWasToldOf() {
  char* const plain = Filled(3 * kMiB);
  char* const few = plain + 100 * kPage;
  char* const single = plain + 500 * kPage;
  memory.Gather();
  Expect("the same content after it was gathered", Holds(plain, 3 * kMiB));
  InChild([&] { Expect("nothing to take before anything was told", !memory.Take()); });
  Learn([&] {
    for (int i = 0; i < 10; i++) Touch(few + i * 2 * kPage);
    Touch(single);
  });
  InChild([&] {
    Expect("it takes", memory.Take());
    Expect("the same content after it was taken", Holds(plain, 3 * kMiB));
    const auto write = [&] {
      for (int i = 0; i < 19; i++) Touch(few + i * kPage);
    };
    Expect("what was told of is its own", Faults(write) == 0);
    Expect("a single page is not", Faults([&] { Touch(single); }) == 1);
    Expect("nor what was not written to", Faults([&] { Touch(few + 20 * kPage); }) == 1);
    *few = static_cast<char>(*few + 1);
  });
  Expect("what a child writes is its own", Holds(plain, 3 * kMiB));
  memory.Forget();
  InChild([&] { Expect("nothing to take after it was forgotten", !memory.Take()); });
}

void LeavesOthersAlone() {
  char* const wiped = Filled(kMiB);
  Expect("wiped by a fork", madvise(wiped, kMiB, MADV_WIPEONFORK) == 0);
  char* const fixed = Filled(kMiB);
  Expect("read only", mprotect(fixed, kMiB, PROT_READ) == 0);
  char* const empty = Map(64 * kMiB);
  Touch(empty);
  FILE* const file = tmpfile();
  Expect("a large file", file != nullptr && ftruncate(fileno(file), 16 * kMiB) == 0);
  char* const of_file = Filled(16 * kMiB, fileno(file));
  char* const shared = static_cast<char*>(mmap(nullptr, kMiB, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0));
  *shared = 1;
  memory.Gather();
  Learn([&] {
    for (size_t at = 0; at < kMiB; at += kPage) Touch(of_file + at), Touch(wiped + at);
  });
  Expect("still read only", Mapping(fixed).find(" r--p ") != std::string::npos);
  Expect("still of the file", Mapping(of_file).find("/tmp") != std::string::npos);
  Expect("still empty", Mapping(empty).find("Rss:                   4 kB") != std::string::npos);
  InChild([&] {
    memory.Take();
    Expect("still wiped", wiped[0] == 0 && wiped[kMiB - 64] == 0);
    *shared = 2;
  });
  Expect("still shared", *shared == 2);
}

void TakesNoMoreThanItsBounds() {
  char* const large = Filled(24 * kMiB);
  memory.Gather();
  Learn([&] {
    for (size_t at = 0; at < 24 * kMiB; at += kPage) Touch(large + at);
  });
  InChild([&] { Expect("one piece that is too large is not taken", !memory.Take()); });
  const auto pieces = [&](size_t size, size_t gap, char* end) {
    for (char* at = large; at + size < end; at += size + gap) {
      for (size_t page = 0; page < size; page += kPage) Touch(at + page);
    }
  };
  char* const end = large + 24 * kMiB;
  // 236 pieces, of 18 MiB together.
  Learn([&] { pieces(20 * kPage, 6 * kPage, end); });
  InChild([&] { Expect("pieces with small gaps are one", !memory.Take()); });
  Learn([&] { pieces(80 * kPage, 17 * kPage, end); });
  InChild([&] {
    Expect("it takes as much as it may", memory.Take());
    const long faults = Faults([&] { pieces(80 * kPage, 17 * kPage, end); });
    // 63 pieces of 320 KiB: 51 are 16 MiB.
    Expect("and not the rest", faults == 12 * 80);
  });
  Learn([&] { pieces(4 * kPage, 17 * kPage, end); });
  InChild([&] {
    Expect("it takes as many as it may", memory.Take());
    // 293 pieces, of which 256.
    Expect("and not the others", Faults([&] { pieces(4 * kPage, 17 * kPage, end); }) == 37 * 4);
  });
}

void GathersNoMoreThanItsBound() {
  char* const large = Filled(200 * kMiB);
  char* const other = Filled(100 * kMiB);
  memory.Gather();
  Expect("the same content", Holds(large, 200 * kMiB) && Holds(other, 100 * kMiB));
  const auto is_gathered = [](const char* start) { return Mapping(start).find(" hg ") != std::string::npos; };
  // By their addresses, the lower one first.
  Expect("one of the two is in huge pages", is_gathered(std::min(large, other)) && !is_gathered(std::max(large, other)));
}

void DoesNothingWithoutHugePages() {
  Expect("no huge pages", prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0) == 0);
  char* const plain = Filled(3 * kMiB);
  memory.Gather();
  Expect("not moved", Mapping(plain).find(" hg ") == std::string::npos);
  Learn([&] {
    for (size_t at = 0; at < kMiB; at += kPage) Touch(plain + at);
  });
  InChild([&] { Expect("nothing to take", !memory.Take() && Holds(plain, 3 * kMiB)); });
}

void ChildrenDoWithoutHugePages() {
  char* const plain = Filled(3 * kMiB);
  memory.Gather();
  Learn([&] {
    for (size_t at = 0; at < kMiB; at += kPage) Touch(plain + at);
  });
  Expect("no huge pages", prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0) == 0);
  InChild([&] { Expect("nothing taken, and nothing lost", !memory.Take() && Holds(plain, 3 * kMiB)); });
}

}  // namespace

int main(int argc, char** argv) {
  const struct {
    const char* name;
    void (*run)();
  } cases[] = {
      {"copies", CopiesWhatWasToldOf},          {"others", LeavesOthersAlone},
      {"taken", TakesNoMoreThanItsBounds},      {"gathered", GathersNoMoreThanItsBound},
      {"without", DoesNothingWithoutHugePages}, {"later", ChildrenDoWithoutHugePages},
  };
  for (const auto& one : cases) {
    if (argc == 2 && strcmp(argv[1], one.name) == 0) {
      one.run();
      return differences;
    }
  }
  fprintf(stderr, "no such case\n");
  return 1;
}
