// Element types and views shared by every kernel and every backend. What is constexpr here works in CUDA kernels too.
#pragma once
#include <bit>
#include <cstdint>

namespace unfurl {

using Index = std::int64_t;

/// Storage type only: arithmetic on bf16 data is done in float.
struct bf16 {
  std::uint16_t bits;
};

/// Rounds to nearest, ties to even; a NaN stays a NaN.
constexpr bf16 to_bf16(float value) {
  const auto bits = std::bit_cast<std::uint32_t>(value);
  if ((bits & 0x7fffffffu) > 0x7f800000u) return {static_cast<std::uint16_t>((bits >> 16) | 0x40u)};
  return {static_cast<std::uint16_t>((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16)};
}

constexpr float to_float(bf16 value) { return std::bit_cast<float>(static_cast<std::uint32_t>(value.bits) << 16); }

namespace kernels {

template <class T>
struct AccumulatorOf {
  using type = float;
};
template <>
struct AccumulatorOf<double> {
  using type = double;
};
/// The type in which a kernel sums elements of T: float, or double for double.
template <class T>
using Accumulator = typename AccumulatorOf<T>::type;

/// Rows of a matrix: row r starts at data + r * stride, its elements are dense. A column slice of a wider matrix is a
/// Matrix with a stride greater than its width.
template <class T>
struct Matrix {
  T* data = nullptr;
  Index stride = 0;

  constexpr T* row(Index r) const { return data + r * stride; }
  constexpr operator Matrix<const T>() const { return {data, stride}; }
};

}  // namespace kernels
}  // namespace unfurl
