// Where things are in a cell, of which its root (cell.cc) and its views (view.cc) must know the same.
#ifndef SKILLSCALE_CELL_PATHS_H_
#define SKILLSCALE_CELL_PATHS_H_

#include <stddef.h>

#include <algorithm>
#include <iterator>
#include <string>

namespace skillscale {

// What only the reaper reaches. There are the folders with skills besides their own paths, which may lie below what a run has for
// itself; and the file system of the run, of which it is shown parts: what belongs to it above these it could mark for the next run.
inline constexpr char kFolders[] = "/.folders";
inline constexpr char kScratch[] = "/.folders/scratch";

inline constexpr const char* kOwn[] = {"/tmp", "/var/tmp", "/dev/shm"};

inline bool IsBelow(const std::string& path, const std::string& folder) {
  return path == folder || (path.size() > folder.size() && path.compare(0, folder.size(), folder) == 0 &&
                            (folder == "/" || path[folder.size()] == '/'));
}

// Whether a run has its own files there, which hide those of the host.
inline bool IsOwn(const std::string& path) {
  return std::any_of(std::begin(kOwn), std::end(kOwn), [&path](const char* own) { return IsBelow(path, own); });
}

// A folder with skills, where no folder of a run's own can hide it.
inline std::string FolderOf(size_t index) { return std::string(kFolders) + "/" + std::to_string(index); }

// Readable paths that a folder of a run's own would hide, in whose place they are shown.
inline std::string PlaceOf(size_t index) { return std::string(kFolders) + "/readable-" + std::to_string(index); }

}  // namespace skillscale

#endif  // SKILLSCALE_CELL_PATHS_H_
