// What one run finds in a cell and may write: a private, empty /tmp and /dev/shm and, where a skill is named, an overlay over
// the skill's folder at the folder's own path, where nothing else of the folders with skills is. All that the run writes is
// in one tmpfs of bounded size. What installs packages is given a folder of the host to write in the place of an overlay. `Close` takes the mounts away, which makes all processors wait for each other, once for each.
#ifndef SKILLSCALE_VIEW_H_
#define SKILLSCALE_VIEW_H_

#include <stdint.h>
#include <sys/types.h>

#include <string>
#include <vector>

#include "step_error.h"
#include "traces.h"

namespace skillscale {

struct ViewPlan {
  // The folder of a skill, below one of the cell's folders, at whose path the overlay is; empty for none.
  const char* at;
  // The folder that has the skill's files: itself or a copy.
  const char* skill;
  // A folder whose files lie over those of the skill; empty for none.
  const char* inputs;
  // All that the run may write together.
  uint64_t disk_bytes;
  // Another run may find the same view.
  bool may_stay = false;
  // The folder itself is at the path, for the run to write, and not an overlay over it.
  bool direct = false;
};

// A path of the host that runs may read although it lies in a folder of their own.
struct Shown {
  std::string path;
  bool folder;
};

class View {
 public:
  // Tells of the root that views are laid over: the folders with skills, what is to be read in folders of a run's own, and whether
  // /var/tmp is a folder with the files of /tmp rather than a link to it.
  void Settle(std::vector<std::string> folders, std::vector<Shown> readable, bool var_tmp);

  // To be called when it is closed.
  bool Open(const ViewPlan& plan, StepError* failure);
  // Whether a run in it left no trace. To be asked once for each run.
  bool IsUntouched() { return numbered_ && traces_.AreNone(); }
  // Whether it still shows the skill that is at its path: another folder may have taken its place.
  bool IsCurrent() const;
  // Returns a descriptor of the folder that has what the run wrote over its skill, or -1 when it wrote nothing there.
  int TakeChanges() const;
  // Whether the run used up what it may write.
  bool full() const;
  // Whether it used up so much that it may have failed for it: extended attributes are taken from what is there for files, which is
  // then not used up if one has no room.
  bool may_have_failed_full() const;
  // Called when no process of the run is left.
  bool Close();

 private:
  std::string Hidden(const std::string& path) const;
  bool HideFolders(const ViewPlan& plan, StepError* failure);
  bool Overlay(const ViewPlan& plan, StepError* failure);
  bool HasLess(uint64_t blocks, uint64_t files) const;

  std::vector<std::string> folders_;
  std::vector<Shown> readable_;
  bool var_tmp_ = false;

  bool open_ = false;
  // The folders that are hidden now.
  std::vector<std::string> hiding_;
  std::string overlay_;
  // It is no overlay, but a folder of the host.
  bool direct_ = false;
  // Where the skill of the overlay is, and which folder that was.
  std::string lower_;
  dev_t lower_device_ = 0;
  ino_t lower_inode_ = 0;
  // Which numbers the folders of the overlay have is not up to a run.
  bool numbered_ = false;
  Traces traces_;
};

}  // namespace skillscale

#endif  // SKILLSCALE_VIEW_H_
