// Checks system_calls.cc; compiled together with it by system_calls.test.ts. The first argument says what to do:
//
//   table      interprets the built programs for all numbers and for arguments that matter, and compares with what
//              system_calls_table.h and system_calls_cases.h expect
//   kernel     installs them in children and makes the calls for real
//   measure    prints what building, installing and being filtered cost
//   run        runs a program below the filter of a policy, default-unix for instance, and exits as it does
//
// Prints every difference and exits with their number.
#include <errno.h>
#include <fcntl.h>
#include <ifaddrs.h>
#include <linux/seccomp.h>
#include <netinet/in.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>

#include "clock.h"
#include "sanitizer.h"
#include "system_calls.h"
#include "system_calls_cases.h"
#include "system_calls_table.h"

namespace {

using skillscale::Now;
using skillscale::Sockets;
using skillscale::SystemCallFilter;
using skillscale::SystemCallPolicy;

#ifdef __x86_64__
constexpr uint32_t kNative = 0xc000003e;
constexpr uint32_t kStrangers[] = {0x40000003, 0xc00000b7};
#else
constexpr uint32_t kNative = 0xc00000b7;
constexpr uint32_t kStrangers[] = {0x40000028, 0xc000003e};
#endif

constexpr int kKilled = -1;
constexpr int kInvalid = -2;
constexpr int kByArguments = -3;
constexpr size_t kSteps = 13;

constexpr SystemCallPolicy kPolicies[] = {
    {false, Sockets::kNone}, {false, Sockets::kUnix}, {false, Sockets::kLocal},
    {true, Sockets::kNone},  {true, Sockets::kUnix},  {true, Sockets::kLocal},
    {false, Sockets::kNone, true}, {false, Sockets::kLocal, true}, {true, Sockets::kLocal, true},
};

int failures = 0;

[[gnu::format(printf, 2, 3)]] void Expect(bool holds, const char* format, ...) {
  if (holds) return;
  failures++;
  va_list arguments;
  va_start(arguments, format);
  vfprintf(stderr, format, arguments);
  va_end(arguments);
  fputc('\n', stderr);
}

const char* Describe(const SystemCallPolicy& policy) {
  static constexpr const char* kNames[] = {"default-none", "default-unix", "default-local",
                                           "list-none",    "list-unix",    "list-local"};
  static constexpr const char* kPlain[] = {"plain-none", "", "plain-local", "plain-list-none", "", "plain-list-local"};
  return (policy.plain_modes ? kPlain : kNames)[(policy.allow_list ? 3 : 0) + static_cast<int>(policy.sockets)];
}

int NumberOf(const Expectation& expectation) {
#ifdef __x86_64__
  return expectation.x86_64;
#else
  return expectation.arm64;
#endif
}

int NumberOf(const char* name) {
  for (const Expectation& expectation : kExpectations) {
    if (strcmp(expectation.name, name) == 0) return NumberOf(expectation);
  }
  fprintf(stderr, "the table has no %s\n", name);
  abort();
}

SystemCallFilter Built(const SystemCallPolicy& policy) {
  SystemCallFilter filter;
  Expect(filter.Build(policy), "%s: does not fit", Describe(policy));
  return filter;
}

struct Outcome {
  int answer;
  size_t steps;
};

int AnswerOf(uint32_t value) {
  switch (value & SECCOMP_RET_ACTION_FULL) {
    case SECCOMP_RET_ALLOW:
      return 0;
    case SECCOMP_RET_ERRNO:
      return static_cast<int>(value & SECCOMP_RET_DATA);
    case SECCOMP_RET_KILL_PROCESS:
      return kKilled;
    default:
      return kInvalid;
  }
}

// The part of classic BPF that the kernel takes in a seccomp filter and follows when it looks for constant answers.
Outcome Interpret(std::span<const sock_filter> program, const seccomp_data& data) {
  uint32_t accumulator = 0;
  size_t steps = 0;
  for (size_t at = 0; at < program.size(); at++) {
    const sock_filter& step = program[at];
    steps++;
    bool taken = false;
    switch (step.code) {
      case BPF_LD | BPF_W | BPF_ABS:
        if (step.k % 4 != 0 || step.k > sizeof data - 4) return {kInvalid, steps};
        memcpy(&accumulator, reinterpret_cast<const char*>(&data) + step.k, 4);
        continue;
      case BPF_ALU | BPF_AND | BPF_K:
        accumulator &= step.k;
        continue;
      case BPF_RET | BPF_K:
        return {AnswerOf(step.k), steps};
      case BPF_JMP | BPF_JEQ | BPF_K:
        taken = accumulator == step.k;
        break;
      case BPF_JMP | BPF_JGE | BPF_K:
        taken = accumulator >= step.k;
        break;
      case BPF_JMP | BPF_JSET | BPF_K:
        taken = (accumulator & step.k) != 0;
        break;
      default:
        return {kInvalid, steps};
    }
    at += taken ? step.jt : step.jf;
  }
  return {kInvalid, steps};
}

// What makes files or changes modes: which argument is the mode, and which one before it says that a file is made, or -1.
struct ModeCall {
  const char* name;
  int mode;
  int flags;
};
constexpr ModeCall kModeCalls[] = {
    {"fchmod", 1, -1}, {"fchmodat", 2, -1}, {"fchmodat2", 2, -1}, {"mkdirat", 2, -1}, {"mknodat", 2, -1}, {"openat", 3, 2},
#ifdef __x86_64__
    {"chmod", 1, -1},  {"creat", 1, -1},    {"mkdir", 1, -1},     {"mknod", 1, -1},   {"open", 2, 1},
#endif
};

int ExpectedFor(int number, const SystemCallPolicy& policy) {
  for (const Expectation& expectation : kExpectations) {
    if (NumberOf(expectation) != number) continue;
    if (policy.plain_modes) {
      if (strcmp(expectation.name, "openat2") == 0) return ENOSYS;
      for (const ModeCall& call : kModeCalls) {
        if (strcmp(expectation.name, call.name) == 0) return kByArguments;
      }
    }
    switch (expectation.verdicts[policy.allow_list ? 1 : 0]) {
      case 'a':
        return 0;
      case 'p':
        return EPERM;
      case 's':
        return ENOSYS;
      default:
        return kByArguments;
    }
  }
  return ENOSYS;
}

void CheckNumbers() {
  constexpr uint64_t kPatterns[] = {0, 1, UINT32_MAX, UINT64_MAX, 0x5412};
  for (const SystemCallPolicy& policy : kPolicies) {
    const SystemCallFilter filter = Built(policy);
    for (int number = 0; number <= 600; number++) {
      const int expected = ExpectedFor(number, policy);
      for (const uint64_t argument : kPatterns) {
        seccomp_data data{number, kNative, 0, {argument, argument, argument, argument, argument, argument}};
        const Outcome outcome = Interpret(filter.program(), data);
        Expect(outcome.answer != kInvalid, "%s: %d: not a valid program", Describe(policy), number);
        if (expected == kByArguments) continue;
        Expect(outcome.answer == expected, "%s: %d with %#lx: %d instead of %d", Describe(policy), number,
               static_cast<unsigned long>(argument), outcome.answer, expected);
        Expect(outcome.steps <= kSteps, "%s: %d takes %zu steps", Describe(policy), number, outcome.steps);
        for (const uint32_t stranger : kStrangers) {
          data.arch = stranger;
          Expect(Interpret(filter.program(), data).answer == kKilled, "%s: %d of %#x is not killed", Describe(policy),
                 number, stranger);
        }
      }
      const seccomp_data x32{number | 0x40000000, kNative, 0, {}};
      Expect(Interpret(filter.program(), x32).answer == ENOSYS, "%s: %d of x32", Describe(policy), number);
    }
    for (const int number : {1023, INT32_MAX, INT32_MIN, -1}) {
      const seccomp_data data{number, kNative, 0, {}};
      Expect(Interpret(filter.program(), data).answer == ENOSYS, "%s: %d", Describe(policy), number);
    }
  }
}

void CheckArguments() {
  for (const SystemCallPolicy& policy : kPolicies) {
    const SystemCallFilter filter = Built(policy);
    const auto answer = [&filter](const char* name, uint64_t first, uint64_t second, uint64_t third) {
      return Interpret(filter.program(), {NumberOf(name), kNative, 0, {first, second, third}}).answer;
    };
    for (const auto& [name, arguments, expected] : kArgumentCases) {
      const int actual = answer(name, arguments[0], arguments[1], arguments[2]);
      const int wanted = expected[static_cast<int>(policy.sockets)];
      Expect(actual == wanted, "%s: %s(%#lx, %#lx, %#lx): %d instead of %d", Describe(policy), name,
             static_cast<unsigned long>(arguments[0]), static_cast<unsigned long>(arguments[1]),
             static_cast<unsigned long>(arguments[2]), actual, wanted);
    }
    for (uint64_t family = 0; family < 64; family++) {
      if (family == AF_UNIX || family == AF_INET || family == AF_INET6 || family == AF_NETLINK) continue;
      for (uint64_t type = 0; type < 16; type++) {
        Expect(answer("socket", family, type, 0) == EAFNOSUPPORT, "%s: family %d", Describe(policy),
               static_cast<int>(family));
      }
    }
  }
}

void CheckModes() {
  for (const SystemCallPolicy& policy : kPolicies) {
    const SystemCallFilter filter = Built(policy);
    for (const ModeCall& call : kModeCalls) {
      for (const uint64_t flags : {uint64_t{O_RDWR}, uint64_t{O_WRONLY | O_CREAT | O_EXCL}, uint64_t{O_TMPFILE | O_RDWR}}) {
        for (const uint64_t mode : {0755, 01777, 0100644, 02755, 04755, 06000, 0104755}) {
          seccomp_data data{NumberOf(call.name), kNative, 0, {}};
          data.args[call.mode] = mode;
          if (call.flags >= 0) data.args[call.flags] = flags;
          const bool makes = call.flags < 0 || flags != O_RDWR;
          const int expected = policy.plain_modes && makes && (mode & 06000) != 0 ? EPERM : 0;
          const int actual = Interpret(filter.program(), data).answer;
          Expect(actual == expected, "%s: %s with mode %#lo and flags %#lo: %d instead of %d", Describe(policy), call.name,
                 static_cast<unsigned long>(mode), static_cast<unsigned long>(flags), actual, expected);
        }
      }
    }
  }
}

// Every instruction can be reached and nothing runs over the end: what the kernel's own check does not ask for.
void CheckShape() {
  for (const SystemCallPolicy& policy : kPolicies) {
    const SystemCallFilter filter = Built(policy);
    const std::span<const sock_filter> program = filter.program();
    bool reached[256] = {true};
    for (size_t at = 0; at < program.size(); at++) {
      const auto reach = [&](size_t next) {
        Expect(next < program.size(), "%s: %zu leads behind the end", Describe(policy), at);
        if (next < program.size()) reached[next] = true;
      };
      Expect(reached[at], "%s: %zu is never reached", Describe(policy), at);
      const uint16_t kind = BPF_CLASS(program[at].code);
      if (kind == BPF_JMP) {
        reach(at + 1 + program[at].jt);
        reach(at + 1 + program[at].jf);
      } else if (kind != BPF_RET) {
        reach(at + 1);
      }
    }
  }
  const SystemCallFilter empty;
  Expect(empty.program().empty(), "a filter that was not built is not empty");
}

bool Binds(const SystemCallFilter& filter) {
  return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 && filter.Install() == 0;
}

// Runs the body in a child of its own, where failures are counted from 0, and returns how that ended.
template <typename Body>
int InChild(Body body) {
  const pid_t pid = fork();
  if (pid == 0) {
    failures = 0;
    body();
    _exit(std::min(failures, 100));
  }
  int status = 0;
  while (waitpid(pid, &status, 0) < 0 && errno == EINTR) {
  }
  return status;
}

int ErrorOf(const Attempt& attempt) {
  const long(&arguments)[5] = attempt.arguments;
  const long result =
      syscall(NumberOf(attempt.name), arguments[0], arguments[1], arguments[2], arguments[3], arguments[4]);
  return result < 0 ? errno : 0;
}

// What must go on working, with the sockets of the policy.
void AttemptTheAllowed(Sockets sockets) {
  pthread_t thread;
  const auto nothing = [](void*) -> void* { return nullptr; };
  Expect(pthread_create(&thread, nullptr, nothing, nullptr) == 0 && pthread_join(thread, nullptr) == 0, "no thread");
  Expect(InChild([] {}) == 0, "no fork");
  Expect(system("exit 7") == 7 << 8, "no shell");
  Expect(syscall(SYS_unshare, CLONE_FILES | CLONE_FS) == 0, "unshare of files");
  Expect(syscall(SYS_personality, 0xffffffffUL) >= 0, "personality");
  SystemCallFilter another;
  Expect(another.Build({false, sockets}) && another.Install() == 0, "a further filter");

  int ends[2];
  Expect(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) == 0, "socketpair");
  Expect((socketpair(AF_UNIX, SOCK_DGRAM, 0, ends) == 0) == (sockets != Sockets::kNone), "datagram socketpair");
  Expect((socket(AF_UNIX, SOCK_STREAM, 0) >= 0) == (sockets != Sockets::kNone), "AF_UNIX");
  const int tcp = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, IPPROTO_TCP);
  ifaddrs* addresses = nullptr;
  if (sockets == Sockets::kLocal) {
    const sockaddr_in loopback{AF_INET, 0, {htonl(INADDR_LOOPBACK)}, {}};
    Expect(bind(tcp, reinterpret_cast<const sockaddr*>(&loopback), sizeof loopback) == 0 && listen(tcp, 1) == 0, "TCP");
    Expect(getifaddrs(&addresses) == 0, "getifaddrs");
    freeifaddrs(addresses);
    Expect(socket(AF_INET, SOCK_RAW, IPPROTO_ICMP) < 0 && errno == EPERM, "a raw socket: %d", errno);
    Expect(socket(AF_NETLINK, SOCK_RAW, 12) < 0 && errno == EPROTONOSUPPORT, "netfilter: %d", errno);
  } else {
    Expect(tcp < 0 && errno == EAFNOSUPPORT, "AF_INET: %d", errno);
    Expect(socket(AF_NETLINK, SOCK_RAW, 0) < 0 && errno == EAFNOSUPPORT, "netlink: %d", errno);
  }
}

// Why a datagram pair is refused where there are to be no sockets.
void CheckThatPairsReachNames() {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  snprintf(address.sun_path + 1, sizeof address.sun_path - 1, "system-calls-%d", getpid());
  const auto* name = reinterpret_cast<const sockaddr*>(&address);
  const int server = socket(AF_UNIX, SOCK_DGRAM, 0);
  int ends[2];
  Expect(bind(server, name, sizeof address) == 0 && socketpair(AF_UNIX, SOCK_DGRAM, 0, ends) == 0, "datagrams");
  Expect(sendto(ends[0], "x", 1, 0, name, sizeof address) == 1, "a datagram pair reaches no names: why refuse it?");
  for (const int type : {SOCK_STREAM, SOCK_SEQPACKET}) {
    Expect(socketpair(AF_UNIX, type, 0, ends) == 0, "socketpair");
    Expect(connect(ends[0], name, sizeof address) < 0, "a pair of type %d reaches names", type);
    Expect(sendto(ends[0], "x", 1, 0, name, sizeof address) < 0 || recv(ends[1], address.sun_path, 1, 0) == 1,
           "a pair of type %d reaches names", type);
  }
}

void CheckInstallation(const SystemCallFilter& filter) {
  const int status = InChild([&filter] {
    if (geteuid() == 0) Expect(setresuid(65534, 65534, 65534) == 0, "setresuid");
    Expect(skillscale::SystemCallFilterSupport() == 0, "no support");
    Expect(filter.Install() == EACCES, "installed without no_new_privs");
    Expect(Binds(filter), "not installed");
    Expect(SystemCallFilter().Install() == EINVAL, "installed an empty filter");
  });
  Expect(status == 0, "installation: %#x", status);
#ifdef __x86_64__
  const int killed = InChild([&filter] {
    if (!Binds(filter)) _exit(101);
    long number = 20;
    asm volatile("int $0x80" : "+a"(number)::"memory");
  });
  Expect(WIFSIGNALED(killed) && (WTERMSIG(killed) == SIGSYS || WTERMSIG(killed) == SIGSEGV), "int 0x80: %#x", killed);
#endif
}

void CheckKernel() {
  int telling = 0;
  for (const Attempt& attempt : kAttempts) {
    const int status = InChild([&attempt] {
      setsid();
      failures = ErrorOf(attempt) != attempt.expected ? 1 : 0;
    });
    telling += status == 1 << 8;
  }
  printf("%d of %zu attempts have another answer without a filter\n", telling, std::size(kAttempts));
  Expect(telling >= 20, "the attempts tell nothing");

  for (const SystemCallPolicy& policy : kPolicies) {
    const SystemCallFilter filter = Built(policy);
    const int status = InChild([&] {
      Expect(Binds(filter), "not installed");
      for (const Attempt& attempt : kAttempts) {
        const int error = ErrorOf(attempt);
        Expect(error == attempt.expected, "%s: %s: %d instead of %d", Describe(policy), attempt.name, error,
               attempt.expected);
      }
      AttemptTheAllowed(policy.sockets);
    });
    Expect(status == 0, "%s: %#x", Describe(policy), status);
    CheckInstallation(filter);
  }
  CheckThatPairsReachNames();
}

struct Start {
  const SystemCallFilter& filter;
  char* const* argv;
};

alignas(16) char stack[64 * 1024];

int Launch(void* argument) {
  const Start& start = *static_cast<const Start*>(argument);
  if (!Binds(start.filter)) _exit(101);
  execvp(start.argv[0], start.argv);
  _exit(errno == ENOENT ? 127 : 102);
}

// Starts a program as a run is started: the child shares this memory until exec. Returns its exit code.
int Run(const SystemCallPolicy& policy, char* const* argv) {
  const SystemCallFilter filter = Built(policy);
  Start start{filter, argv};
  skillscale::ForgetStack(stack, sizeof stack);
  const pid_t pid = clone(Launch, stack + sizeof stack, CLONE_VM | CLONE_VFORK | SIGCHLD, &start);
  int status = -1;
  while (pid > 0 && waitpid(pid, &status, 0) < 0 && errno == EINTR) {
  }
  Expect(prctl(PR_GET_SECCOMP) == 0, "the filter of a child binds its parent");
  Expect(WIFEXITED(status), "ended with %#x", status);
  return failures > 0 ? 103 : WEXITSTATUS(status);
}

uint64_t InstallationTime(const SystemCallFilter& filter) {
  uint64_t* elapsed = static_cast<uint64_t*>(
      mmap(nullptr, sizeof(uint64_t), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0));
  InChild([&] {
    prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    const uint64_t start = Now();
    filter.Install();
    *elapsed = Now() - start;
  });
  const uint64_t result = *elapsed;
  munmap(elapsed, sizeof(uint64_t));
  return result;
}

// Nanoseconds of one call, the best of several rounds.
template <typename Call>
double CostOf(Call call) {
  constexpr int kCalls = 200'000;
  uint64_t best = UINT64_MAX;
  for (int round = 0; round < 10; round++) {
    const uint64_t start = Now();
    for (int i = 0; i < kCalls; i++) call();
    best = std::min(best, Now() - start);
  }
  return static_cast<double>(best) / kCalls;
}

void PrintCosts(const char* what) {
  const int refused = NumberOf("swapoff");
  printf("  %-20s getpid %5.1f ns, ioctl %5.1f ns, a refused call %5.1f ns\n", what,
         CostOf([] { syscall(SYS_getpid); }), CostOf([] { syscall(SYS_ioctl, -1, 0x5413, 0); }),
         CostOf([refused] { syscall(refused, nullptr); }));
  fflush(stdout);
}

void Measure() {
  constexpr int kRounds = 301;
  for (const SystemCallPolicy& policy : kPolicies) {
    SystemCallFilter filter;
    const double built = CostOf([&filter, &policy] { filter.Build(policy); }) / 1000;
    uint64_t times[kRounds];
    for (uint64_t& time : times) time = InstallationTime(filter);
    std::sort(times, times + kRounds);
    size_t most = 0;
    for (int number = 0; number < 470; number++) {
      most = std::max(most, Interpret(filter.program(), {number, kNative, 0, {}}).steps);
    }
    const seccomp_data read{NumberOf("read"), kNative, 0, {}};
    printf("%s: %zu instructions, read takes %zu of them and no call more than %zu\n"
           "  built in %.1f us, installed in %.1f us (median; 90 %%: %.1f)\n",
           Describe(policy), filter.program().size(), Interpret(filter.program(), read).steps, most, built,
           static_cast<double>(times[kRounds / 2]) / 1000, static_cast<double>(times[kRounds * 9 / 10]) / 1000);
    fflush(stdout);
    InChild([&filter] {
      PrintCosts("without");
      Expect(Binds(filter), "not installed");
      PrintCosts("with");
    });
  }
}

}  // namespace

int main(int argc, char** argv) {
  const char* command = argc > 1 ? argv[1] : "";
  if (strcmp(command, "table") == 0) {
    CheckNumbers();
    CheckArguments();
    CheckModes();
    CheckShape();
  } else if (strcmp(command, "kernel") == 0) {
    CheckKernel();
  } else if (strcmp(command, "measure") == 0) {
    Measure();
  } else if (strcmp(command, "run") == 0 && argc > 3) {
    for (const SystemCallPolicy& policy : kPolicies) {
      if (strcmp(argv[2], Describe(policy)) == 0) return Run(policy, argv + 3);
    }
    fprintf(stderr, "no such policy: %s\n", argv[2]);
    return 104;
  } else {
    fprintf(stderr, "usage: system_calls_check table | kernel | measure | run policy program argument…\n");
    return 104;
  }
  return std::min(failures, 100);
}
