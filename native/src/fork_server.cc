// See fork_server.h.
#include "fork_server.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include <algorithm>
#include <utility>
#include <vector>

#include "entry.h"
#include "landlock.h"
#include "rights.h"
#include "spawn.h"

namespace skillscale {
namespace {

constexpr uint32_t kMaxForks = 1000;
constexpr uint32_t kMinRest = 4;
constexpr uint32_t kMaxRest = 1000;

}  // namespace

bool ForkServer::Wanted(const RunPlan& plan) {
  if (plan.warm() < 2 || plan.ahead()) return false;
  const std::string key = plan.warm(0);
  if (key == given_up_ && rest_ > 0) {
    rest_--;
    return false;
  }
  if (pid_ != 0 && key_ == key && flags_ == plan.command().flags && forks_ < kMaxForks) return false;
  const bool again = asked_ == key;
  asked_ = key;
  return again;
}

bool ForkServer::Serves(const RunPlan& plan) const {
  return ready_ && plan.warm() > 0 && key_ == plan.warm(0) && flags_ == plan.command().flags;
}

bool ForkServer::Start(const RunPlan& plan, const SystemCallFilter* filter) {
  End();
  key_ = plan.warm(0);
  int ends[2];
  if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) < 0) {
    GiveUp();
    return false;
  }
  Descriptor near(ends[0]);
  const Descriptor far(ends[1]);
  Landlock scope;
  Confinement confinement;
  confinement.landlock = scope.BeginScope() ? scope.get() : -1;
  confinement.filter = filter;
  // As every run that it makes, but for the time that it takes to make them all.
  protocol::Limits limits = plan.limits();
  limits.cpu_seconds = protocol::kUnlimited;
  const std::vector<char*> argv = plan.WarmCommand();
  const SpawnPlan spawn{"/", argv[0], argv.data(), kWarmEnvironment, {far.get(), 1, 2}, &limits, &confinement};
  SpawnFailure failure{};
  const pid_t pid = Spawn(spawn, &failure);
  if (pid < 0) {
    GiveUp();
    return false;
  }
  pid_ = pid;
  socket_ = std::move(near);
  flags_ = plan.command().flags;
  forks_ = 0;
  return true;
}

bool ForkServer::Fork(const RunPlan& plan, uint64_t number, int landlock, int job) {
  protocol::Command command = plan.command();
  const char* directory = plan.head(kDirectory);
  command.type = protocol::kPrepare;
  command.number = number;
  command.writec = command.readc = command.warmc = 0;
  command.payload_bytes = strlen(directory) + 1;
  iovec parts[2] = {{&command, sizeof command}, {const_cast<char*>(directory), strlen(directory) + 1}};
  const int descriptors[2] = {landlock, job};
  forks_++;
  return SendPacket(socket_.get(), parts, 2, descriptors, 2, MSG_DONTWAIT);
}

FromServer ForkServer::Receive(protocol::Reply* reply) {
  ssize_t size;
  do {
    size = recv(socket_.get(), reply, sizeof *reply, MSG_DONTWAIT);
  } while (size < 0 && errno == EINTR);
  if (size < 0 && errno == EAGAIN) return FromServer::kNothing;
  const bool valid = size == sizeof *reply && reply->magic == protocol::kMagic && reply->step < protocol::kStepCount;
  if (valid && reply->type == protocol::kHello && !ready_) {
    ready_ = true;
    next_rest_ = kMinRest;
    return FromServer::kReady;
  }
  if (valid && ready_ && (reply->type == protocol::kStarted || reply->type == protocol::kExited)) return FromServer::kReply;
  if (ready_) {
    End();
  } else {
    GiveUp();
  }
  return FromServer::kGone;
}

void ForkServer::GiveUp() {
  if (given_up_ != key_) next_rest_ = kMinRest;
  given_up_ = key_;
  End();
  rest_ = WIFEXITED(status_) ? kMaxRest : next_rest_;
  next_rest_ = std::min(2 * next_rest_, kMaxRest);
}

void ForkServer::Rest() {
  if (pid_ == 0) return;
  used_rest_ = given_up_ == key_ ? std::min(2 * used_rest_, kMaxRest) : 0;
  used_rest_ = std::max(used_rest_, kMinRest);
  given_up_ = key_;
  End();
  rest_ = used_rest_;
}

void ForkServer::End() {
  socket_.Reset();
  ready_ = false;
  key_.clear();
  if (pid_ == 0) return;
  kill(pid_, SIGKILL);
  while (waitpid(pid_, &status_, __WALL) < 0 && errno == EINTR) {
  }
  pid_ = 0;
}

}  // namespace skillscale
