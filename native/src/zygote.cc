// The library that the Python fork server (zygote.py) loads: it waits until a run is expected, and makes the child that the
// interpreter then forked into a process that waits for the run, confined by the same code as a cold start (entry.h). The
// interpreter does the rest.
//
// The fork server talks to its reaper over one SOCK_SEQPACKET socket (protocol.h). The child gets its run over a socket of
// its own, and ends when that is closed. The fork server has one thread, and forks one run at a time. It also reaps what it did
// not make: where there is no filter of system calls a run can give it children, whose zombies the reaper would wait for.
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "entry.h"
#include "keeper.h"
#include "own_memory.h"
#include "packet.h"
#include "protocol.h"

namespace skillscale {
namespace {

constexpr int kHighDescriptor = 100;

enum PreparedDescriptor { kRuleset, kJob };

// A Prepare in the fork server, then the Spawn in its child.
Packet packet;
Strings strings;
char* large = nullptr;
int control = -1;
// Tells that a child ended.
int ends = -1;
pid_t child = 0;
// Of the last Prepare.
uint64_t number = 0;

bool Say(protocol::Reply reply) {
  reply.magic = protocol::kMagic;
  ssize_t sent;
  do {
    sent = send(control, &reply, sizeof reply, MSG_NOSIGNAL);
  } while (sent < 0 && errno == EINTR);
  return sent >= 0;
}

void Forget() {
  packet.Clear();
  strings.Clear();
  free(large);
  large = nullptr;
}

// The interpreter that this library is loaded into. All of it is in its stable interface.
struct Python {
  void (*before_fork)();
  void (*after_fork_in_parent)();
  void (*after_fork_in_child)();
  void (*keep)(void* object);
  void (*release)(void* object);
  int (*set_in_sys)(const char* name, void* value);
  void* (*get_from_sys)(const char* name);
  void* (*evaluate)(void* code, void* globals, void* locals);
  void (*fetch_error)(void** type, void** value, void** traceback);
  void (*normalize)(void** type, void** value, void** traceback);
  int (*set_traceback)(void* error, void* traceback);
  void (*restore_error)(void* type, void* value, void* traceback);
  void (*print_error)();
  void (*set_error)(void* type, void* value);
  void* (*type_of)(void* object);
  void* (*item)(void* tuple, ssize_t index);
  void (*write_unraisable)(void* where);
  void (*write_about)(const char* text, ...);
  void (*clear_error)();
  void* (*call)(void* function, ...);
  void* none;
  void* truth;
};

Python python;
OwnMemory memory;
// In a child.
bool owns_memory = false;
int rehearsed = -1;
// The run's script: its code, its `__main__`, and what does the rest (`ending` in serving.py).
void* code = nullptr;
void* names = nullptr;
void* ended = nullptr;

template <typename Symbol>
bool Find(const char* name, Symbol* symbol) {
  *symbol = reinterpret_cast<Symbol>(dlsym(RTLD_DEFAULT, name));
  return *symbol != nullptr;
}

bool FindPython() {
  // From 3.13 on.
  Find("PyErr_FormatUnraisable", &python.write_about);
  return Find("PyOS_BeforeFork", &python.before_fork) && Find("PyOS_AfterFork_Parent", &python.after_fork_in_parent) &&
         Find("PyOS_AfterFork_Child", &python.after_fork_in_child) && Find("Py_IncRef", &python.keep) && Find("Py_DecRef", &python.release) &&
         Find("PySys_SetObject", &python.set_in_sys) && Find("PySys_GetObject", &python.get_from_sys) &&
         Find("PyEval_EvalCode", &python.evaluate) && Find("PyErr_Fetch", &python.fetch_error) &&
         Find("PyErr_NormalizeException", &python.normalize) && Find("PyException_SetTraceback", &python.set_traceback) &&
         Find("PyErr_Restore", &python.restore_error) && Find("PyErr_Print", &python.print_error) &&
         Find("PyErr_SetObject", &python.set_error) && Find("PyObject_Type", &python.type_of) &&
         Find("PyTuple_GetItem", &python.item) && Find("PyErr_WriteUnraisable", &python.write_unraisable) &&
         Find("PyErr_Clear", &python.clear_error) && Find("PyObject_CallFunctionObjArgs", &python.call) &&
         Find("_Py_NoneStruct", &python.none) && Find("_Py_TrueStruct", &python.truth);
}

// Tells of an exception that nobody can catch, as the interpreter does.
void TellOf(void* error, void* where) {
  python.set_error(python.type_of(error), error);
  // From 3.13 on it names the stream.
  if (python.write_about != nullptr && where == python.get_from_sys("stdout")) {
    python.write_about("Exception ignored on flushing sys.stdout");
  } else {
    python.write_unraisable(where);
  }
}

// Reaps all zombies but the child.
void ReapStrangers() {
  signalfd_siginfo discarded[8];
  while (read(ends, discarded, sizeof discarded) > 0) {
  }
  for (;;) {
    siginfo_t info{};
    if (waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT | __WALL) < 0) {
      if (errno == EINTR) continue;
      return;
    }
    // The others are found when that one is told of.
    if (info.si_pid == 0 || info.si_pid == child) return;
    if (waitpid(info.si_pid, nullptr, WNOHANG | __WALL) < 0 && errno != EINTR) return;
  }
}

bool TellExit() {
  int status = 0;
  rusage usage{};
  pid_t ended;
  do {
    ended = wait4(child, &status, 0, &usage);
  } while (ended < 0 && errno == EINTR);
  protocol::Reply reply{};
  reply.type = protocol::kExited;
  reply.number = number;
  reply.pid = child;
  reply.status = status;
  reply.user_us = Microseconds(usage.ru_utime);
  reply.system_us = Microseconds(usage.ru_stime);
  reply.max_rss_kib = static_cast<uint64_t>(usage.ru_maxrss);
  child = 0;
  return ended > 0 && Say(reply);
}

}  // namespace
}  // namespace skillscale

using skillscale::Received;
using skillscale::packet;
namespace protocol = skillscale::protocol;

extern "C" {

// The socket is standard input; nothing of the fork server is, from now on.
__attribute__((visibility("default"))) int skillscale_zygote_open() {
  skillscale::control = fcntl(0, F_DUPFD_CLOEXEC, skillscale::kHighDescriptor);
  const int null = open("/dev/null", O_RDWR | O_CLOEXEC);
  sigset_t children;
  sigemptyset(&children);
  sigaddset(&children, SIGCHLD);
  skillscale::ends = signalfd(-1, &children, SFD_CLOEXEC | SFD_NONBLOCK);
  if (skillscale::control < 0 || null < 0 || skillscale::ends < 0 || dup2(null, 0) < 0 || !skillscale::FindPython()) return -1;
  close(null);
  return prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
}

// Says that runs may come, which unblock their signals (entry.h).
__attribute__((visibility("default"))) int skillscale_zygote_ready() {
  sigset_t children;
  sigemptyset(&children);
  sigaddset(&children, SIGCHLD);
  if (sigprocmask(SIG_BLOCK, &children, nullptr) < 0) return -1;
  protocol::Reply reply{};
  reply.type = protocol::kHello;
  reply.pid = getpid();
  return skillscale::Say(reply) ? 0 : -1;
}

// Waits until a run is expected. Returns 1 then, 0 when there will be none.
__attribute__((visibility("default"))) int skillscale_zygote_wait() {
  for (;;) {
    const int pidfd = skillscale::child > 0 ? static_cast<int>(syscall(SYS_pidfd_open, skillscale::child, 0)) : -1;
    if (skillscale::child > 0 && pidfd < 0) return 0;
    pollfd ready[3] = {{skillscale::control, POLLIN, 0}, {pidfd, POLLIN, 0}, {skillscale::ends, POLLIN, 0}};
    const int count = poll(ready, 3, -1);
    if (pidfd >= 0) close(pidfd);
    if (count < 0) {
      if (errno == EINTR) continue;
      return 0;
    }
    if (ready[1].revents != 0) {
      if (!skillscale::TellExit()) return 0;
      skillscale::ReapStrangers();
      continue;
    }
    if (ready[2].revents != 0) {
      skillscale::ReapStrangers();
      continue;
    }
    skillscale::Forget();
    switch (packet.Receive(skillscale::control)) {
      case Received::kNothing:
        continue;
      case Received::kPacket:
        // The one before was killed for it.
        if (skillscale::child > 0 && !skillscale::TellExit()) return 0;
        skillscale::number = packet.command.number;
        return packet.command.type == protocol::kPrepare &&
               packet.Unpack(2, 1, &skillscale::large, &skillscale::strings) && skillscale::strings;
      default:
        return 0;
    }
  }
}

// Forks a child, which begins with memory of its own where `rehearsing` made known what it will write to. Returns its pid, 0 in it,
// or an error below 0.
__attribute__((visibility("default"))) int skillscale_zygote_fork() {
  int ends[2];
  if (pipe2(ends, O_CLOEXEC) < 0) return -errno;
  skillscale::Descriptor reader(ends[0]);
  skillscale::Descriptor writer(ends[1]);
  skillscale::python.before_fork();
  const pid_t pid = fork();
  const int error = errno;
  if (pid == 0) {
    skillscale::owns_memory = skillscale::memory.Take();
    const char taken = skillscale::owns_memory ? 1 : 0;
    while (write(writer.get(), &taken, 1) < 0 && errno == EINTR) {
    }
    reader.Reset();
    writer.Reset();
    skillscale::python.after_fork_in_child();
    return 0;
  }
  writer.Reset();
  if (pid > 0) {
    // What it writes to meanwhile it would have to copy.
    char taken = 0;
    while (read(reader.get(), &taken, 1) < 0 && errno == EINTR) {
    }
    if (taken == 0) skillscale::memory.Forget();
  }
  skillscale::python.after_fork_in_parent();
  return pid < 0 ? -error : pid;
}

// Before the first run: forks a child that shows what runs will write to. Returns 0 in it, which then calls
// `skillscale_zygote_rehearsed`. Elsewhere it returns when that child is gone, something below 0 if there was none.
__attribute__((visibility("default"))) int skillscale_zygote_rehearsing() {
  int ends[2];
  skillscale::memory.Gather();
  if (pipe2(ends, O_CLOEXEC) < 0) return -errno;
  const skillscale::Descriptor reader(ends[0]);
  skillscale::Descriptor writer(ends[1]);
  const int pid = skillscale_zygote_fork();
  if (pid == 0) {
    skillscale::rehearsed = writer.Release();
    return 0;
  }
  writer.Reset();
  skillscale::memory.Hear(reader.get());
  while (pid > 0 && waitpid(pid, nullptr, 0) < 0 && errno == EINTR) {
  }
  return pid;
}

// In that child: ends it.
__attribute__((visibility("default"))) void skillscale_zygote_rehearsed() {
  // Else it may not see its own pages.
  if (prctl(PR_SET_DUMPABLE, 1, 0, 0, 0) == 0) skillscale::memory.Tell(skillscale::rehearsed);
  _exit(0);
}

// In a child: whether it begins with memory of its own.
__attribute__((visibility("default"))) int skillscale_zygote_owns_memory() { return skillscale::owns_memory ? 1 : 0; }

// In the child: confines it as the run will be, or ends it.
__attribute__((visibility("default"))) void skillscale_zygote_enter() {
  skillscale::Confinement confinement;
  confinement.landlock = packet.descriptors[skillscale::kRuleset].get();
  confinement.uid = geteuid();
  confinement.gid = getegid();
  // It goes on when the fork server is gone, and dies with the cell.
  const skillscale::EntryPlan plan{0, skillscale::strings.head(0), {-1, -1, -1}, &packet.command.limits, &confinement};
  if (skillscale::Enter(plan) != protocol::kNoStep || prctl(PR_SET_DUMPABLE, 1, 0, 0, 0) < 0) _exit(127);
}

// In the child: whether the run did not come yet.
__attribute__((visibility("default"))) int skillscale_zygote_waiting() {
  pollfd ready{packet.descriptors[skillscale::kJob].get(), POLLIN, 0};
  return poll(&ready, 1, 0) == 0;
}

// In the child: waits for the run, and takes its streams. Ends it when there will be none.
__attribute__((visibility("default"))) void skillscale_zygote_take() {
  const int job = packet.descriptors[skillscale::kJob].Release();
  skillscale::Forget();
  skillscale::SayWaiting(job, skillscale::StartKeeper());
  pollfd ready{job, POLLIN, 0};
  while (poll(&ready, 1, -1) < 0 && errno == EINTR) {
  }
  if (packet.Receive(job) != Received::kPacket || packet.command.type != protocol::kSpawn ||
      !packet.Unpack(3, skillscale::HeadSize(packet.command), &skillscale::large, &skillscale::strings) || !skillscale::strings) {
    _exit(127);
  }
  const int streams[3] = {packet.descriptors[0].get(), packet.descriptors[1].get(), packet.descriptors[2].get()};
  if (skillscale::ConnectStreams(streams) != protocol::kNoStep || syscall(SYS_close_range, 3U, ~0U, 0) < 0) _exit(127);
  for (skillscale::Descriptor& descriptor : packet.descriptors) descriptor.Release();
}

// In the child, with the interpreter's lock: what `skillscale_zygote_run` runs.
__attribute__((visibility("default"))) void skillscale_zygote_begin(void* code, void* names, void* ended) {
  for (void* object : {code, names, ended}) skillscale::python.keep(object);
  skillscale::code = code;
  skillscale::names = names;
  skillscale::ended = ended;
}

// In the child, with the interpreter's lock: runs the script. The interpreter calls this as its `sys.excepthook`, when nothing
// of the fork server is on its stack any more.
__attribute__((visibility("default"))) void skillscale_zygote_run(void*, void*, void*) {
  const skillscale::Python& python = skillscale::python;
  python.set_in_sys("excepthook", python.get_from_sys("__excepthook__"));
  for (const char* name : {"last_exc", "last_type", "last_value", "last_traceback"}) {
    if (python.get_from_sys(name) != nullptr) python.set_in_sys(name, nullptr);
  }
  void *type = nullptr, *error = nullptr, *traceback = nullptr;
  if (python.evaluate(skillscale::code, skillscale::names, skillscale::names) == nullptr) {
    python.fetch_error(&type, &error, &traceback);
    python.normalize(&type, &error, &traceback);
    if (traceback != nullptr) python.set_traceback(error, traceback);
    const bool shown = python.call(skillscale::ended, error, static_cast<void*>(nullptr)) == python.truth;
    python.restore_error(type, error, traceback);
    if (shown) {
      python.print_error();
    } else {
      python.clear_error();
    }
  }
  for (void* object : {skillscale::code, skillscale::names}) python.release(object);
  while (void* told = python.call(skillscale::ended, python.none, static_cast<void*>(nullptr))) {
    skillscale::TellOf(python.item(told, 0), python.item(told, 1));
  }
  // Nobody is left to ask.
  python.print_error();
  _exit(127);
}

// In the child: ends it, of the signal with which an interrupt ends, or with a status.
__attribute__((visibility("default"))) void skillscale_zygote_leave(int status, int interrupted) {
  if (interrupted != 0) {
    signal(SIGINT, SIG_DFL);
    kill(getpid(), SIGINT);
  }
  _exit(status);
}

__attribute__((visibility("default"))) void skillscale_zygote_show(const char* text) {
  for (size_t left = strlen(text); left > 0;) {
    const ssize_t written = write(STDERR_FILENO, text, left);
    if (written < 0 && errno != EINTR) return;
    if (written > 0) {
      text += written;
      left -= static_cast<size_t>(written);
    }
  }
}

// In the fork server: `pid` is the child, or an error below 0.
__attribute__((visibility("default"))) int skillscale_zygote_started(int pid) {
  skillscale::child = pid > 0 ? pid : 0;
  skillscale::Forget();
  protocol::Reply reply{};
  reply.type = protocol::kStarted;
  reply.number = skillscale::number;
  reply.pid = pid;
  return skillscale::Say(reply) ? 0 : -1;
}

__attribute__((visibility("default"))) int skillscale_zygote_argc() { return static_cast<int>(packet.command.argc); }
__attribute__((visibility("default"))) int skillscale_zygote_envc() { return static_cast<int>(packet.command.envc); }
__attribute__((visibility("default"))) const char* skillscale_zygote_arg(int index) { return skillscale::strings.argv()[index]; }
__attribute__((visibility("default"))) const char* skillscale_zygote_env(int index) { return skillscale::strings.envp()[index]; }
}
