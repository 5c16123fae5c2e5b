// Element types, devices and shapes.
#pragma once
#include <fmt/core.h>

#include <array>
#include <initializer_list>
#include <string>

#include "core/error.h"
#include "kernels/types.h"

namespace unfurl {

enum class DType : std::uint8_t { f32, f64, bf16, i32 };

constexpr Index size_of(DType dtype) { return dtype == DType::f64 ? 8 : dtype == DType::bf16 ? 2 : 4; }
constexpr const char* name_of(DType dtype) {
  constexpr const char* kNames[] = {"f32", "f64", "bf16", "i32"};
  return kNames[static_cast<int>(dtype)];
}

template <class T>
struct DTypeOf;
template <>
struct DTypeOf<float> {
  static constexpr DType value = DType::f32;
};
template <>
struct DTypeOf<double> {
  static constexpr DType value = DType::f64;
};
template <>
struct DTypeOf<bf16> {
  static constexpr DType value = DType::bf16;
};
template <>
struct DTypeOf<std::int32_t> {
  static constexpr DType value = DType::i32;
};
template <class T>
inline constexpr DType dtype_of = DTypeOf<std::remove_const_t<T>>::value;

/// The type in which kernels sum elements of `dtype`, and in which gradients of parameters are kept.
constexpr DType accumulator(DType dtype) { return dtype == DType::f64 ? DType::f64 : DType::f32; }

/// `meta` has sizes but no memory: operations on it allocate, in the books only, and compute nothing. A step on it
/// tells what a step would hold. `cuda` is a GPU; `host_cuda` runs the CUDA kernels on the CPU, for tests. Which of
/// them a binary has, core/device.h says.
enum class Device : std::uint8_t { cpu, meta, host_cuda, cuda };

constexpr const char* name_of(Device device) {
  constexpr const char* kNames[] = {"cpu", "meta", "host_cuda", "cuda"};
  return kNames[static_cast<int>(device)];
}

/// Whether it runs the CUDA kernels: work on it is queued, and the host must not touch its memory.
constexpr bool runs_cuda(Device device) { return device == Device::host_cuda || device == Device::cuda; }

/// Up to four dimensions, row-major.
class Shape {
 public:
  Shape() = default;
  Shape(std::initializer_list<Index> sizes) {
    require(sizes.size() <= 4, "shape: at most 4 dimensions, got {}", sizes.size());
    for (const Index size : sizes) append(size);
  }

  int rank() const { return rank_; }
  /// Dimension i; negative i counts from the end.
  Index operator[](int i) const {
    const int at = i < 0 ? i + rank_ : i;
    require(at >= 0 && at < rank_, "shape: no dimension {} in {}", i, text());
    return sizes_[static_cast<std::size_t>(at)];
  }
  Index numel() const {
    Index product = 1;
    for (int i = 0; i < rank_; ++i) product *= sizes_[static_cast<std::size_t>(i)];
    return product;
  }
  void append(Index size) {
    require(rank_ < 4 && size >= 0, "shape: cannot append dimension {} of size {}", rank_, size);
    sizes_[static_cast<std::size_t>(rank_++)] = size;
  }
  /// The same shape with another last dimension.
  Shape with_last(Index size) const {
    Shape out = drop_last();
    out.append(size);
    return out;
  }
  Shape drop_last() const {
    Shape out = *this;
    require(out.rank_ > 0, "shape: no dimension to drop");
    out.sizes_[static_cast<std::size_t>(--out.rank_)] = 0;
    return out;
  }
  std::string text() const {
    std::string out = "[";
    for (int i = 0; i < rank_; ++i) {
      if (i > 0) out += ", ";
      out += std::to_string(sizes_[static_cast<std::size_t>(i)]);
    }
    return out + "]";
  }
  bool operator==(const Shape&) const = default;

 private:
  int rank_ = 0;
  std::array<Index, 4> sizes_{};
};

}  // namespace unfurl

/// Prints as Shape::text().
template <>
struct fmt::formatter<unfurl::Shape> : fmt::formatter<std::string> {
  fmt::format_context::iterator format(const unfurl::Shape& shape, fmt::format_context& context) const;
};
