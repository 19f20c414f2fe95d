// See traces.h.
#include "traces.h"

#include <dirent.h>
#include <fcntl.h>
#include <unistd.h>

#include <algorithm>

#include "descriptor.h"

namespace skillscale {
namespace {

bool FindFolders(const std::string& top, const std::string& except, std::vector<std::string>* found) {
  DIR* const folder = opendir(top.c_str());
  if (folder == nullptr) return false;
  bool complete = true;
  while (const dirent* entry = readdir(folder)) {
    const std::string name = entry->d_name;
    const std::string path = top + "/" + name;
    if (entry->d_type != DT_DIR || name == "." || name == ".." || path == except) continue;
    found->push_back(path);
    complete = FindFolders(path, except, found) && complete;
  }
  closedir(folder);
  return complete;
}

bool SameTime(const timespec& one, const timespec& other) {
  return one.tv_sec == other.tv_sec && one.tv_nsec == other.tv_nsec;
}

}  // namespace

bool Noted::IsSame() const {
  struct stat now;
  return stat(path.c_str(), &now) == 0 && now.st_mode == about.st_mode && SameTime(now.st_ctim, about.st_ctim) &&
         SameTime(now.st_mtim, about.st_mtim) && SameTime(now.st_atim, about.st_atim);
}

void Traces::Note(const std::string& top, const std::string& except) {
  top_ = top;
  noted_.clear();
  std::vector<std::string> paths;
  if (!FindFolders(top, except, &paths)) return;
  for (const std::string& path : paths) {
    struct stat before;
    Noted noted{path, {}};
    if (stat(path.c_str(), &before) < 0 || chmod(path.c_str(), before.st_mode & 07777) < 0 || stat(path.c_str(), &noted.about) < 0 ||
        SameTime(before.st_ctim, noted.about.st_ctim)) {
      noted_.clear();
      return;
    }
    noted_.push_back(noted);
  }
  last_inode_ = NextInode();
}

bool Traces::AreNone() {
  if (noted_.empty() || !std::all_of(noted_.begin(), noted_.end(), [](const Noted& noted) { return noted.IsSame(); })) return false;
  const ino_t expected = last_inode_ + 1;
  last_inode_ = NextInode();
  return last_inode_ == expected;
}

bool Traces::IsSame(const std::string& path) const {
  const auto found = std::find_if(noted_.begin(), noted_.end(), [&path](const Noted& noted) { return noted.path == path; });
  return found != noted_.end() && found->IsSame();
}

// Of a file that is made and removed again.
ino_t Traces::NextInode() const {
  const std::string path = top_ + "/next";
  const Descriptor file(open(path.c_str(), O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 0600));
  struct stat about;
  return file && unlink(path.c_str()) == 0 && fstat(file.get(), &about) == 0 ? about.st_ino : 0;
}

}  // namespace skillscale
