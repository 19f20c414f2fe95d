// Checks control_group.cc in a folder of ordinary files, which keep what was written to them; compiled together with it by
// control_group.test.ts. The first argument names an empty folder. Exits with the number of differences.
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <string>

#include "control_group.h"
#include "protocol.h"

namespace {

using skillscale::ControlGroup;
using skillscale::StepError;
using skillscale::protocol::kUnlimited;

int differences = 0;

void Expect(const char* what, bool holds) {
  if (holds) return;
  fprintf(stderr, "%s\n", what);
  differences++;
}

std::string Read(const std::string& path) {
  const int file = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  char text[256];
  const ssize_t size = file < 0 ? -1 : read(file, text, sizeof text);
  if (file >= 0) close(file);
  return size < 0 ? "(none)" : std::string(text, static_cast<size_t>(size));
}

void Put(const std::string& path, const char* text) {
  const int file = open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
  const bool done = file >= 0 && write(file, text, strlen(text)) == static_cast<ssize_t>(strlen(text));
  if (file >= 0) close(file);
  Expect(path.c_str(), done);
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2) return 100;
  const std::string folder = std::string(argv[1]) + "/group/";
  StepError failure;
  ControlGroup group;
  Expect("is none at first", !group && group.Limit(1, 1, &failure) && group.TakeMemoryKills() == 0 && group.Remove());
  Expect("is made", group.Make(argv[1], "group", &failure) && group);
  Expect("is made once", !ControlGroup().Make(argv[1], "group", &failure) && failure.error == EEXIST);
  Expect("has no door without the kernel", !group.Door(&failure) && failure.error == ENOENT);
  Expect("does without controllers", group.Limit(1 << 20, 3, &failure) && group.Limit(kUnlimited, kUnlimited, &failure));

  for (const char* file : {"memory.max", "memory.swap.max", "pids.max", "cgroup.kill"}) Put(folder + file, "");
  Put(folder + "memory.events", "low 0\nhigh 0\nmax 9\noom 7\noom_kill 2\noom_group_kill 5\n");
  const uint64_t own = uint64_t{512} << 20;
  Expect("bounds", group.Limit(1 << 30, 100, &failure));
  Expect("memory", Read(folder + "memory.max") == std::to_string((uint64_t{1} << 30) + own));
  Expect("swap", Read(folder + "memory.swap.max") == "0");
  Expect("tasks", Read(folder + "pids.max") == "116");
  Put(folder + "memory.max", "x");
  Expect("leaves what is the same", group.Limit(1 << 30, 100, &failure) && Read(folder + "memory.max") == "x");
  Put(folder + "pids.max", "");
  Put(folder + "memory.max", "");
  Put(folder + "memory.swap.max", "");
  Expect("takes bounds away", group.Limit(kUnlimited, kUnlimited, &failure));
  Expect("no bounds", Read(folder + "memory.max") + Read(folder + "memory.swap.max") + Read(folder + "pids.max") == "maxmaxmax");
  Expect("sums that do not wrap around",
         group.Limit(kUnlimited - 1, kUnlimited - 1, &failure) && Read(folder + "pids.max") == "max");

  // The file was not there when it was looked for first.
  ControlGroup late;
  Expect("a second one", late.Make(argv[1], "late", &failure));
  Put(std::string(argv[1]) + "/late/memory.events", "low 0\noom 7\noom_kill 2\n");
  Expect("counts", late.TakeMemoryKills() == 2 && late.TakeMemoryKills() == 0);
  Put(std::string(argv[1]) + "/late/memory.events", "low 0\noom 7\noom_kill 5\n");
  Expect("counts what came since", late.TakeMemoryKills() == 3);
  ControlGroup moved = std::move(late);
  Expect("is moved", moved && !late && moved.TakeMemoryKills() == 0);

  group.Kill();
  Expect("kills", Read(folder + "cgroup.kill") == "1");
  Expect("stays while somebody is in it", !group.Remove() && group);
  for (const char* file : {"memory.max", "memory.swap.max", "pids.max", "cgroup.kill", "memory.events"}) unlink((folder + file).c_str());
  Expect("is removed", group.Remove() && !group && group.Remove());
  return differences;
}
