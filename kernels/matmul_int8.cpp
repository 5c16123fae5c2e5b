#include "kernels/matmul_int8.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "kernels/blocks.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/matmul_int8.cpp"
#include <hwy/foreach_target.h>  // must come before highway.h
#include <hwy/highway.h>

HWY_BEFORE_NAMESPACE();
namespace unfurl::kernels::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

constexpr int kLanes = static_cast<int>(hn::MaxLanes(hn::ScalableTag<float>()));
static_assert(kInt8Block % kLanes == 0);

/// M rows of a against R rows of b, from row `first` of b on.
template <int M, int R>
HWY_INLINE void block(Matrix<float> c, Matrix<const float> a, ConstInt8Matrix b, Index first, Index k) {
  const hn::ScalableTag<float> d;
  const hn::RebindToSigned<decltype(d)> wide;
  const hn::Rebind<std::int8_t, decltype(d)> narrow;
  const Index blocks = int8_blocks(k), whole = k / kInt8Block;
  const float* left[M];
  const std::int8_t* codes[R];
  const float* scales[R];
  HWY_UNROLL(8)
  for (int i = 0; i < M; ++i) left[i] = a.row(i);
  HWY_UNROLL(8)
  for (int r = 0; r < R; ++r) {
    codes[r] = b.codes + (first + r) * k;
    scales[r] = b.scales + (first + r) * blocks;
  }
  hn::Vec<decltype(d)> sum[M][R];
  HWY_UNROLL(8)
  for (int i = 0; i < M; ++i) {
    HWY_UNROLL(8)
    for (int r = 0; r < R; ++r) sum[i][r] = hn::Zero(d);
  }
  for (Index at = 0; at < whole; ++at) {
    hn::Vec<decltype(d)> part[M][R];
    HWY_UNROLL(8)
    for (int i = 0; i < M; ++i) {
      HWY_UNROLL(8)
      for (int r = 0; r < R; ++r) part[i][r] = hn::Zero(d);
    }
    HWY_UNROLL(8)
    for (int r = 0; r < R; ++r) __builtin_prefetch(codes[r] + at * kInt8Block + R * k);
    for (Index l = at * kInt8Block; l < (at + 1) * kInt8Block; l += kLanes) {
      hn::Vec<decltype(d)> y[R];
      HWY_UNROLL(8)
      for (int r = 0; r < R; ++r) y[r] = hn::ConvertTo(d, hn::PromoteTo(wide, hn::LoadU(narrow, codes[r] + l)));
      HWY_UNROLL(8)
      for (int i = 0; i < M; ++i) {
        const auto x = hn::LoadU(d, left[i] + l);
        HWY_UNROLL(8)
        for (int r = 0; r < R; ++r) part[i][r] = hn::MulAdd(x, y[r], part[i][r]);
      }
    }
    HWY_UNROLL(8)
    for (int r = 0; r < R; ++r) {
      const auto scale = hn::Set(d, scales[r][at]);
      HWY_UNROLL(8)
      for (int i = 0; i < M; ++i) sum[i][r] = hn::MulAdd(part[i][r], scale, sum[i][r]);
    }
  }
  HWY_UNROLL(8)
  for (int i = 0; i < M; ++i) {
    HWY_UNROLL(8)
    for (int r = 0; r < R; ++r) {
      float total = hn::GetLane(hn::SumOfLanes(d, sum[i][r])), rest = 0;
      for (Index l = whole * kInt8Block; l < k; ++l) rest += left[i][l] * static_cast<float>(codes[r][l]);
      if (whole < blocks) total += rest * scales[r][whole];
      c.row(i)[first + r] = total;
    }
  }
}

template <int M, int R>
void columns(Matrix<float> c, Matrix<const float> a, ConstInt8Matrix b, Index first, Index last, Index k) {
  for (; first + R <= last; first += R) block<M, R>(c, a, b, first, k);
  for (; first < last; ++first) block<M, 1>(c, a, b, first, k);
}

/// Columns [first, last) of c.
void few_rows(Matrix<float> c, Matrix<const float> a, ConstInt8Matrix b, Index m, Index first, Index last, Index k) {
  // M * R sums and as many parts live in registers: 32 of them, or 16.
  constexpr bool kMany = HWY_TARGET == HWY_AVX3;
  switch (m) {
    case 1:
      return columns<1, 4>(c, a, b, first, last, k);
    case 2:
      return columns < 2, kMany ? 4 : 2 > (c, a, b, first, last, k);
    case 3:
      return columns < 3, kMany ? 4 : 2 > (c, a, b, first, last, k);
    case 4:
      return columns < 4, kMany ? 3 : 1 > (c, a, b, first, last, k);
    case 5:
      return columns < 5, kMany ? 2 : 1 > (c, a, b, first, last, k);
    case 6:
      return columns < 6, kMany ? 2 : 1 > (c, a, b, first, last, k);
    case 7:
      return columns<7, 1>(c, a, b, first, last, k);
    default:
      return columns<8, 1>(c, a, b, first, last, k);
  }
}

}  // namespace unfurl::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace unfurl::kernels {
namespace {
HWY_EXPORT(few_rows);
}  // namespace

void quantize_int8(const CpuQueue& queue, Int8Matrix to, Matrix<const float> from, Index rows, Index cols) {
  for_row_blocks(queue.pool(), rows, task_rows(cols), [&](Index begin, Index end) {
    for (Index r = begin; r < end; ++r) {
      for (Index block = 0; block < int8_blocks(cols); ++block) {
        const float* x = from.row(r) + block * kInt8Block;
        std::int8_t* codes = to.codes + r * cols + block * kInt8Block;
        const Index count = std::min(kInt8Block, cols - block * kInt8Block);
        float greatest = 0;
        bool finite = true;
        for (Index i = 0; i < count; ++i) {
          finite = finite && std::isfinite(x[i]);
          greatest = std::max(greatest, std::abs(x[i]));
        }
        const float scale = greatest / 127;
        const float inverse = finite && scale > 0 ? 1 / scale : 0;
        for (Index i = 0; i < count; ++i) {
          const float code = finite ? std::nearbyint(x[i] * inverse) : 0;
          codes[i] = static_cast<std::int8_t>(std::clamp(code, -127.0f, 127.0f));
        }
        to.scales[r * int8_blocks(cols) + block] = finite ? scale : std::numeric_limits<float>::quiet_NaN();
      }
    }
  });
}

void matmul_int8(const CpuQueue& queue, Matrix<float> c, Matrix<const float> a, ConstInt8Matrix b, Index m, Index n,
                 Index k) {
  const auto kernel = HWY_DYNAMIC_DISPATCH(few_rows);
  const Index step = std::max<Index>(12, (Index{64} << 10) / std::max<Index>(1, k) / 12 * 12);  // 64 KiB of b
  queue.pool().parallel_for(ceil_div(n, step),
                            [&](Index i) { kernel(c, a, b, m, i * step, std::min((i + 1) * step, n), k); });
}

}  // namespace unfurl::kernels
#endif
