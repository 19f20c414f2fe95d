// Supervises runs on one thread: epoll over the control sockets and pidfds of reapers, the pipes of runs, one eventfd
// (commands from JavaScript) and one timerfd (all deadlines). It knows nothing of Node-API.
//
// Threads. Public methods are called from the owner's thread; they put a command into a queue and wake the supervisor.
// Results go into a second queue; `notify` is called, from the supervisor's thread, when that queue stops being empty.
// Everything else belongs to the supervisor's thread alone.
//
// A run: waiting ▸ sent to a reaper ▸ exited ▸ clean (no descendant left) ▸ drained (both pipes at their end) ▸ done.
// Each run has at most one deadline at a time: its timeout, then the grace after SIGTERM, then the wait for a pipe whose
// far end was passed out of the tree. The supervisor owns the near ends of a run's pipes and closes the far ends as soon
// as they are on their way to the reaper.
//
// Reapers are reused. A run whose reaper dies ends as lost. When the last run of a closing supervisor is done, it hangs
// up on all reapers, reaps them and says so. `Stop` does that at once: hanging up makes every reaper kill its tree.
#ifndef SKILLSCALE_SUPERVISOR_H_
#define SKILLSCALE_SUPERVISOR_H_

#include <pthread.h>
#include <stdint.h>

#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "descriptor.h"
#include "output.h"
#include "protocol.h"
#include "reaper_process.h"

namespace skillscale {

struct SupervisorOptions {
  std::string reaper_path;
  uint32_t min_reapers = 1;
  uint32_t idle_reapers = 1;
  uint32_t max_reapers = 1;
};

struct RunRequest {
  uint64_t id = 0;
  std::string payload;
  uint32_t argc = 0;
  uint32_t envc = 0;
  const uint8_t* input = nullptr;
  size_t input_size = 0;
  uint64_t timeout_ns = protocol::kUnlimited;
  uint64_t grace_ns = 0;
  uint64_t stdout_bytes = 0;
  uint64_t stderr_bytes = 0;
  bool fail_on_overflow = false;
  // 0 collects; otherwise the bytes that may be on their way to the owner without an acknowledgement.
  uint64_t window_bytes = 0;
  protocol::Limits limits;
};

enum class EventType : uint32_t { kReady, kFailed, kOutput, kDone, kClosed };
enum class Outcome : uint32_t { kEnded, kSpawnFailed, kTimedOut, kStdoutLimit, kStderrLimit, kTerminated, kClosing, kLost };

struct Event {
  EventType type = EventType::kReady;
  uint64_t id = 0;
  // 1 standard output, 2 standard error.
  uint32_t stream = 0;
  Bytes bytes[2];
  Outcome outcome = Outcome::kEnded;
  int status = 0;
  StepError failure;
  bool truncated[2] = {false, false};
  uint64_t wall_ns = 0;
  uint64_t user_us = 0;
  uint64_t system_us = 0;
  uint64_t max_rss_kib = 0;
};

class Supervisor {
 public:
  Supervisor(SupervisorOptions options, std::function<void()> notify);
  Supervisor(const Supervisor&) = delete;
  Supervisor& operator=(const Supervisor&) = delete;
  ~Supervisor();

  bool Start(StepError* failure);
  void Spawn(RunRequest request);
  void Terminate(uint64_t id);
  void Acknowledge(uint64_t id, uint64_t bytes);
  void Close();
  // Ends everything and joins the thread. May be called more than once.
  void Stop();
  std::deque<Event> TakeEvents();

 private:
  enum class Kind : uint64_t { kWake = 0, kTimer, kControl, kPidfd, kInput, kStdout, kStderr };
  enum class Phase { kWaiting, kSent, kExited };
  enum class Deadline { kNone, kTimeout, kGrace, kLinger };

  struct Reaper {
    ReaperProcess process;
    uint64_t run = 0;
    bool greeted = false;
    bool retired = false;
  };

  struct Run {
    explicit Run(RunRequest wanted);
    RunRequest request;
    Phase phase = Phase::kWaiting;
    uint64_t reaper = 0;
    Descriptor input;
    size_t written = 0;
    Descriptor streams[2];
    Output outputs[2];
    bool watched[2] = {false, false};
    bool input_watched = false;
    bool enlarged[2] = {false, false};
    bool clean = false;
    bool ending = false;
    uint64_t in_flight = 0;
    Deadline deadline = Deadline::kNone;
    uint64_t deadline_at = 0;
    Event result;
  };

  struct Command {
    enum class Type { kSpawn, kTerminate, kAcknowledge, kClose } type;
    uint64_t id = 0;
    uint64_t bytes = 0;
    std::unique_ptr<Run> run;
  };

  void Post(Command command);
  void Emit(Event event);
  static void* ThreadMain(void* self);
  void Loop();
  void HandleCommands();
  void HandleTimer();
  void HandleControl(uint64_t reaper_id);
  void HandlePidfd(uint64_t reaper_id);
  void HandleReply(uint64_t reaper_id, Reaper& reaper, const protocol::Reply& reply);

  bool Watch(int fd, Kind kind, uint64_t id, uint32_t events);
  void Unwatch(int fd);
  void SetDeadline(Run& run, Deadline deadline, uint64_t at);
  void ArmTimer();

  uint64_t StartReaper(StepError* failure);
  void RetireReaper(Reaper& reaper);
  bool LoseReaper(uint64_t reaper_id);
  void ReleaseReaper(uint64_t reaper_id);
  void FillPool();
  void Schedule();
  bool OpenStreams(Run& run, Descriptor far[3], StepError* failure);
  void Dispatch(Run& run, uint64_t reaper_id);
  void FailRun(Run& run, const StepError& failure);
  void EndRun(Run& run, Outcome outcome);
  void TerminateAll();

  void Feed(Run& run);
  void CloseInput(Run& run);
  void Drain(Run& run, int index);
  void CloseStream(Run& run, int index);
  void Pause(Run& run);
  void Resume(Run& run);
  void Settle(uint64_t run_id);
  void Finish(Run& run);
  void LeaveIfDone();
  void HangUpAndReap();

  const SupervisorOptions options_;
  const std::function<void()> notify_;
  pthread_t thread_{};
  bool joinable_ = false;

  std::mutex mutex_;
  std::vector<Command> commands_;
  std::deque<Event> events_;
  bool stopping_ = false;

  Descriptor epoll_;
  Descriptor wake_;
  Descriptor timer_;
  Descriptor null_;
  std::vector<uint8_t> scratch_;

  std::unordered_map<uint64_t, std::unique_ptr<Run>> runs_;
  std::unordered_map<uint64_t, Reaper> reapers_;
  std::deque<uint64_t> waiting_;
  std::vector<uint64_t> idle_;
  std::set<std::pair<uint64_t, uint64_t>> deadlines_;
  uint64_t armed_at_ = 0;
  uint64_t next_reaper_ = 1;
  bool ready_ = false;
  bool closing_ = false;
  bool finished_ = false;
};

}  // namespace skillscale

#endif  // SKILLSCALE_SUPERVISOR_H_
