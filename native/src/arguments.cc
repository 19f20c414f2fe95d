// See arguments.h.
#include "arguments.h"

#include <math.h>

#include <algorithm>
#include <string>

namespace skillscale {
namespace {

constexpr double kLargestWhole = 9007199254740991;
constexpr uint64_t kLargestPool = 65'536;

bool Refuse(Napi::Env env, const char* name, const char* expected) {
  if (!env.IsExceptionPending()) {
    Napi::TypeError::New(env, std::string(name) + " must be " + expected).ThrowAsJavaScriptException();
  }
  return false;
}

class Fields {
 public:
  explicit Fields(const Napi::Object& object) : object_(object), env_(object.Env()) {}

  bool Get(const char* name, Napi::Value* value) const {
    *value = object_.Get(name);
    return !env_.IsExceptionPending() && !value->IsEmpty();
  }

  bool Whole(const char* name, uint64_t minimum, uint64_t* result) const {
    Napi::Value value;
    return Get(name, &value) && ReadWhole(value, name, minimum, result);
  }

  // Absent is null.
  bool Limit(const char* name, uint64_t* result) const {
    Napi::Value value;
    if (!Get(name, &value)) return false;
    if (!value.IsNull()) return ReadWhole(value, name, 0, result);
    *result = protocol::kUnlimited;
    return true;
  }

  bool Milliseconds(const char* name, uint64_t* nanoseconds) const {
    if (!Limit(name, nanoseconds)) return false;
    const bool large = *nanoseconds > UINT64_MAX / 1'000'000;
    *nanoseconds = large ? protocol::kUnlimited : *nanoseconds * 1'000'000;
    return true;
  }

  bool Boolean(const char* name, bool* result) const {
    Napi::Value value;
    if (!Get(name, &value)) return false;
    if (!value.IsBoolean()) return Refuse(env_, name, "a boolean");
    *result = value.As<Napi::Boolean>();
    return true;
  }

  bool Text(const char* name, std::string* result) const {
    Napi::Value value;
    if (!Get(name, &value)) return false;
    if (!value.IsString()) return Refuse(env_, name, "a string");
    *result = value.As<Napi::String>().Utf8Value();
    return true;
  }

 private:
  Napi::Object object_;
  Napi::Env env_;
};

bool ReadObject(const Napi::Value& value, Napi::Object* object) {
  if (!value.IsObject() || value.IsFunction()) return Refuse(value.Env(), "options", "an object");
  *object = value.As<Napi::Object>();
  return true;
}

bool ReadPoolSize(const Fields& fields, const char* name, uint64_t minimum, uint32_t* result) {
  uint64_t value = 0;
  if (!fields.Whole(name, minimum, &value)) return false;
  *result = static_cast<uint32_t>(std::min(value, kLargestPool));
  return true;
}

// Longer strings than a packet may have are not copied at all.
bool ReadStrings(const Fields& fields, Napi::Env env, RunRequest* request) {
  Napi::Value value;
  uint64_t argc = 0;
  uint64_t envc = 0;
  uint64_t writec = 0;
  uint64_t readc = 0;
  uint64_t warmc = 0;
  if (!fields.Get("strings", &value) || !fields.Whole("argc", 1, &argc) || !fields.Whole("envc", 0, &envc) ||
      !fields.Whole("writec", 0, &writec) || !fields.Whole("readc", 0, &readc) ||
      !fields.Whole("warmc", 0, &warmc) || !fields.Whole("affinity", 0, &request->affinity) ||
      !fields.Whole("epoch", 0, &request->epoch)) {
    return false;
  }
  if (!value.IsString()) return Refuse(env, "strings", "a string");
  size_t size = 0;
  if (napi_get_value_string_utf8(env, value, nullptr, 0, &size) != napi_ok) return Refuse(env, "strings", "a string");
  request->oversized = size > protocol::kPayloadBytes || argc > protocol::kStrings || envc > protocol::kStrings ||
                       writec > protocol::kStrings || readc > protocol::kStrings ||
                       warmc > protocol::kStrings;
  if (request->oversized) return true;
  request->payload = value.As<Napi::String>().Utf8Value();
  request->argc = static_cast<uint32_t>(argc);
  request->envc = static_cast<uint32_t>(envc);
  request->writec = static_cast<uint32_t>(writec);
  request->readc = static_cast<uint32_t>(readc);
  request->warmc = static_cast<uint32_t>(warmc);
  const auto ends = std::count(request->payload.begin(), request->payload.end(), '\0');
  const bool whole = !request->payload.empty() && request->payload.back() == '\0';
  if (whole && static_cast<uint64_t>(ends) == 5 + writec + readc + warmc + argc + envc) return true;
  return Refuse(env, "strings",
                "a directory, a file, a view of three, writec and readc paths, warmc strings, argc arguments and envc entries, each ended by NUL");
}

bool ReadKind(const Fields& fields, const char* name, Kind* kind) {
  uint64_t value = 0;
  if (!fields.Whole(name, 0, &value)) return false;
  *kind = static_cast<Kind>(std::min<uint64_t>(value, static_cast<uint64_t>(Kind::kConnectedCell)));
  return true;
}

bool ReadConfinement(const Fields& fields, RunRequest* request) {
  uint64_t flags = 0;
  if (!ReadKind(fields, "kind", &request->kind) || !fields.Whole("flags", 0, &flags)) return false;
  request->flags = static_cast<uint32_t>(flags & (protocol::kConfined | protocol::kAllowList | protocol::kConnected | protocol::kAhead | protocol::kLasting |
                                                   protocol::kDirect | protocol::kPlainModes));
  return true;
}

// Paths that every reaper is told: those that runs may read, those with skills, the last of which runs can be given to write.
bool ReadPaths(const Fields& fields, Napi::Env env, SupervisorOptions* options) {
  uint64_t readable = 0;
  uint64_t skills = 0;
  uint64_t open = 0;
  if (!fields.Text("paths", &options->paths) || !fields.Whole("readable", 0, &readable) ||
      !fields.Whole("skills", 0, &skills) || !fields.Whole("open", 0, &open)) {
    return false;
  }
  const std::string& paths = options->paths;
  const auto ends = std::count(paths.begin(), paths.end(), '\0');
  const bool whole = paths.empty() || paths.back() == '\0';
  if (!whole || readable > protocol::kStrings || skills > protocol::kStrings || paths.size() > protocol::kPayloadBytes ||
      static_cast<uint64_t>(ends) != readable + skills) {
    return Refuse(env, "paths", "readable paths, then folders with skills, each ended by NUL");
  }
  if (open > skills) return Refuse(env, "open", "at most as many as there are folders with skills");
  options->readable = static_cast<uint32_t>(readable);
  options->skills = static_cast<uint32_t>(skills);
  options->open = static_cast<uint32_t>(open);
  return true;
}

bool ReadId(const Fields& fields, const char* name, uint32_t* result) {
  uint64_t value = 0;
  if (!fields.Whole(name, 0, &value)) return false;
  *result = static_cast<uint32_t>(std::min<uint64_t>(value, UINT32_MAX - 1));
  return true;
}

bool ReadInput(const Napi::Value& value, RunRequest* request) {
  if (value.IsNull()) return true;
  napi_typedarray_type type;
  size_t length = 0;
  void* data = nullptr;
  const Napi::Env env = value.Env();
  if (!value.IsTypedArray() ||
      napi_get_typedarray_info(env, value, &type, &length, &data, nullptr, nullptr) != napi_ok ||
      type != napi_uint8_array) {
    return Refuse(env, "input", "a Uint8Array or null");
  }
  request->input = static_cast<const uint8_t*>(data);
  request->input_size = data == nullptr ? 0 : length;
  return true;
}

}  // namespace

bool ReadWhole(const Napi::Value& value, const char* name, uint64_t minimum, uint64_t* result) {
  const double number = value.IsNumber() ? value.As<Napi::Number>().DoubleValue() : NAN;
  if (number >= static_cast<double>(minimum) && number <= kLargestWhole && number == floor(number)) {
    *result = static_cast<uint64_t>(number);
    return true;
  }
  const Napi::Env env = value.Env();
  if (!value.IsNumber()) return Refuse(env, name, "a number");
  if (!env.IsExceptionPending()) {
    Napi::RangeError::New(env, std::string(name) + " must be a whole number of at least " + std::to_string(minimum))
        .ThrowAsJavaScriptException();
  }
  return false;
}

bool ReadSupervisorOptions(const Napi::Value& value, SupervisorOptions* options) {
  Napi::Object object;
  if (!ReadObject(value, &object)) return false;
  const Fields fields(object);
  if (!fields.Text("reaperPath", &options->reaper_path) || !fields.Text("controlGroups", &options->control_groups)) return false;
  if (options->reaper_path.find('\0') != std::string::npos) {
    return Refuse(value.Env(), "reaperPath", "a path without NUL");
  }
  if (options->control_groups.find('\0') != std::string::npos) {
    return Refuse(value.Env(), "controlGroups", "a path without NUL");
  }
  return ReadKind(fields, "kind", &options->kind) && ReadPaths(fields, value.Env(), options) &&
         ReadId(fields, "uid", &options->uid) && ReadId(fields, "gid", &options->gid) &&
         fields.Whole("epoch", 0, &options->epoch) &&
         ReadPoolSize(fields, "minReapers", 1, &options->min_reapers) &&
         ReadPoolSize(fields, "idleReapers", 0, &options->idle_reapers) &&
         ReadPoolSize(fields, "maxReapers", options->min_reapers, &options->max_reapers) &&
         ReadPoolSize(fields, "prestart", 0, &options->prestart);
}

bool ReadRunRequest(const Napi::Value& options, const Napi::Value& input, RunRequest* request) {
  Napi::Object object;
  if (!ReadObject(options, &object)) return false;
  const Fields fields(object);
  protocol::Limits& limits = request->limits;
  return ReadStrings(fields, options.Env(), request) && fields.Milliseconds("timeoutMs", &request->timeout_ns) &&
         fields.Milliseconds("graceMs", &request->grace_ns) &&
         fields.Milliseconds("interruptGraceMs", &request->interrupt_grace_ns) &&
         fields.Whole("stdoutBytes", 0, &request->stdout_bytes) &&
         fields.Whole("stderrBytes", 0, &request->stderr_bytes) &&
         fields.Boolean("failOnOverflow", &request->fail_on_overflow) &&
         fields.Whole("windowBytes", 0, &request->window_bytes) && fields.Limit("cpuSeconds", &limits.cpu_seconds) &&
         fields.Limit("memoryBytes", &limits.memory_bytes) && fields.Limit("fileBytes", &limits.file_bytes) &&
         fields.Limit("openFiles", &limits.open_files) && fields.Limit("processes", &limits.processes) &&
         fields.Limit("treeBytes", &limits.tree_bytes) && fields.Limit("treeTasks", &limits.tree_tasks) && fields.Limit("diskBytes", &limits.disk_bytes) &&
         ReadConfinement(fields, request) &&
         ReadInput(input, request);
}

}  // namespace skillscale
