// See cell.h.
#include "cell.h"

#include <dirent.h>
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
#include <sys/statfs.h>
#include <sys/wait.h>

#include <algorithm>
#include <initializer_list>

#include "mounts.h"

namespace skillscale {
namespace {

// The root is built where every system has a folder and nothing that a cell is given can lie below.
constexpr char kRoot[] = "/sys";
// What only the reaper reaches. There are the folders with skills besides their own paths, which may lie below what a run has for
// itself; and the file system of the run, of which it is shown parts: what belongs to it above these it could mark for the next run.
constexpr char kFolders[] = "/.folders";
constexpr char kScratch[] = "/.folders/scratch";
constexpr char kTemporary[] = "/.folders/scratch/tmp";
constexpr char kShared[] = "/.folders/scratch/shm";
constexpr char kUpper[] = "/.folders/scratch/upper";
constexpr char kWork[] = "/.folders/scratch/work";
constexpr uint64_t kInodesPerMegabyte = 1024;
constexpr uint64_t kMinInodes = 16 * 1024;
// What an extended attribute takes at most: 64 KiB and its name, of 1 KiB for each file.
constexpr uint64_t kFilesOfAttribute = 66;

bool Fails(StepError* failure, uint32_t step) {
  *failure = {errno, step};
  return false;
}

bool WriteFile(const char* path, const char* text) {
  Descriptor file(open(path, O_WRONLY | O_CLOEXEC));
  if (!file) return false;
  const size_t size = strlen(text);
  return write(file.get(), text, size) == static_cast<ssize_t>(size);
}

bool IsBelow(const std::string& path, const std::string& folder) {
  return path == folder || (path.size() > folder.size() && path.compare(0, folder.size(), folder) == 0 &&
                            (folder == "/" || path[folder.size()] == '/'));
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

// Readable paths that a folder of a run's own would hide, in whose place they are shown.
std::string PlaceOf(size_t index) { return std::string(kFolders) + "/readable-" + std::to_string(index); }

constexpr const char* kOwn[] = {"/tmp", "/var/tmp", "/dev/shm"};

// Whether a run has its own files there, which hide those of the host.
bool IsOwn(const std::string& path) {
  return std::any_of(std::begin(kOwn), std::end(kOwn), [&path](const char* own) { return IsBelow(path, own); });
}

std::string FolderOf(size_t index) { return std::string(kFolders) + "/" + std::to_string(index); }

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

// The sum of these numbers of a line, below 0 when they cannot be read; 0 where the kernel lacks what they count.
long CountOf(const char* path, const char* line, std::initializer_list<const char*> names) {
  const Descriptor file(open(path, O_RDONLY | O_CLOEXEC));
  if (!file) return errno == ENOENT ? 0 : -1;
  char text[1024];
  const ssize_t size = read(file.get(), text, sizeof text - 1);
  if (size < 0) return -1;
  text[size] = '\0';
  const char* begin = strstr(text, line);
  if (begin == nullptr) return -1;
  const std::string found(begin, strcspn(begin, "\n"));
  long sum = 0;
  for (const char* name : names) {
    const size_t at = found.find(std::string(" ") + name + " ");
    if (at == std::string::npos) return -1;
    sum += strtol(found.c_str() + at + strlen(name) + 2, nullptr, 10);
  }
  return sum;
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

bool Cell::Enter(const CellPlan& plan, StepError* failure) {
  const bool root = geteuid() == 0;
  var_tmp_ = std::any_of(plan.skills.begin(), plan.skills.end(),
                         [](const std::string& folder) { return IsBelow(folder, "/var/tmp"); });
  if (root && !BecomeUser(plan, failure)) return false;
  if (!Unshare(plan, failure)) return false;
  if (!root && !BuildRoot(plan, failure)) return false;
  if (!Fork(failure)) return false;
  if (!Settle(plan, failure)) return false;
  own_network_ = !plan.network;
  folders_ = plan.skills;
  roots_ = RootsOf(plan);
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
  if (mount("proc", (root + "/proc").c_str(), "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, "hidepid=invisible") < 0) {
    return Fails(failure, protocol::kMountProc);
  }
  if (chdir(kRoot) < 0) return Fails(failure, protocol::kChdir);
  if (syscall(SYS_pivot_root, ".", ".") < 0) return Fails(failure, protocol::kPivotRoot);
  if (umount2(".", MNT_DETACH) < 0 || chdir("/") < 0 || !MakeTerminals()) return Fails(failure, protocol::kMount);
  if (sethostname("skill", 5) < 0) return Fails(failure, protocol::kUnshare);
  if (!plan.network && !RaiseLoopback()) return Fails(failure, protocol::kSocket);
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

// Nobody of the run is left, so that a connection which is still there goes on without one. The kernel counts its orphans for the
// whole machine, but those that are in use, or wait, for each network.
bool Cell::HasConnections() const {
  return own_network_ && (CountOf("/proc/net/sockstat", "TCP:", {"inuse", "tw"}) != 0 || CountOf("/proc/net/sockstat6", "TCP6:", {"inuse"}) != 0);
}

bool Cell::Open(const ViewPlan& view, StepError* failure) {
  if (open_ && !Close()) return Fails(failure, protocol::kMount);
  if (!HasCleanTerminals() && (umount2("/dev/pts", MNT_DETACH) < 0 || !MakeTerminals())) return Fails(failure, protocol::kMount);
  char options[96] = "mode=0700";
  if (view.disk_bytes != protocol::kUnlimited) {
    const uint64_t inodes = std::max(kMinInodes, view.disk_bytes / (1024 * 1024) * kInodesPerMegabyte);
    snprintf(options, sizeof options, "mode=0700,size=%llu,nr_inodes=%llu",
             static_cast<unsigned long long>(view.disk_bytes), static_cast<unsigned long long>(inodes));
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
  if (view.at[0] != '\0' && (!HideFolders(view, failure) || !Overlay(view, failure))) return false;
  if (!overlay_.empty() && !direct_) traces_.Note(kScratch, kWork);
  return true;
}

bool Cell::IsUntouched() { return HasCleanTerminals() && traces_.AreNone(); }

std::string Cell::OwnPath(const std::string& path) const {
  return !var_tmp_ && IsBelow(path, "/var/tmp") ? path.substr(4) : path;
}

// The path of a folder that no folder of the run's own can hide.
std::string Cell::Hidden(const std::string& path) const {
  for (size_t i = 0; i < folders_.size(); i++) {
    if (IsBelow(path, folders_[i])) return FolderOf(i) + path.substr(folders_[i].size());
  }
  return path;
}

// In place of the folders with skills there are empty ones, and in them only the way to the run's own skill.
bool Cell::HideFolders(const ViewPlan& view, StepError* failure) {
  for (size_t i = 0; i < folders_.size(); i++) {
    const std::string& folder = folders_[i];
    // A folder of the run's own hides it, or the overlay is all of it.
    if (IsOwn(folder) || folder == view.at) continue;
    const std::string place = std::string(kScratch) + "/folder-" + std::to_string(i);
    if (mkdir(place.c_str(), 0755) < 0) return Fails(failure, protocol::kMount);
    if (IsBelow(view.at, folder)) {
      const std::string rest = std::string(view.at).substr(folder.size());
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

bool Cell::Overlay(const ViewPlan& view, StepError* failure) {
  if (IsOwn(view.at) && !MakeOwnFolders(view.at)) return Fails(failure, protocol::kMount);
  lower_ = Hidden(view.skill);
  struct stat about;
  if (stat(lower_.c_str(), &about) < 0) return Fails(failure, protocol::kOverlay);
  lower_device_ = about.st_dev;
  lower_inode_ = about.st_ino;
  direct_ = view.direct;
  if (direct_) {
    if (mount(lower_.c_str(), view.at, nullptr, MS_BIND, nullptr) < 0) return Fails(failure, protocol::kMount);
    overlay_ = view.at;
    return true;
  }
  std::string lower = Escaped(lower_);
  if (view.inputs[0] != '\0') lower = Escaped(Hidden(view.inputs)) + ":" + lower;
  const Descriptor context(OpenFileSystem("overlay"));
  if (!context || !SetString(context.get(), "source", "skill") || !SetString(context.get(), "lowerdir", lower.c_str()) ||
      !SetString(context.get(), "upperdir", kUpper) || !SetString(context.get(), "workdir", kWork) ||
      !SetFlag(context.get(), "userxattr")) {
    return Fails(failure, protocol::kOverlay);
  }
  const Descriptor made(MakeMount(context.get(), MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV));
  if (!made || !MoveMount(made.get(), view.at)) return Fails(failure, protocol::kOverlay);
  overlay_ = view.at;
  return true;
}

bool Cell::IsCurrent() const {
  struct stat about;
  return overlay_.empty() ||
         (stat(lower_.c_str(), &about) == 0 && about.st_dev == lower_device_ && about.st_ino == lower_inode_);
}

int Cell::TakeChanges() const {
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

bool Cell::HasLess(uint64_t blocks, uint64_t files) const {
  struct statfs about;
  return open_ && statfs(kScratch, &about) == 0 && (about.f_bavail < blocks || about.f_ffree < files);
}

bool Cell::full() const { return HasLess(1, 1); }

bool Cell::may_have_failed_full() const { return HasLess(1, kFilesOfAttribute); }

bool Cell::Close() {
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
  open_ = false;
  traces_.Forget();
  return closed;
}

}  // namespace skillscale
