// What the supervisor and a reaper say to each other over one SOCK_SEQPACKET pair.
//
// Both ends are built from this file and run on one machine, so records are plain structs in host order. One packet is
// one record. Its strings are NUL-terminated: behind the record when they fit into kInlineBytes, else in a memfd that
// travels as the last descriptor.
//
//   Configure   argc readable paths, envc folders with skills, the last writec of which runs can be given to write
//   Spawn       working directory, file, then of the view the path, the skill and the inputs (empty for none), writec
//               writable and readc readable paths, warmc strings of a warm start (a key, then the command of the fork
//               server or of what is started ahead), argc arguments, envc environment entries; three descriptors: standard input, output, error
//
//   Prepare     working directory; two descriptors: a Landlock ruleset, and the socket on which the run's Spawn will come
//
//   supervisor → reaper   Configure once, then Spawn, Terminate, Kill   (end of file: kill everything and exit)
//   reaper → supervisor   Hello, then per Spawn: SpawnFailed | Exited … Clean, and per Kill: Killing
//
// `Clean` says that no descendant is left. It is folded into `Exited` when the main process left nobody behind. What is
// clean carries a descriptor of the folder that has the run's changes to its skill, when there are any. One that is clean
// but busy takes the next run only after it said Ready. `Idle` comes at any time between runs, at most once a second: how many
// processes wait for runs there, and what they have in memory. `Killing` only says that the reaper is alive: a script may have stopped it. Unasked, with a
// TreeLimit, it says that the tree is killed for that.
//
//   reaper → fork server  Prepare
//   fork server → reaper  Hello, then per Prepare: Started, Exited
//
// The process that the fork server started becomes the run when it gets the Spawn, and closes its socket when it has read it.
// One that was started ahead gets it over its standard input. Before they say Ready over that socket, with the pid of
// their keeper (keeper.h), or 0.
#ifndef SKILLSCALE_PROTOCOL_H_
#define SKILLSCALE_PROTOCOL_H_

#include <stddef.h>
#include <stdint.h>

namespace skillscale::protocol {

inline constexpr uint32_t kMagic = 0x534b5331;
inline constexpr int kControlDescriptor = 3;
inline constexpr size_t kInlineBytes = 32 * 1024;
inline constexpr size_t kPayloadBytes = 16 * 1024 * 1024;
inline constexpr uint32_t kStrings = 1 << 20;
inline constexpr uint64_t kUnlimited = UINT64_MAX;

enum CommandType : uint32_t { kSpawn = 1, kTerminate = 2, kKill = 3, kConfigure = 4, kPrepare = 5 };
enum ReplyType : uint32_t { kHello = 1, kSpawnFailed = 2, kExited = 3, kClean = 4, kKilling = 5, kStarted = 6, kReady = 7, kIdle = 8 };

// Of Configure: in namespaces of its own, and with the host's network there.
inline constexpr uint32_t kIsolated = 1;
inline constexpr uint32_t kNetwork = 2;
// Of Configure: the reaper goes through the door that is attached into a control group, before anything else.
inline constexpr uint32_t kGrouped = 4;
// Of Spawn: under Landlock and a system call filter, and that filter as a list of what is allowed.
inline constexpr uint32_t kConfined = 1;
inline constexpr uint32_t kAllowList = 2;
// Of Spawn: may use the network that is there.
inline constexpr uint32_t kConnected = 4;

// Of Spawn: for runs like it the reaper may start what makes them warm, and be busy after this one for that.
inline constexpr uint32_t kMayStart = 8;
// Of Spawn: the command of its warm start is not a fork server, but becomes a run itself.
inline constexpr uint32_t kAhead = 16;
// Of Spawn: the folder with inputs is there for later runs, too.
inline constexpr uint32_t kLasting = 32;
// Of Spawn: the view is the skill's folder itself, to be written.
inline constexpr uint32_t kDirect = 64;
// Of Spawn: the filter refuses what makes files set-user-ID or set-group-ID.
inline constexpr uint32_t kPlainModes = 128;

// Whether anybody is left of a run, and if not, whether the reaper can take the next one.
enum Cleanness : uint32_t { kLeft = 0, kFree = 1, kBusy = 2 };

// Which limit of the whole tree ended a run.
enum TreeLimit : uint32_t { kNoLimit = 0, kMemoryLimit = 1, kProcessLimit = 2, kDiskLimit = 3, kCpuLimit = 4 };

enum Step : uint32_t {
  kNoStep = 0,
  kSocketpair,
  kPipe,
  kMemfd,
  kClone,
  kSetsid,
  kPrctl,
  kDup2,
  kCloseRange,
  kSetrlimit,
  kSigprocmask,
  kChdir,
  kExecve,
  kSendmsg,
  kRead,
  kOpen,
  kEpoll,
  kThread,
  kEventfd,
  kTimerfd,
  kEpollCtl,
  kFcntl,
  kWrite,
  kUnshare,
  kMap,
  kSetuid,
  kMount,
  kMountProc,
  kMountSetattr,
  kOpenTree,
  kMoveMount,
  kPivotRoot,
  kOverlay,
  kSocket,
  kCapset,
  kLandlock,
  kSeccomp,
  kControlGroup,
  kStepCount
};

inline constexpr const char* kStepNames[kStepCount] = {
    "",          "socketpair",    "pipe2",          "memfd_create", "clone",          "setsid",
    "prctl",     "dup2",          "close_range",    "setrlimit",    "sigprocmask",    "chdir",
    "execve",    "sendmsg",       "read",           "open",         "epoll_create1",  "pthread_create",
    "eventfd",   "timerfd_create", "epoll_ctl",     "fcntl",        "write",          "unshare",
    "uid_map",   "setresuid",     "mount",          "mount proc",   "mount_setattr",  "open_tree",
    "move_mount", "pivot_root",   "mount overlay",  "socket",       "capset",         "landlock",
    "seccomp",   "cgroup"};

struct Limits {
  uint64_t cpu_seconds = kUnlimited;
  uint64_t memory_bytes = kUnlimited;
  uint64_t file_bytes = kUnlimited;
  uint64_t open_files = kUnlimited;
  uint64_t processes = kUnlimited;
  // Of the whole tree.
  uint64_t tree_bytes = kUnlimited;
  uint64_t tree_tasks = kUnlimited;
  uint64_t disk_bytes = kUnlimited;
};

struct Command {
  uint32_t magic;
  uint32_t type;
  uint32_t argc;
  uint32_t envc;
  uint32_t writec;
  uint32_t readc;
  uint32_t flags;
  // Whom root becomes; others stay who they are.
  uint32_t uid;
  uint32_t gid;
  // Strings of the warm start: a key and the command of a fork server; 0 for a cold start.
  uint32_t warmc;
  uint64_t payload_bytes;
  // Of Prepare: its number.
  uint64_t number;
  Limits limits;
};

struct Reply {
  uint32_t magic;
  uint32_t type;
  int32_t pid;
  int32_t status;
  // Of Exited: 1 after a warm start.
  int32_t error;
  uint32_t step;
  // A Cleanness.
  uint32_t clean;
  // A TreeLimit, also of Killing; of Hello: of which folders the files belong to the cell's user, as bits; of Idle: how many; of Ready: 1 when the next run
  // may start warm.
  uint32_t detail;
  uint64_t wall_ns;
  // Of Clean: what came to it since Exited.
  uint64_t user_us;
  uint64_t system_us;
  uint64_t max_rss_kib;
  // Of what a fork server says: that of the Prepare.
  uint64_t number;
};

static_assert(sizeof(Command) == 120);
static_assert(sizeof(Reply) == 72);

}  // namespace skillscale::protocol

#endif  // SKILLSCALE_PROTOCOL_H_
