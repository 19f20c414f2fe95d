// See run.h.
#include "run.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <utility>

namespace skillscale {
namespace {

constexpr int kPipeBytes = 1024 * 1024;
constexpr size_t kDefaultPipeBytes = 64 * 1024;

bool OpenPipe(Descriptor* reader, Descriptor* writer, StepError* failure) {
  int ends[2];
  if (pipe2(ends, O_CLOEXEC) < 0) {
    *failure = {errno, protocol::kPipe};
    return false;
  }
  reader->Reset(ends[0]);
  writer->Reset(ends[1]);
  return true;
}

bool NeverBlock(const Descriptor& end, StepError* failure) {
  if (fcntl(end.get(), F_SETFL, O_NONBLOCK) == 0) return true;
  *failure = {errno, protocol::kFcntl};
  return false;
}

// A larger pipe is a favour that the kernel may refuse.
void Enlarge(const Descriptor& end) { fcntl(end.get(), F_SETPIPE_SZ, kPipeBytes); }

}  // namespace

Run::Run(RunRequest wanted, Poller* poller)
    : request(std::move(wanted)), poller_(*poller), outputs_{Output(request.stdout_bytes), Output(request.stderr_bytes)} {
  result.type = EventType::kDone;
  result.id = request.id;
}

Run::~Run() {
  CloseInput();
  CloseStream(0);
  CloseStream(1);
}

bool Run::Open(Descriptor far[3], StepError* failure) {
  if (request.input_size > 0) {
    if (!OpenPipe(&far[0], &input_, failure) || !NeverBlock(input_, failure)) return false;
    if (request.input_size > kDefaultPipeBytes) Enlarge(input_);
  }
  for (int i = 0; i < 2; i++) {
    if (!OpenPipe(&streams_[i], &far[i + 1], failure) || !NeverBlock(streams_[i], failure)) return false;
    if (!WatchStream(i, failure)) return false;
  }
  return true;
}

bool Run::Feed(StepError* failure) {
  if (!input_) return true;
  while (written_ < request.input_size) {
    const ssize_t count = write(input_.get(), request.input + written_, request.input_size - written_);
    if (count >= 0) {
      written_ += static_cast<size_t>(count);
      continue;
    }
    if (errno == EINTR) continue;
    if (errno == EPIPE) break;
    if (errno != EAGAIN) {
      *failure = {errno, protocol::kWrite};
      return false;
    }
    if (!input_watched_) {
      input_watched_ = poller_.Watch(input_.get(), Source::kInput, request.id, EPOLLOUT);
      if (!input_watched_) *failure = {errno, protocol::kEpollCtl};
    }
    return input_watched_;
  }
  CloseInput();
  return true;
}

void Run::CloseInput() {
  if (input_watched_) poller_.Unwatch(input_.get());
  input_watched_ = false;
  input_.Reset();
}

Taken Run::Take(int index, std::vector<uint8_t>* scratch, StepError* failure) {
  Descriptor& stream = streams_[index];
  if (!stream) return Taken::kNothing;
  if (held_up()) {
    UnwatchStream(0);
    UnwatchStream(1);
    return Taken::kNothing;
  }
  size_t limit = SIZE_MAX;
  if (streamed() && !discarding_) limit = std::min<size_t>(request.window_bytes - in_flight_, kDefaultPipeBytes);
  const ssize_t count = outputs_[index].Read(stream.get(), scratch->data(), scratch->size(), limit);
  if (count < 0 && errno == EAGAIN) return Taken::kNothing;
  if (count < 0) {
    *failure = {errno, protocol::kRead};
    return Taken::kFailed;
  }
  if (count == 0) {
    CloseStream(index);
    return Taken::kEnd;
  }
  if (static_cast<size_t>(count) >= kDefaultPipeBytes && !enlarged_[index] && !streamed()) {
    enlarged_[index] = true;
    Enlarge(stream);
  }
  if (!outputs_[index].lost()) return Taken::kBytes;
  *failure = {ENOMEM, protocol::kRead};
  return Taken::kFailed;
}

Bytes Run::TakePiece(int index) {
  Bytes piece = outputs_[index].Take();
  in_flight_ += piece.size() + kPieceBytes;
  return piece;
}

bool Run::Acknowledge(uint64_t bytes, StepError* failure) {
  in_flight_ -= std::min(in_flight_, After(bytes, kPieceBytes));
  return Resume(failure);
}

bool Run::Discard(StepError* failure) {
  if (!streamed()) return true;
  discarding_ = true;
  outputs_[0].Discard();
  outputs_[1].Discard();
  return Resume(failure);
}

bool Run::Resume(StepError* failure) {
  if (held_up()) return true;
  for (int i = 0; i < 2; i++) {
    if (streams_[i] && !watched_[i] && !WatchStream(i, failure)) return false;
  }
  return true;
}

bool Run::WatchStream(int index, StepError* failure) {
  const Source source = index == 0 ? Source::kStdout : Source::kStderr;
  watched_[index] = poller_.Watch(streams_[index].get(), source, request.id, EPOLLIN);
  if (!watched_[index]) *failure = {errno, protocol::kEpollCtl};
  return watched_[index];
}

void Run::UnwatchStream(int index) {
  if (watched_[index]) poller_.Unwatch(streams_[index].get());
  watched_[index] = false;
}

void Run::CloseStream(int index) {
  UnwatchStream(index);
  streams_[index].Reset();
}

Event Run::Result() {
  for (int i = 0; i < 2; i++) {
    result.truncated[i] = outputs_[i].overflowed();
    result.bytes[i] = outputs_[i].Take();
    result.bytes[i].Shrink();
  }
  return std::move(result);
}

}  // namespace skillscale
