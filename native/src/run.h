// One run: what was asked for, the near ends of its pipes, how far it is, and what will be told about it.
//
// The pipes are made, and their output watched, before anything is sent to a reaper, so that a shortage fails a run that has
// not begun. The far ends belong to the caller of `Open`. Input is written in place from the owner's memory. A streamed run
// is charged for each piece that is on its way to the owner: its bytes and kPieceBytes for what carries them, so that a
// program that writes single bytes cannot pile up pieces; while the charge is at the window the output is not watched.
#ifndef SKILLSCALE_RUN_H_
#define SKILLSCALE_RUN_H_

#include <stdint.h>

#include <string>
#include <vector>

#include "clock.h"
#include "descriptor.h"
#include "output.h"
#include "poller.h"
#include "protocol.h"
#include "reaper_pool.h"
#include "step_error.h"

namespace skillscale {

struct RunRequest {
  uint64_t id = 0;
  std::string payload;
  uint32_t argc = 0;
  uint32_t envc = 0;
  // The strings were too many to carry; the payload is empty.
  bool oversized = false;
  const uint8_t* input = nullptr;
  size_t input_size = 0;
  uint64_t timeout_ns = protocol::kUnlimited;
  uint64_t grace_ns = 0;
  // In place of the grace, when it is less, for a run that is terminated.
  uint64_t interrupt_grace_ns = 0;
  uint64_t stdout_bytes = 0;
  uint64_t stderr_bytes = 0;
  bool fail_on_overflow = false;
  // 0 collects; otherwise the charge that may be on its way to the owner without an acknowledgement.
  uint64_t window_bytes = 0;
  protocol::Limits limits;
  Kind kind = Kind::kPlain;
  // Of protocol Spawn.
  uint32_t flags = 0;
  uint32_t writec = 0;
  uint32_t readc = 0;
  uint32_t warmc = 0;
  // Runs of the same number are best served by the same reaper, which may be warm for them; 0 for any.
  uint64_t affinity = 0;
  // Changes with the folders that cells show.
  uint64_t epoch = 0;
};

enum class EventType : uint32_t { kReady, kFailed, kOutput, kDone, kIdle, kClosed };
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
  // Of kReady: of which folders the files belong to the cells' user, as bits. Of kDone: a TreeLimit.
  // Of kIdle: how many processes wait for runs, which have max_rss_kib in memory.
  uint32_t detail = 0;
  // Of kDone: a fork server started it.
  bool warm = false;
  // Of kDone: the folder with the run's changes to its skill; absent when there are none.
  Descriptor changes;
};

enum class Phase { kWaiting, kSent, kExited };
enum class Deadline { kNone, kTimeout, kGrace, kLinger };
enum class Taken { kNothing, kEnd, kBytes, kFailed };

class Run {
 public:
  Run(RunRequest wanted, Poller* poller);
  Run(const Run&) = delete;
  Run& operator=(const Run&) = delete;
  ~Run();

  bool Open(Descriptor far[3], StepError* failure);
  // Writes what the pipe takes. False when the input cannot be carried on; a program that closed its end is no failure.
  bool Feed(StepError* failure);
  // Reads once from stream 0 or 1. `kFailed` when its piece or its watch cannot be had.
  Taken Take(int index, std::vector<uint8_t>* scratch, StepError* failure);
  // The piece that a streamed run has to deliver; it is charged for.
  Bytes TakePiece(int index);
  bool Acknowledge(uint64_t bytes, StepError* failure);
  // From now on output is read and thrown away, so that the program can end.
  bool Discard(StepError* failure);

  void CloseInput();
  void CloseStream(int index);
  bool drained() const { return !streams_[0] && !streams_[1]; }
  bool paused() const { return (streams_[0] && !watched_[0]) || (streams_[1] && !watched_[1]); }
  bool streamed() const { return request.window_bytes > 0; }
  const Output& output(int index) const { return outputs_[index]; }
  Event Result();

  RunRequest request;
  Phase phase = Phase::kWaiting;
  uint64_t turn = 0;
  uint64_t reaper = 0;
  // Nobody of the tree is left.
  bool clean = false;
  bool ending = false;
  Deadline deadline = Deadline::kNone;
  uint64_t deadline_at = 0;
  Event result;

 private:
  static constexpr uint64_t kPieceBytes = 1024;

  bool held_up() const { return streamed() && !discarding_ && in_flight_ >= request.window_bytes; }
  bool WatchStream(int index, StepError* failure);
  void UnwatchStream(int index);
  bool Resume(StepError* failure);

  Poller& poller_;
  Descriptor input_;
  bool input_watched_ = false;
  size_t written_ = 0;
  Descriptor streams_[2];
  Output outputs_[2];
  bool watched_[2] = {false, false};
  bool enlarged_[2] = {false, false};
  bool discarding_ = false;
  uint64_t in_flight_ = 0;
};

}  // namespace skillscale

#endif  // SKILLSCALE_RUN_H_
