// Part of the sanitized reaper alone (binding.gyp). Nobody reads its standard error, and in a cell there is no file that a
// report could be written to. So first of all its standard error becomes the file of reports, also for the fork servers and
// the processes started ahead that it makes.
#include <fcntl.h>
#include <sanitizer/common_interface_defs.h>
#include <unistd.h>

extern "C" __attribute__((visibility("default"))) const char* __asan_default_options();

// A reaper cannot be traced, which a search for leaks takes.
extern "C" const char* __asan_default_options() { return "detect_leaks=0"; }

namespace {

__attribute__((constructor)) void KeepReports() {
  const int file = open(SKILLSCALE_REPORTS, O_WRONLY | O_APPEND | O_CLOEXEC);
  if (file < 0 || dup2(file, STDERR_FILENO) < 0) return;
  close(file);
  __sanitizer_set_report_path("stderr");
}

}  // namespace
