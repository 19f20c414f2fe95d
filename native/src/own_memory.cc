// See own_memory.h.
#include "own_memory.h"

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <iterator>

#include "descriptor.h"
#include "sanitizer.h"

// Where the C library lets the kernel write to the thread's memory at any time; null in one that does not.
extern "C" const ptrdiff_t __rseq_offset __attribute__((weak));

namespace skillscale {
namespace {

constexpr size_t kPage = 4096;
constexpr size_t kHugePage = size_t{2} << 20;
constexpr size_t kMaxGathered = size_t{256} << 20;
constexpr size_t kMaxTaken = size_t{16} << 20;
// All of them are told in one piece (PIPE_BUF).
constexpr size_t kMaxRanges = 256;
// Most libraries have a few pages each, which are not worth a piece of their own.
constexpr size_t kMinMapping = size_t{128} << 10;
constexpr size_t kMaxFileMapping = size_t{8} << 20;
// To move fewer pages costs more than to copy them one by one; and to move two pieces costs more than the pages in between.
constexpr size_t kMinPages = 4;
constexpr size_t kMaxGap = 16;
// In /proc/PID/pagemap.
constexpr uint64_t kPresent = uint64_t{1} << 63;
constexpr uint64_t kExclusive = uint64_t{1} << 56;
// In /proc/PID/smaps: what a mapping may be for another one to take its place. Not, for instance, wiped by a fork.
constexpr const char* kPlainFlags[] = {"rd", "wr", "mr", "mw", "me", "ac", "nr", "sd", "hg", "nh"};

size_t RoundUp(size_t size) { return (size + kHugePage - 1) & ~(kHugePage - 1); }

// Whether the kernel gives all of these out of huge pages.
bool FillHuge(char* start, size_t size) {
  if (madvise(start, size, MADV_HUGEPAGE) < 0) return false;
  for (size_t at = 0; at < size; at += kHugePage) {
    unsigned char there = 0;
    *const_cast<volatile char*>(start + at) = 0;
    if (mincore(start + at + kHugePage - kPage, kPage, &there) < 0 || (there & 1) == 0) return false;
  }
  return true;
}

bool IsPlain(char* flags) {
  char* rest = nullptr;
  for (char* flag = strtok_r(flags, " \n", &rest); flag != nullptr; flag = strtok_r(nullptr, " \n", &rest)) {
    const auto same = [flag](const char* plain) { return strcmp(flag, plain) == 0; };
    if (std::none_of(std::begin(kPlainFlags), std::end(kPlainFlags), same)) return false;
  }
  return true;
}

}  // namespace

size_t OwnMemory::Total(const std::vector<Range>& ranges) {
  size_t total = 0;
  for (const Range& range : ranges) total += range.size;
  return total;
}

// It neither allocates nor writes to anything but its stack, since all else may be what it moves. The pieces lie in a row, in as few
// huge pages as they need. When the kernel cannot move one, which takes a few bytes of its own, that piece may be gone, and
// the process with it.
bool OwnMemory::Move(const std::vector<Range>& ranges) {
  if (ranges.empty()) return false;
  const size_t room = RoundUp(Total(ranges));
  void* const area = mmap(nullptr, room + kHugePage, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (area == MAP_FAILED) return false;
  char* const begin = reinterpret_cast<char*>(RoundUp(reinterpret_cast<size_t>(area)));
  char* const end = static_cast<char*>(area) + room + kHugePage;
  char* next = begin;
  bool moved = FillHuge(begin, room);
  for (size_t i = 0; moved && i < ranges.size(); i++) {
    const Range range = ranges[i];
    void* const place = reinterpret_cast<void*>(range.start);
    CopyAll(next, place, range.size);
    moved = mremap(next, range.size, range.size, MREMAP_MAYMOVE | MREMAP_FIXED, place) != MAP_FAILED;
    if (moved) next += range.size;
  }
  if (begin > area) munmap(area, static_cast<size_t>(begin - static_cast<char*>(area)));
  munmap(next, static_cast<size_t>(end - next));
  return moved;
}

void OwnMemory::Gather(const Range& mapping) {
  const size_t end = mapping.start + mapping.size;
  size_t before = end;
  size_t behind = end;
  if (&__rseq_offset != nullptr) {
    const size_t kernels = (reinterpret_cast<size_t>(__builtin_thread_pointer()) + static_cast<size_t>(__rseq_offset)) & ~(kPage - 1);
    before = std::clamp(kernels, mapping.start, end);
    behind = std::clamp(kernels + 2 * kPage, mapping.start, end);
  }
  for (const Range& range : {Range{mapping.start, before - mapping.start}, Range{behind, end - behind}}) {
    const bool fits = gathered_.size() < kMaxRanges && Total(gathered_) + range.size <= kMaxGathered;
    if (range.size >= kMinMapping && fits) gathered_.push_back(range);
  }
}

void OwnMemory::Gather() {
  gathered_.clear();
  told_.clear();
  if (sysconf(_SC_PAGESIZE) != static_cast<long>(kPage)) return;
  FILE* const mappings = fopen("/proc/self/smaps", "re");
  if (mappings == nullptr) return;
  Range mapping{0, 0};
  char line[4352];
  while (fgets(line, sizeof line, mappings) != nullptr) {
    size_t start = 0;
    size_t end = 0;
    size_t written = 0;
    char rights[5] = "";
    char name[8] = "";
    if (sscanf(line, "%zx-%zx %4s %*s %*s %*s %7s", &start, &end, rights, name) >= 3) {
      const bool of_file = name[0] == '/';
      const bool wanted = of_file ? end - start <= kMaxFileMapping : name[0] == '\0' || strcmp(name, "[heap]") == 0;
      mapping = wanted && strcmp(rights, "rw-p") == 0 ? Range{start, end - start} : Range{0, 0};
    } else if (sscanf(line, "Anonymous: %zu kB", &written) == 1) {
      if (written << 10 < mapping.size / 4) mapping.size = 0;
    } else if (strncmp(line, "VmFlags:", 8) == 0 && IsPlain(line + 8)) {
      Gather(mapping);
    }
  }
  fclose(mappings);
  if (!Move(gathered_)) gathered_.clear();
}

void OwnMemory::Tell(int pipe) const {
  const Descriptor pages(open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC));
  if (!pages) return;
  std::vector<Range> written;
  std::vector<uint64_t> entries;
  const auto keep = [&written](const Range& range) {
    if (range.size >= kMinPages * kPage && written.size() < kMaxRanges) written.push_back(range);
  };
  for (const Range& range : gathered_) {
    entries.resize(range.size / kPage);
    const size_t bytes = entries.size() * sizeof(uint64_t);
    const off_t at = static_cast<off_t>(range.start / kPage * sizeof(uint64_t));
    if (pread(pages.get(), entries.data(), bytes, at) != static_cast<ssize_t>(bytes)) return;
    Range run{0, 0};
    for (size_t i = 0; i < entries.size(); i++) {
      if ((entries[i] & kPresent) == 0 || (entries[i] & kExclusive) == 0) continue;
      const size_t page = range.start + i * kPage;
      if (run.size == 0 || page - (run.start + run.size) > kMaxGap * kPage) {
        keep(run);
        run.start = page;
      }
      run.size = page + kPage - run.start;
    }
    keep(run);
  }
  while (Total(written) > kMaxTaken) written.pop_back();
  while (write(pipe, written.data(), written.size() * sizeof(Range)) < 0 && errno == EINTR) {
  }
}

void OwnMemory::Hear(int pipe) {
  told_.resize(kMaxRanges);
  ssize_t size;
  do {
    size = read(pipe, told_.data(), kMaxRanges * sizeof(Range));
  } while (size < 0 && errno == EINTR);
  told_.resize(size > 0 ? static_cast<size_t>(size) / sizeof(Range) : 0);
}

bool OwnMemory::Take() const { return Move(told_); }

}  // namespace skillscale
