// Random test data. Every generator takes a fixed seed; a failing test prints it with the case.
#pragma once
#include <cmath>
#include <type_traits>
#include <vector>

#include "kernels/philox.h"
#include "kernels/types.h"

namespace unfurl::tests {

/// `count` normal numbers (Box-Muller on Philox), a pure function of the seed.
template <class T = float>
std::vector<T> normal(Index count, std::uint64_t seed, double scale = 1) {
  std::vector<T> out(static_cast<std::size_t>(count));
  for (Index i = 0; i < count; ++i) {
    const auto bits = philox({seed, 0xC0FFEE, 0}, static_cast<std::uint64_t>(i));
    const double radius = std::sqrt(-2.0 * std::log((bits[0] + 1.0) * 0x1p-32));
    const double value = scale * radius * std::cos(6.283185307179586 * bits[1] * 0x1p-32);
    if constexpr (std::is_same_v<T, bf16>) {
      out[static_cast<std::size_t>(i)] = to_bf16(static_cast<float>(value));
    } else {
      out[static_cast<std::size_t>(i)] = static_cast<T>(value);
    }
  }
  return out;
}

/// `count` integers in [0, bound).
inline std::vector<std::int32_t> integers(Index count, std::int32_t bound, std::uint64_t seed) {
  std::vector<std::int32_t> out(static_cast<std::size_t>(count));
  for (Index i = 0; i < count; ++i) {
    const auto bits = philox({seed, 0xD1CE, 0}, static_cast<std::uint64_t>(i));
    out[static_cast<std::size_t>(i)] =
        static_cast<std::int32_t>((std::uint64_t{bits[0]} * static_cast<std::uint32_t>(bound)) >> 32);
  }
  return out;
}

}  // namespace unfurl::tests
