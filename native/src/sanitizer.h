// Tells AddressSanitizer that a stack which a child left by execve holds nothing. Does nothing in other builds.
#ifndef SKILLSCALE_SANITIZER_H_
#define SKILLSCALE_SANITIZER_H_

#include <stddef.h>

#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/asan_interface.h>
#endif

namespace skillscale {

inline void ForgetStack([[maybe_unused]] void* base, [[maybe_unused]] size_t size) {
#ifdef __SANITIZE_ADDRESS__
  __asan_unpoison_memory_region(base, size);
#endif
}

}  // namespace skillscale

#endif  // SKILLSCALE_SANITIZER_H_
