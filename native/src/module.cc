// The Node-API face of the supervisor: parse, call, convert. native.ts has the same names in the same order.
//
// A Binding belongs to one environment. It keeps a run's input alive until that run is done, answers every run, holds the event loop open
// while something is under way, and is destroyed when both its handle and its thread-safe function are. The environment's
// cleanup hook stops the thread, which ends all trees, before anything that the thread uses goes away.
#include <napi.h>

#include <string.h>

#include <memory>
#include <unordered_map>

#include "supervisor.h"

namespace {

using skillscale::Bytes;
using skillscale::Event;
using skillscale::EventType;
using skillscale::Outcome;
using skillscale::RunRequest;
using skillscale::StepError;
using skillscale::Supervisor;
using skillscale::SupervisorOptions;

// Above this a copy costs more than an external buffer with its finalizer.
constexpr size_t kCopyBytes = 64 * 1024;

constexpr const char* kOutcomeNames[] = {"ended",      "spawnFailed", "timedOut", "stdoutLimit",
                                         "stderrLimit", "terminated", "closing",  "lost"};

class Binding {
 public:
  static Binding* Create(Napi::Env env, SupervisorOptions options, Napi::Function on_event);
  static Binding* From(const Napi::Value& value) { return value.As<Napi::External<Binding>>().Data(); }

  Napi::Value Handle() { return Napi::External<Binding>::New(env_, this, OnHandleGone); }
  bool Start(StepError* failure) { return supervisor_.Start(failure); }
  void Hold();
  void Let();
  void Spawn(RunRequest request, Napi::Value input);
  void Abandon();
  Supervisor& supervisor() { return supervisor_; }

 private:
  Binding(Napi::Env env, SupervisorOptions options)
      : env_(env), supervisor_(std::move(options), [this] { napi_call_threadsafe_function(wake_, nullptr, napi_tsfn_nonblocking); }) {}

  static void OnWake(napi_env env, napi_value function, void* context, void*);
  static void OnTeardown(void* data) {
    Binding* binding = static_cast<Binding*>(data);
    binding->hooked_ = false;
    binding->Abandon();
  }
  static void OnHandleGone(Napi::Env, Binding* binding) {
    binding->Abandon();
    binding->Drop();
  }
  static void OnWakeGone(napi_env, void* data, void*) { static_cast<Binding*>(data)->Drop(); }
  void Deliver(Napi::Function on_event, Event& event);
  void Drop() {
    if (--owners_ == 0) delete this;
  }

  napi_env env_;
  napi_threadsafe_function wake_ = nullptr;
  int owners_ = 2;
  size_t holds_ = 0;
  bool released_ = false;
  bool hooked_ = true;
  // Every run without an answer, with its input if it has one.
  std::unordered_map<uint64_t, Napi::ObjectReference> runs_;
  Supervisor supervisor_;
};

Binding* Binding::Create(Napi::Env env, SupervisorOptions options, Napi::Function on_event) {
  Binding* binding = new Binding(env, std::move(options));
  napi_create_threadsafe_function(env, on_event, nullptr, Napi::String::New(env, "skillscale"), 0, 1, binding, OnWakeGone,
                                  binding, OnWake, &binding->wake_);
  napi_unref_threadsafe_function(env, binding->wake_);
  napi_add_env_cleanup_hook(env, OnTeardown, binding);
  return binding;
}

void Binding::Hold() {
  if (holds_++ == 0 && !released_) napi_ref_threadsafe_function(env_, wake_);
}

void Binding::Let() {
  if (holds_ > 0 && --holds_ == 0 && !released_) napi_unref_threadsafe_function(env_, wake_);
}

void Binding::Spawn(RunRequest request, Napi::Value input) {
  if (input.IsTypedArray()) {
    Napi::Uint8Array bytes = input.As<Napi::Uint8Array>();
    request.input = bytes.Data();
    request.input_size = bytes.ByteLength();
    runs_[request.id] = Napi::Persistent(input.As<Napi::Object>());
  } else {
    runs_.try_emplace(request.id);
  }
  Hold();
  supervisor_.Spawn(std::move(request));
}

// The thread has ended or ends now; no wake-up comes after this.
void Binding::Abandon() {
  if (released_) return;
  released_ = true;
  supervisor_.Stop();
  runs_.clear();
  if (hooked_) napi_remove_env_cleanup_hook(env_, OnTeardown, this);
  napi_release_threadsafe_function(wake_, napi_tsfn_abort);
}

void Binding::OnWake(napi_env env, napi_value function, void* context, void*) {
  if (env == nullptr || function == nullptr) return;
  Binding* binding = static_cast<Binding*>(context);
  Napi::HandleScope scope(env);
  for (Event& event : binding->supervisor_.TakeEvents()) {
    Napi::HandleScope inner(env);
    binding->Deliver(Napi::Function(env, function), event);
  }
}

Napi::Value ToUint8Array(Napi::Env env, Bytes& bytes) {
  const size_t size = bytes.size();
  if (size >= kCopyBytes) {
    uint8_t* data = bytes.Release();
    napi_value external;
    if (napi_create_external_arraybuffer(
            env, data, size, [](napi_env, void* block, void*) { free(block); }, nullptr, &external) == napi_ok) {
      return Napi::Uint8Array::New(env, size, Napi::ArrayBuffer(env, external), 0);
    }
    Napi::Uint8Array copy = Napi::Uint8Array::New(env, size);
    memcpy(copy.Data(), data, size);
    free(data);
    return copy;
  }
  Napi::Uint8Array copy = Napi::Uint8Array::New(env, size);
  if (size > 0) memcpy(copy.Data(), bytes.data(), size);
  return copy;
}

void Binding::Deliver(Napi::Function on_event, Event& event) {
  const Napi::Env env(env_);
  const auto number = [env](double value) { return Napi::Number::New(env, value); };
  const auto text = [env](const char* value) { return Napi::String::New(env, value); };
  switch (event.type) {
    case EventType::kReady:
      Let();
      on_event.Call({text("ready")});
      break;
    case EventType::kFailed:
      Let();
      on_event.Call({text("failed"), number(event.failure.error), text(skillscale::protocol::kStepNames[event.failure.step])});
      break;
    case EventType::kOutput:
      on_event.Call({text("output"), number(static_cast<double>(event.id)), number(event.stream), ToUint8Array(env, event.bytes[0])});
      break;
    case EventType::kDone: {
      const bool signaled = (event.status & 0x7f) != 0;
      runs_.erase(event.id);
      Let();
      on_event.Call({text("done"), number(static_cast<double>(event.id)), text(kOutcomeNames[static_cast<size_t>(event.outcome)]),
                     number(signaled ? -1 : (event.status >> 8) & 0xff), number(signaled ? event.status & 0x7f : 0),
                     number(event.failure.error), text(skillscale::protocol::kStepNames[event.failure.step]),
                     number(static_cast<double>(event.wall_ns) / 1e6), number(static_cast<double>(event.user_us) / 1e3),
                     number(static_cast<double>(event.system_us) / 1e3), number(static_cast<double>(event.max_rss_kib) * 1024),
                     Napi::Boolean::New(env, event.truncated[0]), Napi::Boolean::New(env, event.truncated[1]),
                     ToUint8Array(env, event.bytes[0]), ToUint8Array(env, event.bytes[1])});
      break;
    }
    case EventType::kClosed:
      // What was queued while the thread ended has not been seen by it.
      while (!runs_.empty()) {
        Event refused;
        refused.type = EventType::kDone;
        refused.id = runs_.begin()->first;
        refused.outcome = Outcome::kClosing;
        Deliver(on_event, refused);
      }
      Abandon();
      on_event.Call({text("closed")});
      break;
  }
}

double NumberOf(const Napi::Object& object, const char* name) { return object.Get(name).ToNumber().DoubleValue(); }

// Absent is null. JavaScript has validated the number.
uint64_t LimitOf(const Napi::Object& object, const char* name) {
  const Napi::Value value = object.Get(name);
  return value.IsNumber() ? static_cast<uint64_t>(value.As<Napi::Number>().DoubleValue()) : skillscale::protocol::kUnlimited;
}

uint64_t NanosecondsOf(const Napi::Object& object, const char* name) {
  const uint64_t milliseconds = LimitOf(object, name);
  return milliseconds > UINT64_MAX / 1'000'000 ? UINT64_MAX : milliseconds * 1'000'000;
}

Napi::Value CreateSupervisor(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const Napi::Object object = info[0].As<Napi::Object>();
  SupervisorOptions options;
  options.reaper_path = object.Get("reaperPath").ToString().Utf8Value();
  options.min_reapers = static_cast<uint32_t>(NumberOf(object, "minReapers"));
  options.idle_reapers = static_cast<uint32_t>(NumberOf(object, "idleReapers"));
  options.max_reapers = static_cast<uint32_t>(NumberOf(object, "maxReapers"));
  Binding* binding = Binding::Create(env, std::move(options), info[1].As<Napi::Function>());
  StepError failure;
  if (!binding->Start(&failure)) {
    Napi::Error error = Napi::Error::New(env, "the supervisor did not start");
    error.Set("errno", Napi::Number::New(env, failure.error));
    error.Set("syscall", Napi::String::New(env, skillscale::protocol::kStepNames[failure.step]));
    binding->Handle();
    error.ThrowAsJavaScriptException();
    return env.Null();
  }
  binding->Hold();
  return binding->Handle();
}

void Spawn(const Napi::CallbackInfo& info) {
  const Napi::Object object = info[2].As<Napi::Object>();
  RunRequest request;
  request.id = static_cast<uint64_t>(info[1].As<Napi::Number>().Int64Value());
  request.payload = object.Get("strings").As<Napi::String>().Utf8Value();
  request.argc = static_cast<uint32_t>(NumberOf(object, "argc"));
  request.envc = static_cast<uint32_t>(NumberOf(object, "envc"));
  request.timeout_ns = NanosecondsOf(object, "timeoutMs");
  request.grace_ns = NanosecondsOf(object, "graceMs");
  request.stdout_bytes = LimitOf(object, "stdoutBytes");
  request.stderr_bytes = LimitOf(object, "stderrBytes");
  request.fail_on_overflow = object.Get("failOnOverflow").ToBoolean();
  request.window_bytes = static_cast<uint64_t>(NumberOf(object, "windowBytes"));
  request.limits.cpu_seconds = LimitOf(object, "cpuSeconds");
  request.limits.memory_bytes = LimitOf(object, "memoryBytes");
  request.limits.file_bytes = LimitOf(object, "fileBytes");
  request.limits.open_files = LimitOf(object, "openFiles");
  request.limits.processes = LimitOf(object, "processes");
  Binding::From(info[0])->Spawn(std::move(request), info[3]);
}

void Terminate(const Napi::CallbackInfo& info) {
  Binding::From(info[0])->supervisor().Terminate(static_cast<uint64_t>(info[1].As<Napi::Number>().Int64Value()));
}

void Acknowledge(const Napi::CallbackInfo& info) {
  Binding::From(info[0])->supervisor().Acknowledge(static_cast<uint64_t>(info[1].As<Napi::Number>().Int64Value()),
                                                  static_cast<uint64_t>(info[2].As<Napi::Number>().Int64Value()));
}

void Close(const Napi::CallbackInfo& info) {
  Binding* binding = Binding::From(info[0]);
  binding->Hold();
  binding->supervisor().Close();
}

Napi::Object Initialize(Napi::Env env, Napi::Object exports) {
  exports.Set("createSupervisor", Napi::Function::New(env, CreateSupervisor, "createSupervisor"));
  exports.Set("spawn", Napi::Function::New(env, Spawn, "spawn"));
  exports.Set("terminate", Napi::Function::New(env, Terminate, "terminate"));
  exports.Set("acknowledge", Napi::Function::New(env, Acknowledge, "acknowledge"));
  exports.Set("close", Napi::Function::New(env, Close, "close"));
  return exports;
}

}  // namespace

NODE_API_MODULE(skillscale, Initialize)
