// Reads what JavaScript passed. Every value is checked, because a wrong one must be an exception and not undefined
// behaviour: a reader that finds one throws a TypeError or RangeError that names the field, and returns false.
#ifndef SKILLSCALE_ARGUMENTS_H_
#define SKILLSCALE_ARGUMENTS_H_

#include <napi.h>

#include "supervisor.h"

namespace skillscale {

bool ReadSupervisorOptions(const Napi::Value& value, SupervisorOptions* options);
// Fills everything but the id.
bool ReadRunRequest(const Napi::Value& options, const Napi::Value& input, RunRequest* request);
// A whole number that a double holds exactly, of at least `minimum`.
bool ReadWhole(const Napi::Value& value, const char* name, uint64_t minimum, uint64_t* result);

}  // namespace skillscale

#endif  // SKILLSCALE_ARGUMENTS_H_
