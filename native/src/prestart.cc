// The addon that prestart.cjs loads into a Node process that was started ahead: it waits for the run, which comes over standard
// input, takes its streams, and says what its arguments and environment are.
#include <errno.h>
#include <napi.h>
#include <poll.h>
#include <stdlib.h>
#include <unistd.h>

#include "entry.h"
#include "packet.h"
#include "protocol.h"

namespace {

using skillscale::Packet;
using skillscale::Received;
using skillscale::Strings;
namespace protocol = skillscale::protocol;

Napi::Array ArrayOf(Napi::Env env, char* const* strings, uint32_t count) {
  Napi::Array array = Napi::Array::New(env, count);
  for (uint32_t i = 0; i < count; i++) array.Set(i, Napi::String::New(env, strings[i]));
  return array;
}

// Returns [arguments, environment]. Ends the process when there will be no run.
Napi::Value Take(const Napi::CallbackInfo& info) {
  static Packet packet;
  Strings strings;
  char* copy = nullptr;
  pollfd ready{STDIN_FILENO, POLLIN, 0};
  while (poll(&ready, 1, -1) < 0 && errno == EINTR) {
  }
  if (packet.Receive(STDIN_FILENO) != Received::kPacket || packet.command.type != protocol::kSpawn ||
      !packet.Unpack(3, skillscale::HeadSize(packet.command), &copy, &strings) || !strings) {
    _exit(127);
  }
  // The first of them replaces the socket, and so says that the run was read.
  const int streams[3] = {packet.descriptors[0].get(), packet.descriptors[1].get(), packet.descriptors[2].get()};
  if (skillscale::ConnectStreams(streams) != protocol::kNoStep) _exit(127);
  Napi::Env env = info.Env();
  Napi::Array taken = Napi::Array::New(env, 2);
  taken.Set(0U, ArrayOf(env, strings.argv(), packet.command.argc));
  taken.Set(1U, ArrayOf(env, strings.envp(), packet.command.envc));
  packet.Clear();
  free(copy);
  return taken;
}

Napi::Object Initialize(Napi::Env env, Napi::Object exports) {
  exports.Set("take", Napi::Function::New(env, Take, "take"));
  return exports;
}

}  // namespace

NODE_API_MODULE(skillscale_prestart, Initialize)
