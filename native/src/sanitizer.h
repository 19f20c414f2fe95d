// What AddressSanitizer cannot know of a child that runs on a stack of its own until execve. Nothing in other builds.
#ifndef SKILLSCALE_SANITIZER_H_
#define SKILLSCALE_SANITIZER_H_

#include <stddef.h>

#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/asan_interface.h>
// Before a call that does not return it would clean up the stack that it takes for the thread's.
#define SKILLSCALE_OWN_STACK __attribute__((no_sanitize("address")))
#else
#define SKILLSCALE_OWN_STACK
#endif

namespace skillscale {

// The child left its stack by execve, and its frames would be held for live.
inline void ForgetStack([[maybe_unused]] void* base, [[maybe_unused]] size_t size) {
#ifdef __SANITIZE_ADDRESS__
  __asan_unpoison_memory_region(base, size);
#endif
}

}  // namespace skillscale

#endif  // SKILLSCALE_SANITIZER_H_
