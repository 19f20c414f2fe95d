// Which call failed, and with which errno.
#ifndef SKILLSCALE_STEP_ERROR_H_
#define SKILLSCALE_STEP_ERROR_H_

#include <errno.h>

#include "protocol.h"

namespace skillscale {

struct StepError {
  int error = 0;
  uint32_t step = protocol::kNoStep;
};

// Tells of the call that just failed.
inline bool Fails(StepError* failure, uint32_t step) {
  *failure = {errno, step};
  return false;
}

}  // namespace skillscale

#endif  // SKILLSCALE_STEP_ERROR_H_
