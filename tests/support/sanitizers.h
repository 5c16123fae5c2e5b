// With which sanitizer the tests are built.
#pragma once

namespace unfurl::tests {

#if defined(__SANITIZE_ADDRESS__)
inline constexpr bool kAddressSanitizer = true, kThreadSanitizer = false, kMemorySanitizer = false;
#elif defined(__SANITIZE_THREAD__)
inline constexpr bool kAddressSanitizer = false, kThreadSanitizer = true, kMemorySanitizer = false;
#elif defined(__has_feature)
inline constexpr bool kAddressSanitizer = __has_feature(address_sanitizer);
inline constexpr bool kThreadSanitizer = __has_feature(thread_sanitizer);
inline constexpr bool kMemorySanitizer = __has_feature(memory_sanitizer);
#else
inline constexpr bool kAddressSanitizer = false, kThreadSanitizer = false, kMemorySanitizer = false;
#endif

/// These two look at the CUDA kernels alone: CPU kernels have no barriers to forget, and call libraries that are not
/// instrumented.
inline constexpr bool kCudaOnly = kThreadSanitizer || kMemorySanitizer;

/// CUDA kernels executed under a sanitizer are slow: fewer and smaller cases do.
#if defined(UNFURL_HOST_CUDA)
inline constexpr bool kReduced = kAddressSanitizer || kThreadSanitizer || kMemorySanitizer;
#else
inline constexpr bool kReduced = false;
#endif

}  // namespace unfurl::tests
