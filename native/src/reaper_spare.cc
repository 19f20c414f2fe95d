// See reaper.h.
//
// Between runs the reaper of a cell opens the view of a run like the last one and has a spare made, a process that waits there,
// confined, to become the next run: by the cell's fork server (fork_server.h), or by starting the interpreter ahead. A run that
// the spare is not made for starts in a view of its own. The spare closes its socket when it has read its run; one that dies
// before it did is replaced by a cold start.
#include <errno.h>
#include <linux/sockios.h>
#include <poll.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include <algorithm>
#include <utility>

#include "reaper.h"

namespace skillscale {
namespace {

constexpr uint64_t kStartNs = 10'000'000'000;
constexpr uint64_t kSpareNs = 2'000'000'000;
constexpr int kMaxLostSpares = 3;
constexpr uint64_t kMinOpenFiles = 32;
constexpr uint64_t kIdleNs = 1'000'000'000;
constexpr int kPlainSpares = 1000;
constexpr int kMaxWords = 16;

}  // namespace

// It reads its modules in a fresh view, in which nothing of any run is.
bool Reaper::StartForkServer() {
  StepError error;
  ViewPlan view = plan_.view();
  view.inputs = "";
  const SystemCallFilter* filter = nullptr;
  start_by_ = After(Now(), kStartNs);
  lost_spares_ = 0;
  return rules_.Filter(plan_, &filter, &error) && cell_.Open(view, &error) && fork_server_.Start(plan_, filter);
}

void Reaper::FinishStart() {
  starting_ = false;
  start_by_ = kNever;
  if (OthersLeft()) SignalNamespace(SIGKILL, fork_server_.pid());
  if (!cell_.view().Close()) leaving_ = true;
  Say(protocol::kReady, fork_server_.Serves(plan_) ? 1 : 0);
  if (leaving_) return;
  AskForSpare();
  if (!spare_) TellIdle();
}

void Reaper::HandleForkServer() {
  protocol::Reply reply;
  const FromServer received = fork_server_.Receive(&reply);
  if (received == FromServer::kNothing) return;
  const bool ours = received == FromServer::kReply && reply.number == spare_number_;
  if (ours && reply.type == protocol::kStarted) {
    if (spare_ && reply.pid > 1) {
      spare_pid_ = reply.pid;
    } else {
      ended_number_ = reply.number;
      LoseSpare();
    }
  } else if (ours) {
    ended_number_ = reply.number;
    if (!warm_) return LoseSpare();
    ended_ = true;
    ended_status_ = reply.status;
    ended_usage_ = {};
    ended_usage_.ru_utime = {static_cast<time_t>(reply.user_us / 1'000'000), static_cast<suseconds_t>(reply.user_us % 1'000'000)};
    ended_usage_.ru_stime = {static_cast<time_t>(reply.system_us / 1'000'000),
                             static_cast<suseconds_t>(reply.system_us % 1'000'000)};
    ended_usage_.ru_maxrss = static_cast<long>(reply.max_rss_kib);
    gone_cpu_us_ += reply.user_us + reply.system_us;
  } else if (received == FromServer::kGone && spare_ && !handing_) {
    LoseSpare();
  } else if (received == FromServer::kGone && warm_ && main_ > 0 && kill(main_, 0) < 0) {
    // It took the status along.
    ended_ = true;
    ended_status_ = SIGKILL;
    ended_usage_ = {};
  }
  if (starting_ && received != FromServer::kReply) FinishStart();
}

// Makes ready for a run like the last one, whose view may still be there.
void Reaper::AskForSpare(bool view_is_open) {
  const bool wanted = plan_.ahead() ? again_ && may_start_ : fork_server_.Serves(plan_);
  // The input files of a run are its own, unless they last.
  const bool has_inputs = plan_.head(kInputs)[0] != '\0' && !plan_.has(protocol::kLasting);
  StepError error;
  Confinement confinement;
  const bool made = wanted && !has_inputs && lost_spares_ < kMaxLostSpares &&
                    (view_is_open ? rules_.Reuse(plan_, &confinement, &error) : Open(plan_, &confinement, &error)) &&
                    MakeSpare(confinement);
  if (!made && !cell_.view().Close()) leaving_ = true;
}

void Reaper::TellIdle() {
  const uint64_t now = Now();
  tell_at_ = kNever;
  // After a run it is told again.
  if (occupied_ || leaving_) return;
  if (told_idle_ != 0 && now - told_idle_ < kIdleNs) {
    tell_at_ = After(told_idle_, kIdleNs);
    return;
  }
  TreeUse use;
  if (!MeasureTree(true, protocol::kUnlimited, {keeper_, fading_}, &use)) return;
  told_idle_ = now;
  protocol::Reply reply{};
  reply.type = protocol::kIdle;
  reply.detail = static_cast<uint32_t>(use.processes);
  reply.max_rss_kib = use.bytes / 1024;
  Reply(reply);
}

// The view is open, and the ruleset is that of the run.
bool Reaper::MakeSpare(const Confinement& confinement) {
  if (plan_.limits().open_files < kMinOpenFiles) return false;
  int ends[2];
  if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) < 0) return false;
  Descriptor near(ends[0]);
  const Descriptor far(ends[1]);
  spare_pid_ = 0;
  if (plan_.ahead()) {
    if (!MakeAhead(confinement, far.get())) return false;
  } else if (confinement.landlock < 0 || !fork_server_.Fork(plan_, ++spare_number_, confinement.landlock, far.get())) {
    // Without a ruleset of its own it could reach the fork server.
    return false;
  }
  spare_ = std::move(near);
  return true;
}

// What it imports may do what its run could do, so it is under the same limits. With a network it could be noticed where nobody
// called yet.
bool Reaper::MakeAhead(const Confinement& confinement, int job) {
  importing_ = plain_spares_ == 0 && !plan_.has(protocol::kConnected);
  if (plain_spares_ > 0) plain_spares_--;
  const std::vector<char*> argv = plan_.WarmCommand(importing_ ? nullptr : "plain");
  const SpawnPlan spawn{plan_.head(kDirectory), argv[0],          argv.data(), kWarmEnvironment, {job, 1, 2},
                        &plan_.limits(),        plan_.has(protocol::kConfined) ? &confinement : nullptr};
  SpawnFailure failure{};
  spare_pid_ = std::max(0, Spawn(spawn, &failure));
  if (spare_pid_ == 0) {
    importing_ = false;
    return false;
  }
  import_by_ = After(Now(), kStartNs);
  ForgetCpu();
  MeasureSoon();
  return true;
}

// Until its pid is known.
bool Reaper::AwaitSpare() {
  const uint64_t until = After(Now(), kSpareNs);
  while (spare_ && spare_pid_ == 0) {
    const uint64_t now = Now();
    pollfd ready{fork_server_.socket(), POLLIN, 0};
    if (now >= until || (poll(&ready, 1, static_cast<int>((until - now) / 1'000'000 + 1)) < 0 && errno != EINTR)) {
      fork_server_.End();
      LoseSpare();
    } else if (ready.revents != 0) {
      HandleForkServer();
    }
  }
  return static_cast<bool>(spare_);
}

bool Reaper::GiveToSpare(const Packet& packet) {
  if (!packet.Forward(spare_.get())) return false;
  main_ = spare_pid_;
  handing_ = true;
  return true;
}

// What it says is worth as much as the modules that it imported.
Reaper::Word Reaper::HearSpare() {
  protocol::Reply reply;
  ssize_t size;
  do {
    size = recv(spare_.get(), &reply, sizeof reply, MSG_DONTWAIT);
  } while (size < 0 && errno == EINTR);
  if (size == 0) return Word::kRead;
  if (size < 0) return errno == EAGAIN ? Word::kNothing : Word::kUnread;
  const bool valid = size == sizeof reply && reply.magic == protocol::kMagic && reply.type == protocol::kReady;
  const bool other = reply.pid > 1 && reply.pid != spare_pid_ && reply.pid != fork_server_.pid();
  if (valid) import_by_ = kNever;
  if (valid && other && keeper_ == 0) keeper_ = reply.pid;
  if (valid && !handing_) TellIdle();
  return Word::kReady;
}

bool Reaper::IsUnread() const {
  int bytes = 0;
  return ioctl(spare_.get(), SIOCOUTQ, &bytes) == 0 && bytes > 0;
}

// The end of the socket of a spare: it has read its run, or is dead. One that ended while it made its keeper may have left the
// socket with that.
void Reaper::HandleSpare(bool ended) {
  Word word = Word::kReady;
  for (int words = 0; words < kMaxWords && word == Word::kReady; words++) word = HearSpare();
  if (!ended && (word == Word::kNothing || word == Word::kReady)) return;
  if (!handing_) return ReplaceSpare();
  if (word == Word::kUnread || (word == Word::kNothing && IsUnread())) return BeginCold();
  handing_ = importing_ = false;
  import_by_ = kNever;
  lost_spares_ = 0;
  spare_.Reset();
  spare_pid_ = 0;
  kept_->Clear();
}

// One that imported something may have failed with that.
void Reaper::ReplaceSpare() {
  const bool imported = importing_;
  LoseSpare();
  if (imported) AskForSpare();
}

// A spare that got no run is of no use, or gone.
void Reaper::LoseSpare() {
  if (importing_) plain_spares_ = kPlainSpares;
  lost_spares_++;
  DropSpare();
}

// The view is closed when nobody is left of it.
void Reaper::DropSpare() {
  const bool imported = importing_;
  const bool any = spare_ || spare_pid_ > 0;
  const uint64_t until = After(Now(), kSpareNs);
  if (spare_pid_ > 0) {
    kill(spare_pid_, SIGKILL);
    // One that a fork server made is not this one's child, while that lives.
    while (waitpid(spare_pid_, nullptr, __WALL) < 0 && errno == EINTR) {
    }
  }
  // Its last words may name its keeper.
  if (spare_ && keeper_ == 0) HearSpare();
  spare_.Reset();
  spare_pid_ = 0;
  handing_ = importing_ = false;
  import_by_ = kNever;
  if (!occupied_) measure_at_ = kNever;
  // It ends at the end of its socket, too.
  while (ended_number_ != spare_number_ && fork_server_.pid() > 0) {
    protocol::Reply reply;
    const uint64_t now = Now();
    pollfd ready{fork_server_.socket(), POLLIN, 0};
    if (now >= until || (poll(&ready, 1, static_cast<int>((until - now) / 1'000'000 + 1)) < 0 && errno != EINTR)) fork_server_.End();
    if (ready.revents != 0 && fork_server_.Receive(&reply) == FromServer::kReply && reply.type == protocol::kExited) {
      ended_number_ = reply.number;
    }
  }
  ended_number_ = spare_number_;
  DropKeeper();
  if (imported) EndOthers();
  // One that ended before it could name its keeper has left it.
  if (any && cell_.entered() && OthersLeft()) SignalNamespace(SIGKILL, fork_server_.pid());
  if (cell_.entered() && !cell_.view().Close()) leaving_ = true;
}

// Starts the run that the spare died with.
void Reaper::BeginCold() {
  if (importing_) plain_spares_ = kPlainSpares;
  lost_spares_++;
  main_ = 0;
  warm_ = false;
  DropSpare();
  char* copy = nullptr;
  {
    Strings strings;
    SpawnFailure failure{EAGAIN, protocol::kClone};
    const bool valid = kept_->Unpack(3, HeadSize(kept_->command), &copy, &strings) && strings;
    if (!valid || terminating_ || killing_ || !Begin(kept_, strings, true, &failure)) {
      FailRun(failure);
      Leave();
    }
  }
  free(copy);
  kept_->Clear();
}

// What is imported into a fork server may be anybody's code: it does not see runs of others.
void Reaper::EndStrangers() {
  if (fork_server_.pid() == 0 || fork_server_.Serves(plan_)) return;
  fork_server_.End();
  EndOthers();
}

// Leaves nobody in the cell. There is no fork server.
void Reaper::EndOthers() {
  while (OthersLeft()) {
    SignalNamespace(SIGKILL, 0);
    while (waitpid(-1, nullptr, __WALL) > 0) {
    }
    fading_ = 0;
  }
  Forget(UsedNetwork());
}

// A socket that is on the way to nobody keeps its name and port. The reaper has one end of the fork server's, which has the other.
bool Reaper::UsedNetwork() const { return cell_.entered() && !cell_.HasCleanNetwork(fork_server_.socket() >= 0 ? 2 : 0); }

// What the kernel knows of those that were in the cell.
void Reaper::Forget(bool used_network) {
  if (!cell_.entered()) return;
  if (!cell_.ForgetLooks() || (used_network && !cell_.RenewNetwork())) leaving_ = true;
}

// Whether there is anybody in the cell but the reaper and its fork server.
bool Reaper::OthersLeft() const {
  TreeUse use;
  return !MeasureTree(true, protocol::kUnlimited, Uncounted(), &use) || use.processes > 0;
}

// Nobody waits until it is gone: it does nothing any more, whatever it is.
void Reaper::DropKeeper() {
  if (keeper_ > 0 && kill(keeper_, SIGKILL) == 0) fading_ = keeper_;
  keeper_ = 0;
}

}  // namespace skillscale
