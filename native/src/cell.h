// A cell: the namespaces in which one reaper lives, and what each of its runs finds there.
//
// `Enter` turns the calling process into the first process of a pid namespace of its own, with user, mount, IPC, host name
// and (unless it shares the host's) network namespaces, below a root that holds nothing but what the plan names, read-only.
// The process that called stays outside only to hand on the exit code; it dies with the cell and the cell with it. A
// cell serves one run at a time, so that what a run sees of other processes is its own tree and the reaper, which it cannot touch.
//
// `Open` gives a run its private, empty /tmp and /dev/shm and, where a skill is named, an overlay over the skill's folder
// at the folder's own path, where nothing else of the folders with skills is; all that the run writes is in one tmpfs of
// bounded size. What installs packages is given a folder of the host to write in the place of an overlay. `Close` takes them away, which makes all processors wait for each other, once for each mount; so a view in
// which a run left no trace is kept for the next run of the same plan.
//
// A server that is root becomes an ordinary user for its cells; the folders with skills are mapped so that their owner's
// files belong to that user inside.
#ifndef SKILLSCALE_CELL_H_
#define SKILLSCALE_CELL_H_

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include <string>
#include <vector>

#include "descriptor.h"
#include "step_error.h"
#include "traces.h"

namespace skillscale {

struct CellPlan {
  // Shares the network of the host; otherwise there is loopback and nobody else.
  bool network = false;
  // Whom a root reaper becomes. Others stay who they are.
  uid_t uid = 0;
  gid_t gid = 0;
  // Absolute paths of files and folders. What is missing is left out.
  std::vector<std::string> readable;
  // Absolute folders below which skills are, then those of which a run can be given a folder to write.
  std::vector<std::string> skills;
  // How many of them are such.
  size_t open = 0;
};

struct ViewPlan {
  // The folder of a skill, below one of the plan's folders, at whose path the overlay is; empty for none.
  const char* at;
  // The folder that has the skill's files: itself or a copy.
  const char* skill;
  // A folder whose files lie over those of the skill; empty for none.
  const char* inputs;
  // The folder itself is at the path, for the run to write, and not an overlay over it.
  bool direct;
  // All that the run may write together.
  uint64_t disk_bytes;
};

class Cell {
 public:
  // Returns in the first process of the cell, or in the caller when it failed.
  bool Enter(const CellPlan& plan, StepError* failure);
  bool entered() const { return entered_; }
  // Of which of the plan's folders the files belong to the cell's user, one bit for each of the first 32; an overlay of
  // others could not be written.
  uint32_t mapped() const { return mapped_; }

  // What the plan lets runs read, in the cell.
  const std::vector<std::string>& roots() const { return roots_; }

  bool Open(const ViewPlan& view, StepError* failure);
  // Whether nothing can be seen in the open view of the run that was in it, so that it can be that of the next one. To be asked once
  // for each run.
  bool IsUntouched();
  // Whether a connection that a run made on the loopback device still has its ports, as it does for a minute after it was closed.
  bool HasConnections() const;
  // Whether the open view still shows the skill that is at its path: another folder may have taken its place.
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
  bool BecomeUser(const CellPlan& plan, StepError* failure);
  bool MapSkills(const CellPlan& plan, StepError* failure);
  bool Unshare(const CellPlan& plan, StepError* failure);
  bool BuildRoot(const CellPlan& plan, StepError* failure);
  bool Fork(StepError* failure);
  bool Settle(const CellPlan& plan, StepError* failure);
  // Where a path that lies in a folder of a run's own is in the cell.
  std::string OwnPath(const std::string& path) const;
  std::string Hidden(const std::string& path) const;
  bool HideFolders(const ViewPlan& view, StepError* failure);
  bool Overlay(const ViewPlan& view, StepError* failure);
  bool MakeTerminals();
  bool HasCleanTerminals() const;
  bool HasLess(uint64_t blocks, uint64_t files) const;

  bool entered_ = false;
  bool own_network_ = false;
  uint32_t mapped_ = UINT32_MAX;
  // Skills lie below /var/tmp, which is then a folder with the files of /tmp rather than a link to it.
  bool var_tmp_ = false;
  struct Shown {
    std::string path;
    bool folder;
  };
  std::vector<Shown> readable_;
  std::vector<std::string> roots_;
  std::vector<std::string> folders_;
  // Those that are hidden now.
  std::vector<std::string> hiding_;
  std::string overlay_;
  // It is no overlay, but a folder of the host.
  bool direct_ = false;
  // Where the skill of the overlay is, and which folder that was.
  std::string lower_;
  dev_t lower_device_ = 0;
  ino_t lower_inode_ = 0;
  bool open_ = false;
  // Of a run in the open view.
  Traces traces_;
  // What is mounted at /dev/pts, for all views that leave it alone.
  std::vector<Noted> terminals_;
};

}  // namespace skillscale

#endif  // SKILLSCALE_CELL_H_
