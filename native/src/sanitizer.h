// What AddressSanitizer cannot know: of a child that runs on a stack of its own until execve, and of a copy of all memory. Nothing
// in other builds.
#ifndef SKILLSCALE_SANITIZER_H_
#define SKILLSCALE_SANITIZER_H_

#include <stddef.h>
#include <string.h>

#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/asan_interface.h>
// For what runs on another stack than the thread's, which it would clean up before a call that does not return; and for reads of what
// is between objects.
#define SKILLSCALE_UNCHECKED __attribute__((no_sanitize("address")))
#else
#define SKILLSCALE_UNCHECKED
#endif

namespace skillscale {

// The child left its stack by execve, and its frames would be held for live.
inline void ForgetStack([[maybe_unused]] void* base, [[maybe_unused]] size_t size) {
#ifdef __SANITIZE_ADDRESS__
  __asan_unpoison_memory_region(base, size);
#endif
}

// Copies what is between objects, too.
SKILLSCALE_UNCHECKED inline void CopyAll(void* to, const void* from, size_t size) {
#ifdef __SANITIZE_ADDRESS__
  for (size_t i = 0; i < size; i++) static_cast<volatile char*>(to)[i] = static_cast<const volatile char*>(from)[i];
#else
  memcpy(to, from, size);
#endif
}

}  // namespace skillscale

#endif  // SKILLSCALE_SANITIZER_H_
