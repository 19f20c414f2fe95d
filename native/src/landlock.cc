// See landlock.h.
#include "landlock.h"

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

namespace skillscale {
namespace {

#ifndef SYS_landlock_create_ruleset
constexpr long SYS_landlock_create_ruleset = 444;
constexpr long SYS_landlock_add_rule = 445;
constexpr long SYS_landlock_restrict_self = 446;
#endif

// Headers of the systems that this is built on know only the first of these.
constexpr uint32_t kVersion = 1;
constexpr int kPathBeneath = 1;
constexpr uint64_t kExecute = 1 << 0;
constexpr uint64_t kWriteFile = 1 << 1;
constexpr uint64_t kReadFile = 1 << 2;
constexpr uint64_t kReadFolder = 1 << 3;
constexpr uint64_t kFirst = (1 << 13) - 1;
constexpr uint64_t kRefer = 1 << 13;
constexpr uint64_t kTruncate = 1 << 14;
constexpr uint64_t kDeviceControl = 1 << 15;
constexpr uint64_t kTcp = 3;
constexpr uint64_t kScopes = 3;

struct Ruleset {
  uint64_t files;
  uint64_t network;
  uint64_t scopes;
};

struct __attribute__((packed)) PathBeneath {
  uint64_t access;
  int32_t parent;
};

}  // namespace

int Landlock::Abi() {
  const long abi = syscall(SYS_landlock_create_ruleset, nullptr, 0, kVersion);
  return abi < 0 ? 0 : static_cast<int>(abi);
}

bool Landlock::Begin(bool tcp, StepError* failure) {
  static const int abi = Abi();
  handled_ = kFirst;
  if (abi >= 2) handled_ |= kRefer;
  if (abi >= 3) handled_ |= kTruncate;
  if (abi >= 5) handled_ |= kDeviceControl;
  const Ruleset ruleset{handled_, abi >= 4 && !tcp ? kTcp : 0, abi >= 6 ? kScopes : 0};
  const size_t size = abi >= 6 ? sizeof ruleset : abi >= 4 ? 2 * sizeof(uint64_t) : sizeof(uint64_t);
  ruleset_.Reset(static_cast<int>(syscall(SYS_landlock_create_ruleset, &ruleset, size, 0)));
  if (!ruleset_) *failure = {errno, protocol::kLandlock};
  return static_cast<bool>(ruleset_);
}

bool Landlock::BeginScope() {
  if (Abi() < 6) return false;
  const Ruleset ruleset{0, 0, kScopes};
  ruleset_.Reset(static_cast<int>(syscall(SYS_landlock_create_ruleset, &ruleset, sizeof ruleset, 0)));
  return static_cast<bool>(ruleset_);
}

bool Landlock::AllowRead(const char* path, StepError* failure) {
  return Allow(path, kExecute | kReadFile | kReadFolder, failure);
}

bool Landlock::AllowWrite(const char* path, StepError* failure) { return Allow(path, handled_, failure); }

bool Landlock::AllowDevices(const char* path, StepError* failure) {
  return Allow(path, kReadFile | kReadFolder | kWriteFile | kTruncate | kDeviceControl, failure);
}

bool Landlock::Allow(const char* path, uint64_t access, StepError* failure) {
  const Descriptor parent(open(path, O_PATH | O_CLOEXEC));
  if (!parent) {
    if (errno == ENOENT || errno == ENOTDIR || errno == EACCES) return true;
    *failure = {errno, protocol::kLandlock};
    return false;
  }
  struct stat about;
  if (fstat(parent.get(), &about) < 0) {
    *failure = {errno, protocol::kLandlock};
    return false;
  }
  const uint64_t forFiles = kExecute | kReadFile | kWriteFile | kTruncate | kDeviceControl;
  const uint64_t wanted = access & handled_ & (S_ISDIR(about.st_mode) ? ~uint64_t{0} : forFiles);
  const PathBeneath rule{wanted, parent.get()};
  if (syscall(SYS_landlock_add_rule, ruleset_.get(), kPathBeneath, &rule, 0) == 0) return true;
  *failure = {errno, protocol::kLandlock};
  return false;
}

bool Landlock::Enter(int ruleset) { return syscall(SYS_landlock_restrict_self, ruleset, 0) == 0; }

}  // namespace skillscale
