// What the supervisor and a reaper say to each other over one SOCK_SEQPACKET pair.
//
// Both ends are built from this file and run on one machine, so records are plain structs in host order. One packet is
// one record. `Spawn` carries three descriptors (standard input, output, error) and its strings: behind the record when
// they fit into kInlineBytes, else in a memfd that travels as the fourth descriptor. The strings are NUL-terminated and
// in this order: working directory, file, argc arguments, envc environment entries.
//
//   supervisor → reaper   Spawn, Terminate, Kill          (end of file: kill everything and exit)
//   reaper → supervisor   Hello, then per Spawn: SpawnFailed | Exited … Clean, and per Kill: Killing
//
// `Clean` says that no descendant is left. It is folded into `Exited` when the main process left nobody behind.
// `Killing` only says that the reaper is alive: a script may have stopped it.
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

enum CommandType : uint32_t { kSpawn = 1, kTerminate = 2, kKill = 3 };
enum ReplyType : uint32_t { kHello = 1, kSpawnFailed = 2, kExited = 3, kClean = 4, kKilling = 5 };

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
  kStepCount
};

inline constexpr const char* kStepNames[kStepCount] = {
    "",          "socketpair",    "pipe2",          "memfd_create", "clone",          "setsid",
    "prctl",     "dup2",          "close_range",    "setrlimit",    "sigprocmask",    "chdir",
    "execve",    "sendmsg",       "read",           "open",         "epoll_create1",  "pthread_create",
    "eventfd",   "timerfd_create", "epoll_ctl",     "fcntl",        "write"};

struct Limits {
  uint64_t cpu_seconds = kUnlimited;
  uint64_t memory_bytes = kUnlimited;
  uint64_t file_bytes = kUnlimited;
  uint64_t open_files = kUnlimited;
  uint64_t processes = kUnlimited;
};

struct Command {
  uint32_t magic;
  uint32_t type;
  uint32_t argc;
  uint32_t envc;
  uint64_t payload_bytes;
  Limits limits;
};

struct Reply {
  uint32_t magic;
  uint32_t type;
  int32_t pid;
  int32_t status;
  int32_t error;
  uint32_t step;
  uint32_t clean;
  uint32_t reserved;
  uint64_t wall_ns;
  uint64_t user_us;
  uint64_t system_us;
  uint64_t max_rss_kib;
};

static_assert(sizeof(Command) == 64);
static_assert(sizeof(Reply) == 64);

}  // namespace skillscale::protocol

#endif  // SKILLSCALE_PROTOCOL_H_
