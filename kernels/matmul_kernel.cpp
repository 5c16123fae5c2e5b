#include "kernels/matmul_kernel.h"

#include <algorithm>
#include <cstring>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/matmul_kernel.cpp"
#include <hwy/foreach_target.h>  // must come before highway.h
#include <hwy/highway.h>

#include "kernels/simd.h"

#if !defined(UNFURL_MATMUL_KERNEL_TABLE)
#define UNFURL_MATMUL_KERNEL_TABLE
namespace unfurl::kernels {
struct MatmulKernels {
  MatmulKernel<float> f32;
  MatmulKernel<double> f64;
};
}  // namespace unfurl::kernels
#endif

HWY_BEFORE_NAMESPACE();
namespace unfurl::kernels::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

// A tile has enough sums to keep the multipliers busy and to need few loads: of 32 vector registers 24 are sums (8 x 48
// floats), of 16 it is 12 (6 x 16). A step of k loads kVectors vectors of b and broadcasts kRows elements of a.
constexpr int kRows = HWY_TARGET == HWY_AVX3 ? 8 : HWY_TARGET == HWY_AVX2 ? 6 : 2;
constexpr int kVectors = HWY_TARGET == HWY_AVX3 ? 3 : 2;
constexpr int kAhead = 16;  // steps of k between the prefetch of b and its use

template <class T>
using Tag = hn::ScalableTag<T>;
template <class T>
constexpr Index kLanes = static_cast<Index>(hn::MaxLanes(Tag<T>()));

/// A tile of V vectors, kRows rows of which the first `rows` are stored.
template <int V, class T>
HWY_NOINLINE void tile(T* HWY_RESTRICT c, Index c_row, const T* HWY_RESTRICT a, Index a_row, Index a_col,
                       const T* HWY_RESTRICT b, Index b_row, Index rows, Index cols, Index k, bool accumulate) {
  const Tag<T> d;
  using Vec = hn::Vec<Tag<T>>;
  const Index last = rows - 1;
  const T* left[kRows];  // rows that are not there read the last one again
  HWY_UNROLL(8)
  for (int i = 0; i < kRows; ++i) {
    const Index row = i < last ? i : last;
    left[i] = a + row * a_row;
    HWY_UNROLL(4)
    for (int v = 0; v < V; ++v) __builtin_prefetch(c + row * c_row + v * kLanes<T>, 1);
  }
  Vec sum[kRows][V];
  HWY_UNROLL(8)
  for (int i = 0; i < kRows; ++i) {
    HWY_UNROLL(4)
    for (int v = 0; v < V; ++v) sum[i][v] = hn::Zero(d);
  }
  const T* ahead = b + kAhead * b_row;
  Index at = 0;
  HWY_UNROLL(2)
  for (Index l = 0; l < k; ++l) {
    Vec y[V];
    HWY_UNROLL(4)
    for (int v = 0; v < V; ++v) {
      y[v] = hn::LoadU(d, b + v * kLanes<T>);
      __builtin_prefetch(ahead + v * kLanes<T>);
    }
    HWY_UNROLL(8)
    for (int i = 0; i < kRows; ++i) {
      const Vec x = hn::Set(d, left[i][at]);
      HWY_UNROLL(4)
      for (int v = 0; v < V; ++v) sum[i][v] = hn::MulAdd(x, y[v], sum[i][v]);
    }
    at += a_col;
    b += b_row;
    ahead += b_row;
  }
  if (cols == V * kLanes<T>) {
    HWY_UNROLL(8)
    for (int i = 0; i < kRows; ++i) {
      if (i >= rows) break;
      HWY_UNROLL(4)
      for (int v = 0; v < V; ++v) {
        T* to = c + i * c_row + v * kLanes<T>;
        hn::StoreU(accumulate ? hn::Add(hn::LoadU(d, to), sum[i][v]) : sum[i][v], d, to);
      }
    }
    return;
  }
  // In part: by way of memory.
  HWY_ALIGN T sums[kRows][V * kLanes<T>];
  HWY_UNROLL(8)
  for (int i = 0; i < kRows; ++i) {
    HWY_UNROLL(4)
    for (int v = 0; v < V; ++v) hn::Store(sum[i][v], d, sums[i] + v * kLanes<T>);
  }
  for (Index i = 0; i < rows; ++i) {
    T* to = c + i * c_row;
    for (Index j = 0; j < cols; ++j) to[j] = accumulate ? to[j] + sums[i][j] : sums[i][j];
  }
}

template <class T>
void run(T* c, Index c_row, const T* a, Index a_row, Index a_col, const T* b, Index b_row, Index rows, Index cols,
         Index k, bool accumulate) {
  if (cols > (kVectors - 1) * kLanes<T>) {
    tile<kVectors>(c, c_row, a, a_row, a_col, b, b_row, rows, cols, k, accumulate);
  } else if (kVectors == 2 || cols <= kLanes<T>) {
    tile<1>(c, c_row, a, a_row, a_col, b, b_row, rows, cols, k, accumulate);
  } else {
    tile<2>(c, c_row, a, a_row, a_col, b, b_row, rows, cols, k, accumulate);
  }
}

#if HWY_TARGET != HWY_SCALAR
/// Elements [at, at + 4) of every fourth row, from `row` on: one block of 128 bits each.
template <class D>
HWY_INLINE hn::Vec<D> every_fourth(D d, const float* row, Index stride) {
  if constexpr (hn::MaxLanes(d) == 4) {
    return hn::LoadU(d, row);
  } else {
    const hn::Half<D> half;
    const Index upper = static_cast<Index>(hn::MaxLanes(half)) * stride;
    return hn::Combine(d, every_fourth(half, row + upper, stride), every_fourth(half, row, stride));
  }
}
#endif

template <class T>
void pack_across(T* panel, Index width, const T* from, Index stride, Index count, Index length) {
  Index i = 0;
#if HWY_TARGET != HWY_SCALAR
  if constexpr (sizeof(T) == 4) {  // double is for gradient checks
    // Four steps of k of a vector of rows: a transposition of 4 x 4 in each block of 128 bits.
    const Tag<T> d;
    const hn::RepartitionToWide<Tag<T>> wide;
    const auto lower = [&](auto x, auto y) HWY_ATTR {
      return hn::BitCast(d, hn::InterleaveLower(wide, hn::BitCast(wide, x), hn::BitCast(wide, y)));
    };
    const auto upper = [&](auto x, auto y) HWY_ATTR {
      return hn::BitCast(d, hn::InterleaveUpper(wide, hn::BitCast(wide, x), hn::BitCast(wide, y)));
    };
    for (; i + kLanes<T> <= count; i += kLanes<T>) {
      const T* rows = from + i * stride;
      Index l = 0;
      for (; l + 4 <= length; l += 4) {
        for (Index r = 0; l % 16 == 0 && r < kLanes<T>; ++r) __builtin_prefetch(rows + r * stride + l + 64);
        const auto x0 = every_fourth(d, rows + l, stride), x1 = every_fourth(d, rows + stride + l, stride),
                   x2 = every_fourth(d, rows + 2 * stride + l, stride),
                   x3 = every_fourth(d, rows + 3 * stride + l, stride);
        const auto x01 = hn::InterleaveLower(d, x0, x1), x23 = hn::InterleaveLower(d, x2, x3),
                   y01 = hn::InterleaveUpper(d, x0, x1), y23 = hn::InterleaveUpper(d, x2, x3);
        T* to = panel + l * width + i;
        hn::StoreU(lower(x01, x23), d, to);
        hn::StoreU(upper(x01, x23), d, to + width);
        hn::StoreU(lower(y01, y23), d, to + 2 * width);
        hn::StoreU(upper(y01, y23), d, to + 3 * width);
      }
      for (; l < length; ++l) {
        for (Index r = 0; r < kLanes<T>; ++r) panel[l * width + i + r] = rows[r * stride + l];
      }
    }
  }
#endif
  for (; i < width; ++i) {
    for (Index l = 0; l < length; ++l) panel[l * width + i] = i < count ? from[i * stride + l] : T(0);
  }
}

template <class T>
void pack_along(T* panel, Index width, const T* from, Index stride, Index count, Index length) {
  for (Index l = 0; l < length; ++l, panel += width, from += stride) {
    std::memcpy(panel, from, static_cast<std::size_t>(count) * sizeof(T));
    std::fill(panel + count, panel + width, T(0));
  }
}

template <class T>
void pack_rows(T* panels, Index panel, const T* from, Index stride, Index count, Index length) {
  constexpr Index kLine = 64 / static_cast<Index>(sizeof(T));
  const Index whole = count / kRows * kRows;
  for (Index l = 0; l < length; ++l, from += stride) {
    for (Index i = 0; i < count; i += kLine) __builtin_prefetch(from + 8 * stride + i);
    T* to = panels + l * kRows;
    for (Index i = 0; i < whole; i += kRows, to += panel) std::memcpy(to, from + i, kRows * sizeof(T));
    for (Index i = whole; i < count; ++i) to[i - whole] = from[i];
  }
}

template <class T>
MatmulKernel<T> kernel() {
  constexpr bool kLarge = HWY_TARGET == HWY_AVX3;  // such processors have an L2 cache of 1 MiB at least
  constexpr Index kNr = kVectors * kLanes<T>;
  constexpr Index kBytes = kLarge ? Index{576} << 10 : Index{160} << 10, kKc = kLarge ? 384 : 256;
  return {kRows,
          kNr,
          kKc,
          kBytes / static_cast<Index>(sizeof(T)) / kKc / kNr * kNr,
          kLanes<T>,
          &run<T>,
          &pack_across<T>,
          &pack_along<T>,
          &pack_rows<T>};
}

MatmulKernels kernels() { return {kernel<float>(), kernel<double>()}; }

}  // namespace unfurl::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace unfurl::kernels {
HWY_EXPORT(kernels);

template <>
MatmulKernel<float> matmul_kernel() {
  return HWY_DYNAMIC_DISPATCH(kernels)().f32;
}
template <>
MatmulKernel<double> matmul_kernel() {
  return HWY_DYNAMIC_DISPATCH(kernels)().f64;
}

}  // namespace unfurl::kernels
#endif
