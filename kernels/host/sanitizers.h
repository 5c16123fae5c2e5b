// What the engine tells sanitizers. The engine itself is never instrumented; it is compiled with one of the macros
// UNFURL_HOST_ASAN, UNFURL_HOST_TSAN and UNFURL_HOST_MSAN where its callers are.
#pragma once
#include <cstddef>
#include <cstring>

#if defined(UNFURL_HOST_ASAN)
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#elif defined(UNFURL_HOST_MSAN)
#include <sanitizer/msan_interface.h>
extern "C" {
void __msan_start_switch_fiber(const void* bottom, std::size_t bytes);
void __msan_finish_switch_fiber(const void** bottom_old, std::size_t* bytes_old);
}
#elif defined(UNFURL_HOST_TSAN)
extern "C" {
void* __tsan_get_current_fiber();
void* __tsan_create_fiber(unsigned flags);
void __tsan_destroy_fiber(void* fiber);
void __tsan_switch_to_fiber(void* fiber, unsigned flags);
void __tsan_acquire(void* address);
void __tsan_release(void* address);
void __tsan_write_range(void* address, unsigned long bytes);
void __tsan_read_range(void* address, unsigned long bytes);
}
#endif

namespace unfurl::kernels::host {

#if defined(UNFURL_HOST_TSAN)
inline constexpr bool kThreadSanitizer = true;
inline void happens_before(void* where) { __tsan_release(where); }
inline void happens_after(void* where) { __tsan_acquire(where); }
inline void note_write(void* memory, std::size_t bytes) { __tsan_write_range(memory, bytes); }
inline void note_read(const void* memory, std::size_t bytes) { __tsan_read_range(const_cast<void*>(memory), bytes); }
#else
inline constexpr bool kThreadSanitizer = false;
inline void happens_before(void*) {}
inline void happens_after(void*) {}
inline void note_write(void*, std::size_t) {}
inline void note_read(const void*, std::size_t) {}
#endif

#if defined(UNFURL_HOST_MSAN)
inline constexpr bool kMemorySanitizer = true;
#else
inline constexpr bool kMemorySanitizer = false;
#endif

/// As memset, but unseen by sanitizers, which intercept that.
inline void fill_bytes(void* memory, unsigned char value, std::size_t bytes) {
#if defined(UNFURL_HOST_ASAN) || defined(UNFURL_HOST_TSAN)
  asm volatile("rep stosb" : "+D"(memory), "+c"(bytes) : "a"(value) : "memory");
#else
  std::memset(memory, value, bytes);
#endif
}

/// As memcpy, but unseen by ThreadSanitizer. MemorySanitizer's memcpy carries along what is uninitialised.
inline void copy_bytes(void* to, const void* from, std::size_t bytes) {
#if defined(UNFURL_HOST_TSAN)
  asm volatile("rep movsb" : "+D"(to), "+S"(from), "+c"(bytes) : : "memory");
#else
  std::memcpy(to, from, bytes);
#endif
}

/// Accesses are errors to AddressSanitizer until allowed again.
inline void forbid([[maybe_unused]] void* memory, [[maybe_unused]] std::size_t bytes) {
#if defined(UNFURL_HOST_ASAN)
  __asan_poison_memory_region(memory, bytes);
#endif
}
inline void allow([[maybe_unused]] void* memory, [[maybe_unused]] std::size_t bytes) {
#if defined(UNFURL_HOST_ASAN)
  __asan_unpoison_memory_region(memory, bytes);
#endif
}

/// Whether AddressSanitizer would let this memory be read.
inline bool accessible([[maybe_unused]] const void* memory, [[maybe_unused]] std::size_t bytes) {
#if defined(UNFURL_HOST_ASAN)
  return __asan_region_is_poisoned(const_cast<void*>(memory), bytes) == nullptr;
#else
  return true;
#endif
}

/// Uninitialised, or not, to MemorySanitizer.
inline void mark_uninitialised([[maybe_unused]] void* memory, [[maybe_unused]] std::size_t bytes) {
#if defined(UNFURL_HOST_MSAN)
  __msan_poison(memory, bytes);
#endif
}
inline void mark_initialised([[maybe_unused]] void* memory, [[maybe_unused]] std::size_t bytes) {
#if defined(UNFURL_HOST_MSAN)
  __msan_unpoison(memory, bytes);
#endif
}
/// Of the next call, the first `count` ones.
inline void mark_parameters_initialised([[maybe_unused]] std::size_t count) {
#if defined(UNFURL_HOST_MSAN)
  __msan_unpoison_param(count);
#endif
}
inline bool initialised([[maybe_unused]] const void* memory, [[maybe_unused]] std::size_t bytes) {
#if defined(UNFURL_HOST_MSAN)
  return __msan_test_shadow(memory, bytes) < 0;
#else
  return true;
#endif
}
/// The engine has written `to` from `from`: what was uninitialised stays so.
inline void pass_on(void* to, std::size_t to_bytes, const void* from, std::size_t from_bytes) {
  if (initialised(from, from_bytes)) {
    mark_initialised(to, to_bytes);
  } else {
    mark_uninitialised(to, to_bytes);
  }
}

}  // namespace unfurl::kernels::host
