// A cell: the namespaces in which one reaper lives, and what each of its runs finds there.
//
// `Enter` turns the calling process into the first process of a pid namespace of its own, with user, mount, IPC, host name
// and (unless it shares the host's) network namespaces, below a root that holds nothing but what the plan names, read-only.
// The process that called stays outside only to hand on the exit code; it dies with the cell and the cell with it. A
// cell serves one run at a time, so that what a run sees of other processes is its own tree and the reaper, which it cannot touch.
//
// `Open` gives a run its own view (view.h) of that. To take one away takes time, so a view in which a run left no trace is kept
// for the next run of the same plan. So is the network, for whoever comes next; one in which a run did anything is left for a new one.
//
// A server that is root becomes an ordinary user for its cells; the folders with skills are mapped so that their owner's
// files belong to that user inside.
#ifndef SKILLSCALE_CELL_H_
#define SKILLSCALE_CELL_H_

#include <stdint.h>
#include <sys/types.h>

#include <string>
#include <vector>

#include "network_traces.h"
#include "step_error.h"
#include "traces.h"
#include "view.h"

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

  // Closes the view that is open, and opens another.
  bool Open(const ViewPlan& plan, StepError* failure);
  View& view() { return view_; }
  // Whether nothing can be seen in the open view of the run that was in it, so that it can be that of the next one. To be asked once
  // for each run.
  bool IsUntouched();
  // Whether nothing can be seen in the cell's own network of what was done there, where this process has a part in so many sockets.
  bool HasCleanNetwork(long sockets) const { return !own_network_ || network_.AreNone(sockets); }
  // Takes a new one for this process and what it starts from now on.
  bool RenewNetwork();
  // The files of /proc have the time at which they were looked at first. Makes that now, for those that nobody has open.
  bool ForgetLooks();

 private:
  bool BecomeUser(const CellPlan& plan, StepError* failure);
  bool MapSkills(const CellPlan& plan, StepError* failure);
  bool Unshare(const CellPlan& plan, StepError* failure);
  bool BuildRoot(const CellPlan& plan, StepError* failure);
  bool Fork(StepError* failure);
  bool Settle(const CellPlan& plan, StepError* failure);
  // Where a path that lies in a folder of a run's own is in the cell.
  std::string OwnPath(const std::string& path) const;
  bool MakeTerminals();
  bool HasCleanTerminals() const;

  bool entered_ = false;
  bool own_network_ = false;
  uint32_t mapped_ = UINT32_MAX;
  // Skills lie below /var/tmp, which is then a folder with the files of /tmp rather than a link to it.
  bool var_tmp_ = false;
  std::vector<Shown> readable_;
  std::vector<std::string> roots_;
  View view_;
  NetworkTraces network_;
  // What is mounted at /dev/pts, for all views that leave it alone.
  std::vector<Noted> terminals_;
};

}  // namespace skillscale

#endif  // SKILLSCALE_CELL_H_
