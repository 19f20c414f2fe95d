// Which call failed, and with which errno.
#ifndef SKILLSCALE_STEP_ERROR_H_
#define SKILLSCALE_STEP_ERROR_H_

#include "protocol.h"

namespace skillscale {

struct StepError {
  int error = 0;
  uint32_t step = protocol::kNoStep;
};

}  // namespace skillscale

#endif  // SKILLSCALE_STEP_ERROR_H_
