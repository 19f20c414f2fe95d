// See cell.h.
#include "cell.h"

#include <errno.h>
#include <grp.h>
#include <limits.h>
#include <net/if.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include <algorithm>
#include <utility>

#include "cell_paths.h"
#include "descriptor.h"
#include "mounts.h"

namespace skillscale {
namespace {

// The root is built where every system has a folder and nothing that a cell is given can lie below.
constexpr char kRoot[] = "/sys";
constexpr unsigned long kProcFlags = MS_NOSUID | MS_NODEV | MS_NOEXEC;
constexpr char kProcOptions[] = "hidepid=invisible";

bool WriteFile(const char* path, const char* text) {
  Descriptor file(open(path, O_WRONLY | O_CLOEXEC));
  if (!file) return false;
  const size_t size = strlen(text);
  return write(file.get(), text, size) == static_cast<ssize_t>(size);
}

// Makes the folders above and of a path below the new root.
bool MakeFolders(const std::string& path) {
  for (size_t at = 1; at != std::string::npos; at = path.find('/', at + 1)) {
    const size_t end = path.find('/', at + 1);
    const std::string folder = kRoot + path.substr(0, end);
    if (mkdir(folder.c_str(), 0755) < 0 && errno != EEXIST) return false;
    if (end == std::string::npos) break;
    at = end - 1;
  }
  return true;
}

bool MakeParents(const std::string& path) {
  const size_t slash = path.rfind('/');
  return slash == 0 || MakeFolders(path.substr(0, slash));
}

bool MakeFile(const std::string& path) {
  const Descriptor file(open((kRoot + path).c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0444));
  return static_cast<bool>(file);
}

// Shows a file, a folder with what is mounted below it, or a link of the host at its own path below the new root.
bool Show(const std::string& path) {
  struct stat about;
  if (lstat(path.c_str(), &about) < 0) return errno == ENOENT || errno == ENOTDIR || errno == EACCES;
  if (!MakeParents(path)) return false;
  const std::string target = kRoot + path;
  if (S_ISLNK(about.st_mode)) {
    char to[PATH_MAX];
    const ssize_t size = readlink(path.c_str(), to, sizeof to - 1);
    if (size < 0) return false;
    to[size] = '\0';
    return symlink(to, target.c_str()) == 0 || errno == EEXIST;
  }
  if (S_ISDIR(about.st_mode) ? !MakeFolders(path) : !MakeFile(path)) return false;
  if (mount(path.c_str(), target.c_str(), nullptr, MS_BIND | MS_REC, nullptr) == 0) return true;
  // A folder that this user may not even look into is of no use to a run either.
  return errno == EACCES;
}

// What a run may read, as few folders: all that is below a folder of the root is there because it was shown, but the folders
// with skills.
std::vector<std::string> RootsOf(const CellPlan& plan) {
  std::vector<std::string> roots;
  for (const std::string& path : plan.readable) {
    const std::string top = path.substr(0, path.find('/', 1));
    const auto is_below = [&top](const std::string& folder) { return IsBelow(folder, top); };
    const bool whole = top != "/dev" && top != "/proc" && top != "/tmp" && top != "/var" &&
                       std::none_of(plan.skills.begin(), plan.skills.end(), is_below);
    roots.push_back(whole ? top : path);
  }
  std::sort(roots.begin(), roots.end());
  roots.erase(std::unique(roots.begin(), roots.end()), roots.end());
  return roots;
}

bool MakeLink(const char* to, const char* path) {
  return symlink(to, (std::string(kRoot) + path).c_str()) == 0 || errno == EEXIST;
}

// A user namespace in which `from` is `to` of this one, for a mount whose files change their owner.
Descriptor MappingOf(uid_t from_uid, uid_t to_uid, gid_t from_gid, gid_t to_gid) {
  const pid_t parent = getpid();
  const pid_t pid = fork();
  if (pid < 0) return Descriptor();
  if (pid == 0) {
    if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0 || getppid() != parent || unshare(CLONE_NEWUSER) < 0) _exit(1);
    raise(SIGSTOP);
    _exit(0);
  }
  int status = 0;
  while (waitpid(pid, &status, WUNTRACED) < 0 && errno == EINTR) {
  }
  if (!WIFSTOPPED(status)) return Descriptor();
  char path[64];
  char text[64];
  snprintf(path, sizeof path, "/proc/%d/uid_map", pid);
  snprintf(text, sizeof text, "%u %u 1", from_uid, to_uid);
  bool mapped = WriteFile(path, text);
  snprintf(path, sizeof path, "/proc/%d/gid_map", pid);
  snprintf(text, sizeof text, "%u %u 1", from_gid, to_gid);
  mapped = mapped && WriteFile(path, text);
  snprintf(path, sizeof path, "/proc/%d/ns/user", pid);
  Descriptor space(mapped ? open(path, O_RDONLY | O_CLOEXEC) : -1);
  kill(pid, SIGKILL);
  while (waitpid(pid, nullptr, 0) < 0 && errno == EINTR) {
  }
  return space;
}

bool RaiseLoopback() {
  const Descriptor any(socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  if (!any) return false;
  ifreq request{};
  memcpy(request.ifr_name, "lo", 3);
  request.ifr_flags = IFF_UP | IFF_RUNNING;
  return ioctl(any.get(), SIOCSIFFLAGS, &request) == 0;
}

}  // namespace

bool Cell::Enter(const CellPlan& plan, StepError* failure) {
  const bool root = geteuid() == 0;
  var_tmp_ = std::any_of(plan.skills.begin(), plan.skills.end(),
                         [](const std::string& folder) { return IsBelow(folder, "/var/tmp"); });
  if (root && !BecomeUser(plan, failure)) return false;
  if (!Unshare(plan, failure)) return false;
  if (!root && !BuildRoot(plan, failure)) return false;
  if (!Fork(failure)) return false;
  own_network_ = !plan.network;
  if (!Settle(plan, failure)) return false;
  roots_ = RootsOf(plan);
  view_.Settle(plan.skills, std::move(readable_), var_tmp_);
  entered_ = true;
  return true;
}

// Only root can map the owner of files, and bind what its new self may not reach.
bool Cell::BecomeUser(const CellPlan& plan, StepError* failure) {
  if (unshare(CLONE_NEWNS) < 0) return Fails(failure, protocol::kUnshare);
  if (mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) < 0) return Fails(failure, protocol::kMount);
  if (!MapSkills(plan, failure) || !BuildRoot(plan, failure)) return false;
  if (setgroups(0, nullptr) < 0 || setresgid(plan.gid, plan.gid, plan.gid) < 0 ||
      setresuid(plan.uid, plan.uid, plan.uid) < 0) {
    return Fails(failure, protocol::kSetuid);
  }
  // Until it has written its own maps.
  return prctl(PR_SET_DUMPABLE, 1, 0, 0, 0) == 0 || Fails(failure, protocol::kPrctl);
}

bool Cell::MapSkills(const CellPlan& plan, StepError* failure) {
  // What is written through to the host keeps its owner.
  for (size_t i = 0; i < plan.skills.size() - plan.open; i++) {
    const std::string& folder = plan.skills[i];
    struct stat about;
    if (stat(folder.c_str(), &about) < 0) {
      if (errno == ENOENT || errno == ENOTDIR) continue;
      return Fails(failure, protocol::kOpen);
    }
    if (about.st_uid == plan.uid && about.st_gid == plan.gid) continue;
    const Descriptor mapping = MappingOf(about.st_uid, plan.uid, about.st_gid, plan.gid);
    const Descriptor tree(OpenTree(folder.c_str(), OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_RECURSIVE));
    if (!tree) return Fails(failure, protocol::kOpenTree);
    // Some file systems cannot: their files keep their owner, and runs get copies.
    if (!mapping || !SetMountAttributes(tree.get(), "", AT_EMPTY_PATH | AT_RECURSIVE, MOUNT_ATTR_IDMAP, mapping.get())) {
      if (i < 32) mapped_ &= ~(uint32_t{1} << i);
      continue;
    }
    if (!MoveMount(tree.get(), folder.c_str())) return Fails(failure, protocol::kMoveMount);
  }
  return true;
}

bool Cell::Unshare(const CellPlan& plan, StepError* failure) {
  const uid_t uid = geteuid();
  const gid_t gid = getegid();
  const int network = plan.network ? 0 : CLONE_NEWNET;
  if (unshare(CLONE_NEWUSER | CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWIPC | CLONE_NEWUTS | network) < 0) {
    return Fails(failure, protocol::kUnshare);
  }
  // Of the paths of its control groups nothing is seen. A kernel may have none.
  if (unshare(CLONE_NEWCGROUP) < 0 && errno != EINVAL) return Fails(failure, protocol::kUnshare);
  char map[64];
  if (!WriteFile("/proc/self/setgroups", "deny")) return Fails(failure, protocol::kMap);
  snprintf(map, sizeof map, "%u %u 1", uid, uid);
  if (!WriteFile("/proc/self/uid_map", map)) return Fails(failure, protocol::kMap);
  snprintf(map, sizeof map, "%u %u 1", gid, gid);
  if (!WriteFile("/proc/self/gid_map", map)) return Fails(failure, protocol::kMap);
  if (mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) < 0) return Fails(failure, protocol::kMount);
  return true;
}

bool Cell::BuildRoot(const CellPlan& plan, StepError* failure) {
  if (mount("cell", kRoot, "tmpfs", MS_NOSUID | MS_NODEV, "size=1m,mode=0755") < 0) {
    return Fails(failure, protocol::kMount);
  }
  for (const char* folder : {"/proc", "/dev", "/dev/shm", "/dev/pts", "/tmp", "/run", "/var", "/root", "/home", kScratch}) {
    if (!MakeFolders(folder)) return Fails(failure, protocol::kMount);
  }
  std::vector<std::string> shown = {"/tmp", "/var/tmp", "/dev", "/proc"};
  std::vector<std::string> paths = plan.readable;
  for (size_t i = 0; i < plan.skills.size(); i++) {
    const std::string place = FolderOf(i);
    if (!MakeFolders(place) ||
        mount(plan.skills[i].c_str(), (kRoot + place).c_str(), nullptr, MS_BIND | MS_REC, nullptr) < 0) {
      return Fails(failure, protocol::kMount);
    }
    paths.push_back(plan.skills[i]);
  }
  std::sort(paths.begin(), paths.end());
  for (const std::string& path : paths) {
    const auto covers = [&path](const std::string& folder) { return IsBelow(path, folder); };
    if (path.empty() || path[0] != '/' || path == "/" || std::any_of(shown.begin(), shown.end(), covers)) continue;
    if (!Show(path)) return Fails(failure, protocol::kMount);
    shown.push_back(path);
  }
  for (const std::string& path : plan.readable) {
    struct stat about;
    if (!IsOwn(path) || std::count(std::begin(kOwn), std::end(kOwn), path) > 0 || stat(path.c_str(), &about) < 0) continue;
    const std::string place = PlaceOf(readable_.size());
    if (!(S_ISDIR(about.st_mode) ? MakeFolders(place) : MakeParents(place) && MakeFile(place)) ||
        mount(path.c_str(), (kRoot + place).c_str(), nullptr, MS_BIND | MS_REC, nullptr) < 0) {
      return Fails(failure, protocol::kMount);
    }
    readable_.push_back({OwnPath(path), S_ISDIR(about.st_mode)});
  }
  // Only the reaper passes here, whose capabilities do not ask for modes: a fork server is under no Landlock rule for files.
  const std::string folders = std::string(kRoot) + kFolders;
  if (!MakeFolders(kFolders) || chmod(folders.c_str(), 0) < 0 ||
      (geteuid() == 0 && chown(folders.c_str(), plan.uid, plan.gid) < 0)) {
    return Fails(failure, protocol::kMount);
  }
  for (const char* device : {"/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom", "/dev/tty"}) {
    if (!MakeFile(device)) return Fails(failure, protocol::kMount);
  }
  if (!MakeLink("/proc/self/fd", "/dev/fd") || !MakeLink("/proc/self/fd/0", "/dev/stdin") ||
      !MakeLink("/proc/self/fd/1", "/dev/stdout") || !MakeLink("/proc/self/fd/2", "/dev/stderr") ||
      !MakeLink("pts/ptmx", "/dev/ptmx") || !(var_tmp_ ? MakeFolders("/var/tmp") : MakeLink("/tmp", "/var/tmp"))) {
    return Fails(failure, protocol::kMount);
  }
  if (!SetMountAttributes(AT_FDCWD, kRoot, AT_RECURSIVE,
                          MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV)) {
    return Fails(failure, protocol::kMountSetattr);
  }
  for (size_t i = plan.skills.size() - plan.open; i < plan.skills.size(); i++) {
    const std::string place = kRoot + FolderOf(i);
    if (!SetMountAttributes(AT_FDCWD, place.c_str(), 0, 0, -1, MOUNT_ATTR_RDONLY)) return Fails(failure, protocol::kMountSetattr);
  }
  for (const char* device : {"/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom", "/dev/tty"}) {
    const std::string target = std::string(kRoot) + device;
    if (mount(device, target.c_str(), nullptr, MS_BIND, nullptr) < 0) return Fails(failure, protocol::kMount);
    // What is written to a device is no change of a file; its times are, and all see those.
    if (!SetMountAttributes(AT_FDCWD, target.c_str(), 0, MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NOEXEC)) {
      return Fails(failure, protocol::kMountSetattr);
    }
  }
  return true;
}

std::string Cell::OwnPath(const std::string& path) const {
  return !var_tmp_ && IsBelow(path, "/var/tmp") ? path.substr(4) : path;
}

// The caller only waits, to hand on how the cell ended.
bool Cell::Fork(StepError* failure) {
  int ends[2];
  if (pipe2(ends, O_CLOEXEC) < 0) return Fails(failure, protocol::kPipe);
  Descriptor reader(ends[0]);
  Descriptor writer(ends[1]);
  const pid_t pid = fork();
  if (pid < 0) return Fails(failure, protocol::kClone);
  if (pid > 0) {
    syscall(SYS_close_range, 3U, static_cast<unsigned>(writer.get()) - 1, 0U);
    int status = 0;
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR) {
    }
    _exit(WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status));
  }
  writer.Reset();
  if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0) return Fails(failure, protocol::kPrctl);
  // The end of the pipe says that the other one died before that.
  char nothing;
  if (fcntl(reader.get(), F_SETFL, O_NONBLOCK) < 0) return Fails(failure, protocol::kFcntl);
  if (read(reader.get(), &nothing, 1) == 0) _exit(1);
  return true;
}

bool Cell::Settle(const CellPlan& plan, StepError* failure) {
  const std::string root = kRoot;
  // A mount that came from a more privileged namespace cannot become the root; one on top of it can.
  if (mount(kRoot, kRoot, nullptr, MS_BIND | MS_REC, nullptr) < 0) return Fails(failure, protocol::kMount);
  if (mount("proc", (root + "/proc").c_str(), "proc", kProcFlags, kProcOptions) < 0) {
    return Fails(failure, protocol::kMountProc);
  }
  if (chdir(kRoot) < 0) return Fails(failure, protocol::kChdir);
  if (syscall(SYS_pivot_root, ".", ".") < 0) return Fails(failure, protocol::kPivotRoot);
  if (umount2(".", MNT_DETACH) < 0 || chdir("/") < 0 || !MakeTerminals()) return Fails(failure, protocol::kMount);
  if (sethostname("skill", 5) < 0) return Fails(failure, protocol::kUnshare);
  if (own_network_ && (!RaiseLoopback() || !network_.Note())) return Fails(failure, protocol::kSocket);
  return prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) == 0 || Fails(failure, protocol::kPrctl);
}

// The device that makes them belongs to the cell's user, who may change its mode and times.
bool Cell::MakeTerminals() {
  const std::vector<std::string> paths = {"/dev/pts", "/dev/pts/ptmx"};
  terminals_.clear();
  if (mount("devpts", "/dev/pts", "devpts", MS_NOSUID | MS_NOEXEC, "newinstance,ptmxmode=0666,mode=0600") < 0) return false;
  for (const std::string& path : paths) {
    Noted noted{path, {}};
    if (stat(path.c_str(), &noted.about) < 0) return false;
    terminals_.push_back(noted);
  }
  return true;
}

// Their times may be as coarse as a clock tick, but a change that has the time of their making and is undone leaves nothing to see.
bool Cell::HasCleanTerminals() const {
  return std::all_of(terminals_.begin(), terminals_.end(), [](const Noted& noted) { return noted.IsSame(); });
}

bool Cell::RenewNetwork() { return unshare(CLONE_NEWNET) == 0 && RaiseLoopback() && network_.Note(); }

bool Cell::ForgetLooks() { return mount(nullptr, "/proc", nullptr, MS_REMOUNT | kProcFlags, kProcOptions) == 0; }

bool Cell::Open(const ViewPlan& plan, StepError* failure) {
  if (!view_.Close()) return Fails(failure, protocol::kMount);
  if (!HasCleanTerminals() && (umount2("/dev/pts", MNT_DETACH) < 0 || !MakeTerminals())) return Fails(failure, protocol::kMount);
  return view_.Open(plan, failure);
}

bool Cell::IsUntouched() { return HasCleanTerminals() && view_.IsUntouched(); }

}  // namespace skillscale
