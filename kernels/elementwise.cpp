#include "kernels/elementwise.h"

#include <bit>
#include <cmath>
#include <cstring>
#include <type_traits>

#include "kernels/blocks.h"
#include "kernels/simd.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/elementwise.cpp"
#include "hwy/foreach_target.h"  // before any other Highway header
#include "kernels/simd-inl.h"

#ifndef UNFURL_KERNELS_ELEMENTWISE_ONCE_
#define UNFURL_KERNELS_ELEMENTWISE_ONCE_
namespace unfurl::kernels {
namespace {

template <class T>
struct Arithmetic {
  void (*add)(T* y, const T* a, const T* b, Index count);
  void (*scale)(T* y, const T* x, T factor, Index count);
  void (*add_scaled)(T* y, const T* x, T factor, Index count);
};
template <class To, class From>
struct Conversion {
  void (*convert)(To* y, const From* x, Index count);
};
using ElementwiseTable =
    Functions<Arithmetic<float>, Arithmetic<double>, Conversion<float, double>, Conversion<float, bf16>,
              Conversion<double, float>, Conversion<double, bf16>, Conversion<bf16, float>, Conversion<bf16, double>>;

template <class To, class From>
HWY_INLINE To converted(From x) {
  if constexpr (std::is_same_v<From, bf16>) {
    return static_cast<To>(to_float(x));
  } else if constexpr (std::is_same_v<To, bf16> && std::is_same_v<From, double>) {
    // Two roundings to nearest are not one. Rounding to odd first is: cut off, and set the last bit if that was
    // inexact.
    const float nearest = static_cast<float>(x);
    auto bits = std::bit_cast<std::uint32_t>(nearest);
    const bool inexact = static_cast<double>(nearest) != x && x == x;
    bits -= inexact && std::fabs(static_cast<double>(nearest)) > std::fabs(x) ? 1u : 0u;
    bits |= inexact ? 1u : 0u;
    return to_bf16(std::bit_cast<float>(bits));
  } else if constexpr (std::is_same_v<To, bf16>) {
    return to_bf16(x);
  } else {
    return static_cast<To>(x);
  }
}

}  // namespace
}  // namespace unfurl::kernels
#endif  // UNFURL_KERNELS_ELEMENTWISE_ONCE_

HWY_BEFORE_NAMESPACE();
namespace unfurl::kernels::HWY_NAMESPACE {
namespace {

template <class T>
void add_row(T* y, const T* a, const T* b, Index count) {
  vectors<T>(count,
             [=](const auto& io, Index i) HWY_ATTR { io.store(hn::Add(io.load(a + i), io.load(b + i)), y + i); });
}

template <class T>
void scale_row(T* y, const T* x, T factor, Index count) {
  const auto f = hn::Set(Tag<T>(), factor);
  vectors<T>(count, [=](const auto& io, Index i) HWY_ATTR { io.store(hn::Mul(io.load(x + i), f), y + i); });
}

template <class T>
void add_scaled_row(T* y, const T* x, T factor, Index count) {
  const auto f = hn::Set(Tag<T>(), factor);
  vectors<T>(count,
             [=](const auto& io, Index i) HWY_ATTR { io.store(hn::MulAdd(io.load(x + i), f, io.load(y + i)), y + i); });
}

// The compiler makes vectors of this target out of the plain loop.
template <class To, class From>
void convert_row(To* HWY_RESTRICT y, const From* HWY_RESTRICT x, Index count) {
  for (Index i = 0; i < count; ++i) y[i] = converted<To>(x[i]);
}

}  // namespace

ElementwiseTable elementwise_table() {
  return {{&add_row<float>, &scale_row<float>, &add_scaled_row<float>},
          {&add_row<double>, &scale_row<double>, &add_scaled_row<double>},
          {&convert_row<float, double>},
          {&convert_row<float, bf16>},
          {&convert_row<double, float>},
          {&convert_row<double, bf16>},
          {&convert_row<bf16, float>},
          {&convert_row<bf16, double>}};
}

}  // namespace unfurl::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace unfurl::kernels {
namespace {

HWY_EXPORT(elementwise_table);

template <class Part>
Part functions() {
  return HWY_DYNAMIC_DISPATCH(elementwise_table)();
}

template <class T>
void copy_row(T* y, const T* x, Index count) {
  if (y != x) std::memcpy(y, x, static_cast<std::size_t>(count) * sizeof(T));
}

/// Calls body(row, first_col, count) for pieces of rows, in parallel.
template <class Body>
void for_row_pieces(const CpuQueue& queue, Index rows, Index cols, const Body& body) {
  for_tiles(queue.pool(), rows, cols, [&](Index first_row, Index last_row, Index first_col, Index last_col) {
    for (Index r = first_row; r < last_row; ++r) body(r, first_col, last_col - first_col);
  });
}

}  // namespace

template <class Queue, class T>
void add(const Queue& queue, Matrix<T> y, Matrix<const T> a, Matrix<const T> b, Index rows, Index cols) {
  const auto f = functions<Arithmetic<T>>();
  for_row_pieces(queue, rows, cols,
                 [&](Index r, Index c, Index n) { f.add(y.row(r) + c, a.row(r) + c, b.row(r) + c, n); });
}

template <class Queue, class T>
void scale(const Queue& queue, Matrix<T> y, Matrix<const T> x, Accumulator<T> factor, Index rows, Index cols) {
  const auto f = functions<Arithmetic<T>>();
  for_row_pieces(queue, rows, cols, [&](Index r, Index c, Index n) { f.scale(y.row(r) + c, x.row(r) + c, factor, n); });
}

template <class Queue, class T>
void add_scaled(const Queue& queue, T* y, const T* x, T factor, Index count) {
  const auto f = functions<Arithmetic<T>>();
  for_row_pieces(queue, 1, count, [&](Index, Index c, Index n) { f.add_scaled(y + c, x + c, factor, n); });
}

template <class Queue, class T>
void fill(const Queue& queue, Matrix<T> y, T value, Index rows, Index cols) {
  for_row_pieces(queue, rows, cols, [&](Index r, Index c, Index n) { std::fill_n(y.row(r) + c, n, value); });
}

template <class Queue, class To, class From>
void convert(const Queue& queue, Matrix<To> y, Matrix<const From> x, Index rows, Index cols) {
  if constexpr (std::is_same_v<To, From>) {
    for_row_pieces(queue, rows, cols, [&](Index r, Index c, Index n) { copy_row(y.row(r) + c, x.row(r) + c, n); });
  } else {
    const auto f = functions<Conversion<To, From>>();
    for_row_pieces(queue, rows, cols, [&](Index r, Index c, Index n) { f.convert(y.row(r) + c, x.row(r) + c, n); });
  }
}

template <class Queue, class T>
void gather_rows(const Queue& queue, Matrix<T> y, Matrix<const T> x, const std::int32_t* rows, Index count,
                 Index cols) {
  for_row_pieces(queue, count, cols, [&](Index i, Index c, Index n) { copy_row(y.row(i) + c, x.row(rows[i]) + c, n); });
}

template <class Queue, class T>
void scatter_rows(const Queue& queue, Matrix<T> y, Matrix<const T> x, const std::int32_t* rows, Index count,
                  Index total, Index cols) {
  for_row_blocks(queue.pool(), total, task_rows(cols), [&](Index first, Index last) {
    Index i = std::lower_bound(rows, rows + count, first) - rows;
    for (Index r = first; r < last; ++r) {
      if (i < count && rows[i] == r) {
        copy_row(y.row(r), x.row(i++), cols);
      } else {
        std::fill_n(y.row(r), cols, T{});
      }
    }
  });
}

#define UNFURL_INSTANTIATE(T)                                                                                        \
  template void add(const CpuQueue&, Matrix<T>, Matrix<const T>, Matrix<const T>, Index, Index);                     \
  template void scale(const CpuQueue&, Matrix<T>, Matrix<const T>, T, Index, Index);                                 \
  template void add_scaled(const CpuQueue&, T*, const T*, T, Index);                                                 \
  template void fill(const CpuQueue&, Matrix<T>, T, Index, Index);                                                   \
  template void gather_rows(const CpuQueue&, Matrix<T>, Matrix<const T>, const std::int32_t*, Index, Index);         \
  template void scatter_rows(const CpuQueue&, Matrix<T>, Matrix<const T>, const std::int32_t*, Index, Index, Index); \
  template void convert(const CpuQueue&, Matrix<T>, Matrix<const float>, Index, Index);                              \
  template void convert(const CpuQueue&, Matrix<T>, Matrix<const double>, Index, Index);                             \
  template void convert(const CpuQueue&, Matrix<T>, Matrix<const bf16>, Index, Index);
UNFURL_INSTANTIATE(float)
UNFURL_INSTANTIATE(double)
#undef UNFURL_INSTANTIATE
template void fill(const CpuQueue&, Matrix<bf16>, bf16, Index, Index);
template void convert(const CpuQueue&, Matrix<bf16>, Matrix<const float>, Index, Index);
template void convert(const CpuQueue&, Matrix<bf16>, Matrix<const double>, Index, Index);
template void convert(const CpuQueue&, Matrix<bf16>, Matrix<const bf16>, Index, Index);

}  // namespace unfurl::kernels
#endif  // HWY_ONCE
