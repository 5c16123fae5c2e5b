// How much shared memory a launch may ask for.
#pragma once
#include <cstddef>

namespace unfurl::kernels {

/// A kernel that uses more in all, static and dynamic, must be opted in (CUDA C++ Programming Guide, Technical
/// Specifications per Compute Capability).
inline constexpr std::size_t kSharedWithoutOptIn = 48 << 10;

/// launch() opts in what asks for more dynamic shared memory, as it does not know how much is static: the difference.
inline constexpr std::size_t kDynamicWithoutOptIn = 32 << 10;

}  // namespace unfurl::kernels
