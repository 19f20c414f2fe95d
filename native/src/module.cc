// The Node-API face of the supervisor: parse, call, convert. native.ts has the same names in the same order.
//
// A Binding belongs to one environment. It keeps a run's input alive until that run is done, answers every run, holds the event loop open
// while something is under way, and is destroyed when both its handle and its thread-safe function are. The environment's
// cleanup hook stops the thread, which ends all trees, before anything that the thread uses goes away.
#include <napi.h>

#include <memory>
#include <unordered_map>
#include <utility>
#include <vector>

#include "arguments.h"
#include "event_values.h"
#include "supervisor.h"

namespace {

using skillscale::Event;
using skillscale::EventType;
using skillscale::Outcome;
using skillscale::RunRequest;
using skillscale::StepError;
using skillscale::Supervisor;
using skillscale::SupervisorOptions;

class Binding {
 public:
  // Returns null, with an exception, when the environment refuses.
  static Binding* Create(Napi::Env env, SupervisorOptions options, Napi::Function on_event);
  // Returns null, with an exception, for anything but a handle of this addon.
  static Binding* From(const Napi::Value& value);

  Napi::Value Handle();
  bool Start(StepError* failure) { return supervisor_.Start(failure); }
  void Hold();
  void Let();
  bool open() const { return !released_; }
  bool Knows(uint64_t id) const { return runs_.count(id) > 0; }
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
  void Deliver(napi_value on_event, Event& event);
  void Call(napi_value on_event, Event& event);
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

// Tells our handles from those of other addons.
constexpr napi_type_tag kHandleTag = {0x7d1c0f3a5b2e4c96, 0x9a46b1d2e8f70c53};

Binding* Binding::Create(Napi::Env env, SupervisorOptions options, Napi::Function on_event) {
  Binding* binding = new Binding(env, std::move(options));
  if (napi_create_threadsafe_function(env, on_event, nullptr, Napi::String::New(env, "skillscale"), 0, 1, binding,
                                      OnWakeGone, binding, OnWake, &binding->wake_) != napi_ok) {
    delete binding;
    Napi::Error::New(env, "the environment has no room for a thread-safe function").ThrowAsJavaScriptException();
    return nullptr;
  }
  napi_unref_threadsafe_function(env, binding->wake_);
  napi_add_env_cleanup_hook(env, OnTeardown, binding);
  return binding;
}

Napi::Value Binding::Handle() {
  const Napi::Value handle = Napi::External<Binding>::New(env_, this, OnHandleGone);
  napi_type_tag_object(env_, handle, &kHandleTag);
  return handle;
}

Binding* Binding::From(const Napi::Value& value) {
  bool ours = false;
  if (value.IsExternal() && napi_check_object_type_tag(value.Env(), value, &kHandleTag, &ours) == napi_ok && ours) {
    return value.As<Napi::External<Binding>>().Data();
  }
  Napi::TypeError::New(value.Env(), "supervisor must come from createSupervisor").ThrowAsJavaScriptException();
  return nullptr;
}

void Binding::Hold() {
  if (holds_++ == 0 && !released_) napi_ref_threadsafe_function(env_, wake_);
}

void Binding::Let() {
  if (holds_ > 0 && --holds_ == 0 && !released_) napi_unref_threadsafe_function(env_, wake_);
}

void Binding::Spawn(RunRequest request, Napi::Value input) {
  if (request.input_size > 0) {
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
  for (Event& event : binding->supervisor_.TakeEvents()) binding->Deliver(function, event);
}

// Keeps the books of a run, whatever becomes of the call.
void Binding::Deliver(napi_value on_event, Event& event) {
  switch (event.type) {
    case EventType::kReady:
    case EventType::kFailed:
      Let();
      break;
    case EventType::kDone:
      runs_.erase(event.id);
      Let();
      break;
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
      break;
    case EventType::kOutput:
    case EventType::kIdle:
      break;
  }
  Call(on_event, event);
}

// An exception of the callback concerns one event; with it pending no other could be delivered.
void Binding::Call(napi_value on_event, Event& event) {
  napi_handle_scope scope;
  if (napi_open_handle_scope(env_, &scope) != napi_ok) return;
  std::vector<napi_value> values;
  napi_value receiver;
  bool pending = false;
  napi_value error;
  if (skillscale::ToValues(env_, &event, &values) && napi_get_undefined(env_, &receiver) == napi_ok) {
    napi_call_function(env_, receiver, on_event, values.size(), values.data(), nullptr);
  }
  if (napi_is_exception_pending(env_, &pending) == napi_ok && pending &&
      napi_get_and_clear_last_exception(env_, &error) == napi_ok) {
    napi_fatal_exception(env_, error);
  }
  napi_close_handle_scope(env_, scope);
}

Napi::Value CreateSupervisor(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  SupervisorOptions options;
  if (!skillscale::ReadSupervisorOptions(info[0], &options)) return env.Undefined();
  if (!info[1].IsFunction()) {
    Napi::TypeError::New(env, "onEvent must be a function").ThrowAsJavaScriptException();
    return env.Undefined();
  }
  Binding* binding = Binding::Create(env, std::move(options), info[1].As<Napi::Function>());
  if (binding == nullptr) return env.Undefined();
  const Napi::Value handle = binding->Handle();
  StepError failure;
  if (!binding->Start(&failure)) {
    binding->Abandon();
    Napi::Error error = Napi::Error::New(env, "the supervisor did not start");
    error.Set("errno", Napi::Number::New(env, failure.error));
    error.Set("syscall", Napi::String::New(env, skillscale::protocol::kStepNames[failure.step]));
    error.ThrowAsJavaScriptException();
    return env.Undefined();
  }
  binding->Hold();
  return handle;
}

void Spawn(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  Binding* binding = Binding::From(info[0]);
  RunRequest request;
  if (binding == nullptr || !skillscale::ReadWhole(info[1], "id", 1, &request.id) ||
      !skillscale::ReadRunRequest(info[2], info[3], &request)) {
    return;
  }
  if (!binding->open()) {
    Napi::Error::New(env, "the supervisor is closed").ThrowAsJavaScriptException();
  } else if (binding->Knows(request.id)) {
    Napi::RangeError::New(env, "id belongs to a run that is not done").ThrowAsJavaScriptException();
  } else {
    binding->Spawn(std::move(request), info[3]);
  }
}

void Terminate(const Napi::CallbackInfo& info) {
  Binding* binding = Binding::From(info[0]);
  uint64_t id = 0;
  if (binding != nullptr && skillscale::ReadWhole(info[1], "id", 1, &id)) binding->supervisor().Terminate(id);
}

void Acknowledge(const Napi::CallbackInfo& info) {
  Binding* binding = Binding::From(info[0]);
  uint64_t id = 0;
  uint64_t bytes = 0;
  if (binding == nullptr || !skillscale::ReadWhole(info[1], "id", 1, &id)) return;
  if (skillscale::ReadWhole(info[2], "bytes", 0, &bytes)) binding->supervisor().Acknowledge(id, bytes);
}

void Close(const Napi::CallbackInfo& info) {
  Binding* binding = Binding::From(info[0]);
  if (binding == nullptr || !binding->open()) return;
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
