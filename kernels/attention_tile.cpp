#include "kernels/attention_tile.h"

#include <limits>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/attention_tile.cpp"
#include <hwy/foreach_target.h>  // must come before all others of Highway

#include <hwy/contrib/math/math-inl.h>
#include <hwy/highway.h>

HWY_BEFORE_NAMESPACE();
namespace unfurl::kernels::HWY_NAMESPACE {
namespace {
namespace hn = hwy::HWY_NAMESPACE;

template <class D>
Index lanes_of(D d) {
  return static_cast<Index>(hn::Lanes(d));
}

/// to[0, count) = factor * from[0, count).
template <class T>
HWY_INLINE void scale_row(T* to, const T* from, Index count, T factor) {
  const hn::ScalableTag<T> d;
  const auto scale = hn::Set(d, factor);
  Index c = 0;
  for (; c + lanes_of(d) <= count; c += lanes_of(d)) hn::StoreU(hn::Mul(hn::LoadU(d, from + c), scale), d, to + c);
  for (; c < count; ++c) to[c] = from[c] * factor;
}

template <class T>
void pack(T* to, TileRows<const T> from, Index rows, Index cols, T factor) {
  for (Index outer = 0; outer * from.inner < rows; ++outer) {
    for (Index inner = 0; inner < from.inner; ++inner, to += padded(cols)) {
      scale_row(to, from.data + outer * from.outer_stride + inner * from.inner_stride, cols, factor);
      std::fill(to + cols, to + padded(cols), T{0});
    }
  }
}

template <class T>
void unpack(TileRows<T> to, const T* from, Index rows, Index cols, const T* factors) {
  for (Index outer = 0; outer * to.inner < rows; ++outer) {
    for (Index inner = 0; inner < to.inner; ++inner, from += padded(cols), ++factors) {
      scale_row(to.data + outer * to.outer_stride + inner * to.inner_stride, from, cols, *factors);
    }
  }
}

#if HWY_TARGET != HWY_SCALAR
/// Transposes a square of vectors of 16 bytes.
HWY_INLINE void transpose_square(float* to, const float* from, Index stride) {
  const hn::Full128<float> d;
  const auto a = hn::LoadU(d, from), b = hn::LoadU(d, from + stride);
  const auto c = hn::LoadU(d, from + 2 * stride), e = hn::LoadU(d, from + 3 * stride);
  const auto ab_lower = hn::InterleaveLower(d, a, b), ab_upper = hn::InterleaveUpper(d, a, b);
  const auto ce_lower = hn::InterleaveLower(d, c, e), ce_upper = hn::InterleaveUpper(d, c, e);
  hn::StoreU(hn::ConcatLowerLower(d, ce_lower, ab_lower), d, to);
  hn::StoreU(hn::ConcatUpperUpper(d, ce_lower, ab_lower), d, to + kTileKeys);
  hn::StoreU(hn::ConcatLowerLower(d, ce_upper, ab_upper), d, to + 2 * kTileKeys);
  hn::StoreU(hn::ConcatUpperUpper(d, ce_upper, ab_upper), d, to + 3 * kTileKeys);
}
HWY_INLINE void transpose_square(double* to, const double* from, Index stride) {
  const hn::Full128<double> d;
  const auto a = hn::LoadU(d, from), b = hn::LoadU(d, from + stride);
  hn::StoreU(hn::InterleaveLower(d, a, b), d, to);
  hn::StoreU(hn::InterleaveUpper(d, a, b), d, to + kTileKeys);
}

#endif

template <class T>
void pack_transposed(T* to, const T* from, Index stride, Index rows, Index cols) {
#if HWY_TARGET == HWY_SCALAR
  const Index square_rows = 0, square_cols = 0;
#else
  constexpr Index kSide = 16 / sizeof(T);
  const Index square_rows = rows / kSide * kSide, square_cols = cols / kSide * kSide;
  for (Index r = 0; r < square_rows; r += kSide) {
    for (Index c = 0; c < square_cols; c += kSide) {
      transpose_square(to + c * kTileKeys + r, from + r * stride + c, stride);
    }
  }
#endif
  for (Index c = 0; c < cols; ++c) {
    T* out = to + c * kTileKeys;
    for (Index r = c < square_cols ? square_rows : 0; r < rows; ++r) out[r] = from[r * stride + c];
    std::fill(out + rows, out + padded(rows), T{0});
  }
}

template <class T>
void dots(T* out, const T* a, TileRows<const T> b, Index rows, Index cols) {
  const hn::ScalableTag<T> d;
  for (Index outer = 0; outer * b.inner < rows; ++outer) {
    for (Index inner = 0; inner < b.inner; ++inner, a += padded(cols), ++out) {
      const T* row = b.data + outer * b.outer_stride + inner * b.inner_stride;
      auto sum = hn::Zero(d);
      Index c = 0;
      for (; c + lanes_of(d) <= cols; c += lanes_of(d)) {
        sum = hn::MulAdd(hn::LoadU(d, a + c), hn::LoadU(d, row + c), sum);
      }
      *out = hn::GetLane(hn::SumOfLanes(d, sum));
      for (; c < cols; ++c) *out += a[c] * row[c];
    }
  }
}

// A block of M rows and N vectors of c is held in registers: 24 of 32 accumulate with AVX-512, 12 of 16 else.
constexpr int kBlockRows = 6;
constexpr int kBlockVectors = HWY_TARGET == HWY_AVX3 ? 4 : 2;

template <int M, int N, class T>
HWY_INLINE void block(const TileProduct<T>& p, Index row, Index column, Index begin, Index end) {
  const hn::ScalableTag<T> d;
  const Index lanes = lanes_of(d);
  T* c = p.c + row * p.c_stride + column;
  hn::Vec<decltype(d)> sum[M][N];
  HWY_UNROLL(6)
  for (int i = 0; i < M; ++i) {
    HWY_UNROLL(4)
    for (int v = 0; v < N; ++v) sum[i][v] = p.accumulate ? hn::LoadU(d, c + i * p.c_stride + v * lanes) : hn::Zero(d);
  }
  const T* a[M];
  HWY_UNROLL(6)
  for (int i = 0; i < M; ++i) a[i] = p.a + (row + i) * p.a_row + begin * p.a_step;
  const T* b = p.b + begin * p.b_stride + column;
  const Index steps = (end - begin) * p.a_step, step = p.a_step, b_stride = p.b_stride;
  for (Index at = 0; at < steps; at += step, b += b_stride) {
    hn::Vec<decltype(d)> y[N];
    HWY_UNROLL(4)
    for (int v = 0; v < N; ++v) y[v] = hn::LoadU(d, b + v * lanes);
    HWY_UNROLL(6)
    for (int i = 0; i < M; ++i) {
      const auto x = hn::Set(d, a[i][at]);
      HWY_UNROLL(4)
      for (int v = 0; v < N; ++v) sum[i][v] = hn::MulAdd(x, y[v], sum[i][v]);
    }
  }
  HWY_UNROLL(6)
  for (int i = 0; i < M; ++i) {
    HWY_UNROLL(4)
    for (int v = 0; v < N; ++v) hn::StoreU(sum[i][v], d, c + i * p.c_stride + v * lanes);
  }
}

/// The M rows from `row` on, in at most kBlockVectors vectors from `column` on.
template <int M, class T>
HWY_INLINE void block_rows(const TileProduct<T>& p, Index row, Index column) {
  const hn::ScalableTag<T> d;
  const Index last = row + M - 1, lanes = lanes_of(d);
  const Index columns = p.columns == nullptr ? p.n : p.columns[last];
  const Index begin = p.begin == nullptr ? 0 : p.begin[row];
  const Index end = std::max(begin, p.end == nullptr ? p.k : p.end[last]);
  const Index vectors = (columns - column + lanes - 1) / lanes;
  if (vectors <= 0) return;
  if constexpr (kBlockVectors == 4) {
    if (vectors >= 4) return block<M, 4>(p, row, column, begin, end);
    if (vectors == 3) return block<M, 3>(p, row, column, begin, end);
  }
  if (vectors >= 2) return block<M, 2>(p, row, column, begin, end);
  block<M, 1>(p, row, column, begin, end);
}

template <class T>
void product(const TileProduct<T>& p) {
  const hn::ScalableTag<T> d;
  // Columns outside, rows inside: the columns of b stay in the first-level cache.
  for (Index column = 0; column < p.n; column += kBlockVectors * lanes_of(d)) {
    Index row = 0;
    for (; row + kBlockRows <= p.m; row += kBlockRows) block_rows<kBlockRows>(p, row, column);
    for (; row + 2 <= p.m; row += 2) block_rows<2>(p, row, column);
    if (row < p.m) block_rows<1>(p, row, column);
  }
}

template <class T>
void softmax(T* scores, Index rows, Index width, const Index* columns, T* maximum, T* sum, T* out, Index out_width,
             bool first) {
  const hn::ScalableTag<T> d;
  const Index lanes = lanes_of(d);
  const auto lowest = hn::Set(d, -std::numeric_limits<T>::infinity());
  for (Index r = 0; r < rows; ++r, scores += kTileKeys, out += out_width) {
    const Index count = columns[r], whole = count / lanes * lanes;
    if (count == 0) {
      std::fill(scores, scores + padded(width), T{0});
      continue;
    }
    const auto rest = hn::FirstN(d, static_cast<std::size_t>(count - whole));
    auto greatest = lowest;
    for (Index c = 0; c < whole; c += lanes) greatest = hn::Max(greatest, hn::LoadU(d, scores + c));
    if (whole < count) greatest = hn::Max(greatest, hn::IfThenElse(rest, hn::LoadU(d, scores + whole), lowest));
    T top = hn::GetLane(hn::MaxOfLanes(d, greatest));
    T before = 0;
    if (!first) {
      before = sum[r];
      if (top > maximum[r]) {
        const auto factor = hn::Exp(d, hn::Set(d, maximum[r] - top));
        before *= hn::GetLane(factor);
        for (Index c = 0; c < out_width; c += lanes) hn::StoreU(hn::Mul(hn::LoadU(d, out + c), factor), d, out + c);
      } else {
        top = maximum[r];
      }
    }
    maximum[r] = top;
    const auto shift = hn::Set(d, top);
    auto total = hn::Zero(d);
    for (Index c = 0; c < whole; c += lanes) {
      const auto p = hn::Exp(d, hn::Sub(hn::LoadU(d, scores + c), shift));
      total = hn::Add(total, p);
      hn::StoreU(p, d, scores + c);
    }
    if (whole < count) {
      const auto p = hn::IfThenElseZero(rest, hn::Exp(d, hn::Sub(hn::LoadU(d, scores + whole), shift)));
      total = hn::Add(total, p);
      hn::StoreU(p, d, scores + whole);
    }
    std::fill(scores + count, scores + padded(width), T{0});
    sum[r] = before + hn::GetLane(hn::SumOfLanes(d, total));
  }
}

template <class T>
void softmax_gradient(T* scores, T* gradients, Index rows, Index width, const Index* columns, const T* lse,
                      const T* delta) {
  const hn::ScalableTag<T> d;
  const Index lanes = lanes_of(d);
  for (Index r = 0; r < rows; ++r, scores += kTileKeys, gradients += kTileKeys) {
    const auto shift = hn::Set(d, lse[r]), mean = hn::Set(d, delta[r]);
    // Whole vectors; what the row does not see is cleared afterwards, as it may be anything.
    for (Index c = 0; c < columns[r]; c += lanes) {
      const auto p = hn::Exp(d, hn::Sub(hn::LoadU(d, scores + c), shift));
      hn::StoreU(p, d, scores + c);
      hn::StoreU(hn::Mul(p, hn::Sub(hn::LoadU(d, gradients + c), mean)), d, gradients + c);
    }
    std::fill(scores + columns[r], scores + padded(width), T{0});
    std::fill(gradients + columns[r], gradients + padded(width), T{0});
  }
}

template <class T>
constexpr TileOps<T> kOps{pack<T>, pack_transposed<T>, unpack<T>, dots<T>, product<T>, softmax<T>, softmax_gradient<T>};

const TileOps<float>* ops_f32() { return &kOps<float>; }
const TileOps<double>* ops_f64() { return &kOps<double>; }

}  // namespace
}  // namespace unfurl::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace unfurl::kernels {
HWY_EXPORT(ops_f32);
HWY_EXPORT(ops_f64);

template <>
const TileOps<float>& tile_ops() {
  return *HWY_DYNAMIC_DISPATCH(ops_f32)();
}
template <>
const TileOps<double>& tile_ops() {
  return *HWY_DYNAMIC_DISPATCH(ops_f64)();
}

}  // namespace unfurl::kernels
#endif
