// See view.h.
#include "view.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/statfs.h>

#include <algorithm>
#include <utility>

#include "cell_paths.h"
#include "descriptor.h"
#include "mounts.h"

namespace skillscale {
namespace {

constexpr char kTemporary[] = "/.folders/scratch/tmp";
constexpr char kShared[] = "/.folders/scratch/shm";
constexpr char kUpper[] = "/.folders/scratch/upper";
constexpr char kWork[] = "/.folders/scratch/work";
constexpr uint64_t kInodesPerMegabyte = 1024;
constexpr uint64_t kMinInodes = 16 * 1024;
// What an extended attribute takes at most: 64 KiB and its name, of 1 KiB for each file.
constexpr uint64_t kFilesOfAttribute = 66;
constexpr int kMaxNumbered = 64;

// Makes the folders above and of a path that lies in a folder of a run's own.
bool MakeOwnFolders(const std::string& path) {
  for (size_t at = path.find('/', 5);; at = path.find('/', at + 1)) {
    if (mkdir(path.substr(0, at).c_str(), 0755) < 0 && errno != EEXIST) return false;
    if (at == std::string::npos) return true;
  }
}

// Makes an empty file or folder there.
bool MakeOwn(const std::string& path, bool folder) {
  if (folder) return mkdir(path.c_str(), 0755) == 0 || errno == EEXIST;
  return static_cast<bool>(Descriptor(open(path.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0444)));
}

// An overlay numbers its folders in the order in which they are looked at. Looks at all of them, unless there are too many.
bool NumberFolders(const std::string& top, int* numbered) {
  DIR* const folder = opendir(top.c_str());
  if (folder == nullptr) return false;
  bool complete = ++*numbered <= kMaxNumbered;
  while (const dirent* entry = complete ? readdir(folder) : nullptr) {
    const std::string name = entry->d_name;
    if (name == "." || name == "..") continue;
    complete = entry->d_type != DT_UNKNOWN && (entry->d_type != DT_DIR || NumberFolders(top + "/" + name, numbered));
  }
  closedir(folder);
  return complete;
}

// Overlay options separate folders by colons.
std::string Escaped(const std::string& path) {
  std::string escaped;
  for (const char letter : path) {
    if (letter == ':' || letter == '\\') escaped += '\\';
    escaped += letter;
  }
  return escaped;
}

}  // namespace

void View::Settle(std::vector<std::string> folders, std::vector<Shown> readable, bool var_tmp) {
  folders_ = std::move(folders);
  readable_ = std::move(readable);
  var_tmp_ = var_tmp;
}

bool View::Open(const ViewPlan& plan, StepError* failure) {
  char options[96] = "mode=0700";
  if (plan.disk_bytes != protocol::kUnlimited) {
    const uint64_t inodes = std::max(kMinInodes, plan.disk_bytes / (1024 * 1024) * kInodesPerMegabyte);
    snprintf(options, sizeof options, "mode=0700,size=%llu,nr_inodes=%llu",
             static_cast<unsigned long long>(plan.disk_bytes), static_cast<unsigned long long>(inodes));
  }
  if (mount("scratch", kScratch, "tmpfs", MS_NOSUID | MS_NODEV, options) < 0) return Fails(failure, protocol::kMount);
  open_ = true;
  overlay_.clear();
  if (mkdir(kTemporary, 01777) < 0 || mkdir(kShared, 01777) < 0 || mkdir(kUpper, 0755) < 0 ||
      mkdir(kWork, 0700) < 0 || chmod(kTemporary, 01777) < 0 || chmod(kShared, 01777) < 0 ||
      mount(kTemporary, "/tmp", nullptr, MS_BIND, nullptr) < 0 ||
      mount(kShared, "/dev/shm", nullptr, MS_BIND, nullptr) < 0 ||
      (var_tmp_ && mount(kTemporary, "/var/tmp", nullptr, MS_BIND, nullptr) < 0)) {
    return Fails(failure, protocol::kMount);
  }
  for (size_t i = 0; i < readable_.size(); i++) {
    const Shown& shown = readable_[i];
    if (!MakeOwnFolders(shown.path.substr(0, shown.path.rfind('/'))) || !MakeOwn(shown.path, shown.folder) ||
        mount(PlaceOf(i).c_str(), shown.path.c_str(), nullptr, MS_BIND | MS_REC, nullptr) < 0) {
      return Fails(failure, protocol::kMount);
    }
  }
  if (plan.at[0] != '\0' && (!HideFolders(plan, failure) || !Overlay(plan, failure))) return false;
  if (overlay_.empty() || direct_) return true;
  int numbered = 0;
  numbered_ = plan.may_stay && NumberFolders(overlay_, &numbered);
  traces_.Note(kScratch, kWork);
  return true;
}

// The path of a folder that no folder of the run's own can hide.
std::string View::Hidden(const std::string& path) const {
  for (size_t i = 0; i < folders_.size(); i++) {
    if (IsBelow(path, folders_[i])) return FolderOf(i) + path.substr(folders_[i].size());
  }
  return path;
}

// In place of the folders with skills there are empty ones, and in them only the way to the run's own skill.
bool View::HideFolders(const ViewPlan& plan, StepError* failure) {
  for (size_t i = 0; i < folders_.size(); i++) {
    const std::string& folder = folders_[i];
    // A folder of the run's own hides it, or the overlay is all of it.
    if (IsOwn(folder) || folder == plan.at) continue;
    const std::string place = std::string(kScratch) + "/folder-" + std::to_string(i);
    if (mkdir(place.c_str(), 0755) < 0) return Fails(failure, protocol::kMount);
    if (IsBelow(plan.at, folder)) {
      const std::string rest = std::string(plan.at).substr(folder.size());
      for (size_t at = rest.find('/', 1);; at = rest.find('/', at + 1)) {
        if (mkdir((place + rest.substr(0, at)).c_str(), 0755) < 0 && errno != EEXIST) return Fails(failure, protocol::kMount);
        if (at == std::string::npos) break;
      }
    }
    if (mount(place.c_str(), folder.c_str(), nullptr, MS_BIND, nullptr) < 0) return Fails(failure, protocol::kMount);
    hiding_.push_back(folder);
  }
  return true;
}

bool View::Overlay(const ViewPlan& plan, StepError* failure) {
  if (IsOwn(plan.at) && !MakeOwnFolders(plan.at)) return Fails(failure, protocol::kMount);
  lower_ = Hidden(plan.skill);
  struct stat about;
  if (stat(lower_.c_str(), &about) < 0) return Fails(failure, protocol::kOverlay);
  lower_device_ = about.st_dev;
  lower_inode_ = about.st_ino;
  direct_ = plan.direct;
  if (direct_) {
    if (mount(lower_.c_str(), plan.at, nullptr, MS_BIND, nullptr) < 0) return Fails(failure, protocol::kMount);
    overlay_ = plan.at;
    return true;
  }
  std::string lower = Escaped(lower_);
  if (plan.inputs[0] != '\0') lower = Escaped(Hidden(plan.inputs)) + ":" + lower;
  const Descriptor context(OpenFileSystem("overlay"));
  if (!context || !SetString(context.get(), "source", "skill") || !SetString(context.get(), "lowerdir", lower.c_str()) ||
      !SetString(context.get(), "upperdir", kUpper) || !SetString(context.get(), "workdir", kWork) ||
      !SetFlag(context.get(), "userxattr")) {
    return Fails(failure, protocol::kOverlay);
  }
  const Descriptor made(MakeMount(context.get(), MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV));
  if (!made || !MoveMount(made.get(), plan.at)) return Fails(failure, protocol::kOverlay);
  overlay_ = plan.at;
  return true;
}

bool View::IsCurrent() const {
  struct stat about;
  return overlay_.empty() ||
         (stat(lower_.c_str(), &about) == 0 && about.st_dev == lower_device_ && about.st_ino == lower_inode_);
}

int View::TakeChanges() const {
  if (overlay_.empty() || direct_ || traces_.IsSame(kUpper)) return -1;
  DIR* folder = opendir(kUpper);
  if (folder == nullptr) return -1;
  bool any = false;
  while (const dirent* entry = readdir(folder)) {
    any = any || (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0);
  }
  closedir(folder);
  return any ? open(kUpper, O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
}

bool View::HasLess(uint64_t blocks, uint64_t files) const {
  struct statfs about;
  return open_ && statfs(kScratch, &about) == 0 && (about.f_bavail < blocks || about.f_ffree < files);
}

bool View::full() const { return HasLess(1, 1); }

bool View::may_have_failed_full() const { return HasLess(1, kFilesOfAttribute); }

bool View::Close() {
  if (!open_) return true;
  bool closed = true;
  if (!overlay_.empty()) closed = umount2(overlay_.c_str(), MNT_DETACH) == 0;
  overlay_.clear();
  direct_ = false;
  for (size_t i = hiding_.size(); i-- > 0;) closed = umount2(hiding_[i].c_str(), MNT_DETACH) == 0 && closed;
  hiding_.clear();
  for (size_t i = readable_.size(); i-- > 0;) umount2(readable_[i].path.c_str(), MNT_DETACH);
  for (const char* place : {"/dev/shm", "/tmp", "/var/tmp", kScratch}) {
    if (!var_tmp_ && strcmp(place, "/var/tmp") == 0) continue;
    if (umount2(place, MNT_DETACH) < 0 && errno != EINVAL) closed = false;
  }
  open_ = numbered_ = false;
  traces_.Forget();
  return closed;
}

}  // namespace skillscale
