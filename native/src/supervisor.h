// One thread that supervises runs. It knows nothing of Node-API.
//
// Public methods are called from the owner's thread; they put a command into a queue and wake the thread. Results go into a
// second queue; `notify` is called, from the supervisor's thread, when that queue stops being empty. Everything between the
// queues belongs to the thread alone: it waits in the poller and hands what it finds to RunControl.
//
// The thread ends when a closing supervisor has done its last run, or at once on `Stop`; either way all reapers are hung up on
// and reaped first, which ends the trees that they still own.
#ifndef SKILLSCALE_SUPERVISOR_H_
#define SKILLSCALE_SUPERVISOR_H_

#include <pthread.h>
#include <stdint.h>

#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <vector>

#include "poller.h"
#include "run.h"
#include "run_control.h"

namespace skillscale {

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
  // Ends everything, joins the thread and closes all descriptors. May be called more than once; later commands are ignored.
  void Stop();
  std::deque<Event> TakeEvents();

 private:
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
  void Handle(Source source, uint64_t id);
  void HandleCommands();
  void HandleCommand(Command& command);

  const std::function<void()> notify_;
  pthread_t thread_{};
  bool joinable_ = false;

  std::mutex mutex_;
  std::vector<Command> commands_;
  std::deque<Event> events_;
  bool stopping_ = false;

  bool stopped_ = false;
  Poller poller_;
  RunControl control_;
};

}  // namespace skillscale

#endif  // SKILLSCALE_SUPERVISOR_H_
