// Turns an event into the arguments of the JavaScript callback.
//
// Plain Node-API calls with their status: a worker may be terminated in the middle of a callback, and then every call into
// JavaScript fails; the C++ wrapper would end the process over it.
#ifndef SKILLSCALE_EVENT_VALUES_H_
#define SKILLSCALE_EVENT_VALUES_H_

#include <node_api.h>

#include <vector>

#include "run.h"

namespace skillscale {

// False when the environment makes no values any more. Takes the event's bytes.
bool ToValues(napi_env env, Event* event, std::vector<napi_value>* values);

}  // namespace skillscale

#endif  // SKILLSCALE_EVENT_VALUES_H_
