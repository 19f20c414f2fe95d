// The addon that prestart.cjs loads into a Node process that was started ahead: it waits for the run, which comes over standard
// input, takes its streams, and says what its arguments and environment are. And it ends the process when Node is done with
// it, without giving back piece by piece what goes with the process.
#include <errno.h>
#include <fcntl.h>
#include <link.h>
#include <napi.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>
#include <uv.h>

#include <string>

#include "descriptor.h"
#include "entry.h"
#include "keeper.h"
#include "packet.h"
#include "protocol.h"

namespace {

using skillscale::Descriptor;
using skillscale::Packet;
using skillscale::Received;
using skillscale::Strings;
namespace protocol = skillscale::protocol;

constexpr int kHighDescriptor = 100;
constexpr int kNoExit = -1;

// Where the run comes.
Descriptor run_socket;
// Stand for the streams until then: what is read or written before shows in them.
struct stat places[3];
Descriptor written;
// Set when Node has said that the process ends.
int exit_code = kNoExit;
size_t libraries = 0;
Napi::ObjectReference emitter;
Napi::FunctionReference count_listeners;
Napi::FunctionReference cache_folder;

// The run could not be what it would be after a cold start, or there will be none.
[[noreturn]] void GiveUp() { _exit(127); }

size_t CountLibraries() {
  size_t count = 0;
  const auto add = [](dl_phdr_info*, size_t, void* counted) {
    (*static_cast<size_t*>(counted))++;
    return 0;
  };
  dl_iterate_phdr(add, &count);
  return count;
}

// Moves the socket away and puts pipes in the place of the streams: one byte can be read, and what is written can be found.
void Open(const Napi::CallbackInfo&) {
  int from[2];
  int to[2];
  run_socket.Reset(fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, kHighDescriptor));
  if (!run_socket) run_socket.Reset(fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, STDERR_FILENO + 1));
  if (!run_socket || pipe2(from, O_CLOEXEC) < 0 || pipe2(to, O_CLOEXEC) < 0) GiveUp();
  const Descriptor ends[] = {Descriptor(from[0]), Descriptor(from[1]), Descriptor(to[1])};
  written.Reset(fcntl(to[0], F_DUPFD_CLOEXEC, run_socket.get()));
  close(to[0]);
  const int streams[3] = {from[0], to[1], to[1]};
  if (!written || write(from[1], "", 1) != 1 || skillscale::ConnectStreams(streams) != protocol::kNoStep) GiveUp();
  for (int i = 0; i < 3; i++) {
    if (fstat(i, &places[i]) < 0) GiveUp();
  }
}

// One that goes off while nothing runs would go off in the middle of the run.
bool HasTimers(Napi::Env env) {
  uv_loop_t* loop = nullptr;
  if (napi_get_uv_event_loop(env, &loop) != napi_ok) return true;
  bool found = false;
  const auto look = [](uv_handle_t* handle, void* result) {
    if (uv_handle_get_type(handle) == UV_TIMER && uv_is_active(handle) != 0) *static_cast<bool*>(result) = true;
  };
  uv_walk(loop, look, &found);
  return found;
}

bool AreUntouched() {
  for (int i = 0; i < 3; i++) {
    struct stat now;
    if (fstat(i, &now) < 0 || now.st_dev != places[i].st_dev || now.st_ino != places[i].st_ino) return false;
  }
  int readable = 0;
  int unread = 0;
  return ioctl(STDIN_FILENO, FIONREAD, &readable) == 0 && readable == 1 && ioctl(written.get(), FIONREAD, &unread) == 0 && unread == 0;
}

// Node made streams of some already, and is used to what it set then.
bool Connect(const Packet& packet) {
  int flags[3];
  for (int i = 0; i < 3; i++) flags[i] = fcntl(i, F_GETFL);
  const int streams[3] = {packet.descriptors[0].get(), packet.descriptors[1].get(), packet.descriptors[2].get()};
  if (skillscale::ConnectStreams(streams) != protocol::kNoStep) return false;
  for (int i = 0; i < 3; i++) {
    if (flags[i] < 0 || ((flags[i] & O_NONBLOCK) != 0 && fcntl(i, F_SETFL, O_NONBLOCK) < 0)) return false;
  }
  return true;
}

// take(function that tells whether what was loaded is still what is there): returns [arguments, names of variables, their values]. Ends
// the process when there will be no run, and before the run is read when something has changed, so that it starts cold.
Napi::Value Take(const Napi::CallbackInfo& info) {
  static Packet packet;
  Strings strings;
  char* copy = nullptr;
  if (!AreUntouched() || HasTimers(info.Env())) GiveUp();
  skillscale::SayWaiting(run_socket.get(), skillscale::StartKeeper());
  pollfd ready{run_socket.get(), POLLIN, 0};
  while (poll(&ready, 1, -1) < 0 && errno == EINTR) {
  }
  const Napi::Value is_current = info[0].As<Napi::Function>().Call({});
  if (info.Env().IsExceptionPending() || !is_current.ToBoolean()) GiveUp();
  if (packet.Receive(run_socket.get()) != Received::kPacket || packet.command.type != protocol::kSpawn ||
      !packet.Unpack(3, skillscale::HeadSize(packet.command), &copy, &strings) || !strings || !Connect(packet)) {
    GiveUp();
  }
  // Says that the run was read.
  run_socket.Reset();
  written.Reset();
  libraries = CountLibraries();
  Napi::Env env = info.Env();
  Napi::Array args = Napi::Array::New(env);
  Napi::Array names = Napi::Array::New(env);
  Napi::Array values = Napi::Array::New(env);
  for (uint32_t i = 0; i < packet.command.argc; i++) args.Set(i, strings.argv()[i]);
  for (uint32_t i = 0; i < packet.command.envc; i++) {
    const char* entry = strings.envp()[i];
    const char* end = strchrnul(entry, '=');
    names.Set(i, Napi::String::New(env, entry, static_cast<size_t>(end - entry)));
    values.Set(i, *end == '=' ? end + 1 : end);
  }
  Napi::Array taken = Napi::Array::New(env, 3);
  taken.Set(0U, args);
  taken.Set(1U, names);
  taken.Set(2U, values);
  packet.Clear();
  free(copy);
  return taken;
}

Napi::Value Leave(const Napi::CallbackInfo&) { GiveUp(); }

// Whether a script of this name is the part of Node that loads modules.
Napi::Value IsLoader(const Napi::CallbackInfo& info) {
  const std::string name = info[0].IsString() ? info[0].As<Napi::String>().Utf8Value() : "";
  const char loader[] = "node:internal/modules/";
  return Napi::Boolean::New(info.Env(), name.compare(0, sizeof loader - 1, loader) == 0 || name == "node:internal/util/colors");
}

// Whether a module of Node was loaded that writes files when Node is taken down.
bool WritesLater(const Napi::Object& process) {
  const Napi::Value loaded = process.Get("moduleLoadList");
  if (!loaded.IsArray()) return true;
  const Napi::Array names = loaded.As<Napi::Array>();
  for (uint32_t i = 0; i < names.Length(); i++) {
    const Napi::Value name = names.Get(i);
    if (!name.IsString()) return true;
    const std::string text = name.As<Napi::String>().Utf8Value();
    if (text == "NativeModule trace_events" || text == "NativeModule inspector") return true;
  }
  return false;
}

// The getter of process.emit, which Node calls to say that it ends. When nobody listens, nothing can change how any more.
Napi::Value Emit(const Napi::CallbackInfo& info) {
  const Napi::Object process = info.This().As<Napi::Object>();
  exit_code = kNoExit;
  if (process.Get("_exiting").ToBoolean()) {
    const Napi::String name = Napi::String::New(info.Env(), "exit");
    const Napi::Value listeners = count_listeners.Call(process, {name});
    const Napi::Value code = process.Get("exitCode");
    // What is compiled is written to its folder later.
    const bool keeps = !cache_folder.IsEmpty() && !cache_folder.Call({}).IsUndefined();
    const bool silent = listeners.IsNumber() && listeners.As<Napi::Number>().Int32Value() == 0;
    if (silent && !keeps && !WritesLater(process)) exit_code = code.IsNumber() ? code.As<Napi::Number>().Int32Value() & 0xFF : 0;
  }
  return emitter.Get("emit");
}

// When this is called, what modules of Node and other addons had to do at the end is done; what is left is to give back memory.
// A library that came along may have more to do.
void EndHere() {
  if (exit_code != kNoExit && CountLibraries() == libraries) _exit(exit_code);
}

// endEarly(prototype of emitters, function that tells the folder of the compile cache): returns a getter of process.emit.
Napi::Value EndEarly(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  emitter = Napi::Persistent(info[0].As<Napi::Object>());
  emitter.SuppressDestruct();
  count_listeners = Napi::Persistent(emitter.Get("listenerCount").As<Napi::Function>());
  count_listeners.SuppressDestruct();
  if (info[1].IsFunction()) {
    cache_folder = Napi::Persistent(info[1].As<Napi::Function>());
    cache_folder.SuppressDestruct();
  }
  env.AddCleanupHook(EndHere);
  return Napi::Function::New(env, Emit, "emit");
}

Napi::Object Initialize(Napi::Env env, Napi::Object exports) {
  exports.Set("open", Napi::Function::New(env, Open, "open"));
  exports.Set("take", Napi::Function::New(env, Take, "take"));
  exports.Set("leave", Napi::Function::New(env, Leave, "leave"));
  exports.Set("isLoader", Napi::Function::New(env, IsLoader, "isLoader"));
  exports.Set("endEarly", Napi::Function::New(env, EndEarly, "endEarly"));
  return exports;
}

}  // namespace

NODE_API_MODULE(skillscale_prestart, Initialize)
