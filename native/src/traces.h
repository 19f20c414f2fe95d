// Whether anything can be seen in a file system of what was done there: of folders the times and the mode, of the file system
// the number that its next file gets. An access of which the kernel tells no time (relatime) is none.
#ifndef SKILLSCALE_TRACES_H_
#define SKILLSCALE_TRACES_H_

#include <sys/stat.h>

#include <string>
#include <vector>

namespace skillscale {

// A file or folder as it was.
struct Noted {
  std::string path;
  struct stat about;

  bool IsSame() const;
};

// Of a tmpfs, which numbers its files in a row. All that is changed by others shows, also a file that is gone again.
class Traces {
 public:
  // Notes all folders below the top of a file system, but for one of them with what is below it. Where the kernel could give two
  // changes in a row the same time (before 6.13), nothing is noted.
  void Note(const std::string& top, const std::string& except);
  // Whether there are none since. False when nothing is noted.
  bool AreNone();
  // Whether one of the folders, which was noted, is as it was.
  bool IsSame(const std::string& path) const;
  void Forget() { noted_.clear(); }

 private:
  ino_t NextInode() const;

  std::string top_;
  std::vector<Noted> noted_;
  ino_t last_inode_ = 0;
};

}  // namespace skillscale

#endif  // SKILLSCALE_TRACES_H_
