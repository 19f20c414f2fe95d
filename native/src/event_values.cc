// See event_values.h.
#include "event_values.h"

#include <stdlib.h>
#include <string.h>

namespace skillscale {
namespace {

// Above this a copy costs more than an external buffer with its finalizer.
constexpr size_t kCopyBytes = 64 * 1024;

constexpr const char* kOutcomeNames[] = {"ended",      "spawnFailed", "timedOut", "stdoutLimit",
                                         "stderrLimit", "terminated", "closing",  "lost"};

constexpr const char* kTreeLimitNames[] = {"", "memory", "processes", "disk", "cpu"};

class Values {
 public:
  Values(napi_env env, std::vector<napi_value>* out) : env_(env), out_(*out) {}
  bool ok() const { return ok_; }

  void Text(const char* text) {
    napi_value value = nullptr;
    ok_ = ok_ && napi_create_string_utf8(env_, text, NAPI_AUTO_LENGTH, &value) == napi_ok;
    out_.push_back(value);
  }

  void Number(double number) {
    napi_value value = nullptr;
    ok_ = ok_ && napi_create_double(env_, number, &value) == napi_ok;
    out_.push_back(value);
  }

  void Boolean(bool boolean) {
    napi_value value = nullptr;
    ok_ = ok_ && napi_get_boolean(env_, boolean, &value) == napi_ok;
    out_.push_back(value);
  }

  void Failure(const StepError& failure) {
    Number(failure.error);
    Text(protocol::kStepNames[failure.step]);
  }

  void Uint8Array(Bytes* bytes) {
    const size_t size = bytes->size();
    napi_value buffer = nullptr;
    napi_value value = nullptr;
    const bool external = size >= kCopyBytes && External(bytes, size, &buffer);
    ok_ = ok_ && (external || Copy(bytes, size, &buffer));
    if (!ok_) return;
    ok_ = ok_ && napi_create_typedarray(env_, napi_uint8_array, size, buffer, 0, &value) == napi_ok;
    out_.push_back(value);
  }

 private:
  bool External(Bytes* bytes, size_t size, napi_value* buffer) {
    const auto finalize = [](napi_env, void* block, void*) { free(block); };
    if (napi_create_external_arraybuffer(env_, bytes->data(), size, finalize, nullptr, buffer) != napi_ok) return false;
    bytes->Release();
    return true;
  }

  bool Copy(Bytes* bytes, size_t size, napi_value* buffer) {
    void* data = nullptr;
    if (napi_create_arraybuffer(env_, size, &data, buffer) != napi_ok) return false;
    if (size > 0) memcpy(data, bytes->data(), size);
    return true;
  }

  napi_env env_;
  std::vector<napi_value>& out_;
  bool ok_ = true;
};

void AddResult(Event* event, Values* values) {
  const bool signaled = (event->status & 0x7f) != 0;
  values->Text(kOutcomeNames[static_cast<size_t>(event->outcome)]);
  values->Number(signaled ? -1 : (event->status >> 8) & 0xff);
  values->Number(signaled ? event->status & 0x7f : 0);
  values->Failure(event->failure);
  values->Number(static_cast<double>(event->wall_ns) / 1e6);
  values->Number(static_cast<double>(event->user_us) / 1e3);
  values->Number(static_cast<double>(event->system_us) / 1e3);
  values->Number(static_cast<double>(event->max_rss_kib) * 1024);
  for (const bool truncated : event->truncated) values->Boolean(truncated);
  for (Bytes& bytes : event->bytes) values->Uint8Array(&bytes);
  values->Text(kTreeLimitNames[event->detail]);
  values->Number(event->changes.get());
  values->Boolean(event->warm);
  if (values->ok()) event->changes.Release();
}

}  // namespace

bool ToValues(napi_env env, Event* event, std::vector<napi_value>* out) {
  Values values(env, out);
  switch (event->type) {
    case EventType::kReady:
      values.Text("ready");
      values.Number(event->detail);
      break;
    case EventType::kFailed:
      values.Text("failed");
      values.Failure(event->failure);
      break;
    case EventType::kOutput:
      values.Text("output");
      values.Number(static_cast<double>(event->id));
      values.Number(event->stream);
      values.Uint8Array(&event->bytes[0]);
      break;
    case EventType::kDone:
      values.Text("done");
      values.Number(static_cast<double>(event->id));
      AddResult(event, &values);
      break;
    case EventType::kIdle:
      values.Text("idle");
      values.Number(event->detail);
      values.Number(static_cast<double>(event->max_rss_kib) * 1024);
      break;
    case EventType::kClosed:
      values.Text("closed");
      break;
  }
  return values.ok();
}

}  // namespace skillscale
