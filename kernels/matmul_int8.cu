// Products: a warp has kColumns rows of b and reads them once, sixteen codes at a time, some of each in flight; a,
// which is small, comes from the cache as often as it is needed. A lane sums its own codes in order, with their scale,
// then the warp sums its lanes. Rounding: a warp has a block of 64 elements, a lane two of them.
#include "kernels/matmul_int8.h"

#include "kernels/device/reduce.h"
#include "kernels/device/vector.h"

namespace unfurl::kernels {
namespace {

constexpr int kThreads = 128;
constexpr int kWarps = kThreads / 32;
constexpr int kColumns = 2;
constexpr int kCodes = 16;  // of a load
static_assert(kInt8Block % kCodes == 0, "the codes of a load have one scale");
static_assert(kInt8Block == 64, "a lane rounds two");

template <class T, class C>
struct Int8Product {
  Matrix<C> c;
  Matrix<const T> a;
  ConstInt8Matrix b;
  int m;
  Index n, k;
};

/// Of sixteen codes the first `count`; zeros for the rest.
template <bool kAligned>
UNFURL_DEVICE uint4 load_codes(const std::int8_t* from, Index count) {
  if (kAligned && count >= kCodes) return load_vector(from).bits;
  unsigned words[4] = {};
#pragma unroll
  for (int i = 0; i < kCodes; ++i) {
    if (i < count) words[i / 4] |= static_cast<unsigned>(static_cast<std::uint8_t>(from[i])) << (i % 4 * 8);
  }
  return {words[0], words[1], words[2], words[3]};
}

UNFURL_DEVICE void to_floats(float (&out)[kCodes], const uint4& codes) {
  const unsigned words[4] = {codes.x, codes.y, codes.z, codes.w};
#pragma unroll
  for (int i = 0; i < kCodes; ++i) out[i] = static_cast<float>(static_cast<std::int8_t>(words[i / 4] >> (i % 4 * 8)));
}

/// As many elements of a row of a as there are codes in a load.
template <bool kAligned, class T>
UNFURL_DEVICE void load_row(float (&out)[kCodes], const T* from, Index count) {
  constexpr int kWidth = kVectorSize<T>;
#pragma unroll
  for (int part = 0; part < kCodes / kWidth; ++part) {
    float values[kWidth];
    const Index left = count - part * kWidth;
    if (kAligned && left >= kWidth) {
      load_vector(from + part * kWidth).to_floats(values);
    } else {
      load_some(values, from + part * kWidth, static_cast<int>(left < 0 ? 0 : left));
    }
#pragma unroll
    for (int i = 0; i < kWidth; ++i) out[part * kWidth + i] = values[i];
  }
}

/// m <= kRows.
template <class T, class C, int kRows, bool kAligned>
__global__ void __launch_bounds__(kThreads) int8_kernel(Int8Product<T, C> x) {
  constexpr int kInFlight = kRows > 2 ? 2 : 4;
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const Index first = (Index{blockIdx.x} * kWarps + static_cast<int>(threadIdx.x) / 32) * kColumns;
  if (first >= x.n) return;  // whole warps
  const Index blocks = int8_blocks(x.k);
  float sums[kRows][kColumns] = {};
  for (Index at = lane * kCodes; at < x.k; at += 32 * kCodes * kInFlight) {
    uint4 codes[kInFlight][kColumns];
    float scales[kInFlight][kColumns];
#pragma unroll
    for (int v = 0; v < kInFlight; ++v) {
      const Index i = at + v * 32 * kCodes;
#pragma unroll
      for (int j = 0; j < kColumns; ++j) {
        const Index row = first + j < x.n ? first + j : first;
        codes[v][j] = load_codes<kAligned>(x.b.codes + row * x.k + i, x.k - i);
        scales[v][j] = i < x.k ? x.b.scales[row * blocks + i / kInt8Block] : 0.0f;
      }
    }
#pragma unroll
    for (int v = 0; v < kInFlight; ++v) {
      const Index i = at + v * 32 * kCodes;
      float right[kColumns][kCodes];
#pragma unroll
      for (int j = 0; j < kColumns; ++j) to_floats(right[j], codes[v][j]);
#pragma unroll
      for (int r = 0; r < kRows; ++r) {
        if (r >= x.m) continue;
        float left[kCodes], parts[kColumns] = {};
        load_row<kAligned>(left, x.a.row(r) + i, x.k - i);
#pragma unroll
        for (int e = 0; e < kCodes; ++e) {
#pragma unroll
          for (int j = 0; j < kColumns; ++j) parts[j] += left[e] * right[j][e];
        }
#pragma unroll
        for (int j = 0; j < kColumns; ++j) sums[r][j] += parts[j] * scales[v][j];
      }
    }
  }
#pragma unroll
  for (int r = 0; r < kRows; ++r) {
#pragma unroll
    for (int j = 0; j < kColumns; ++j) {
      if (r >= x.m) continue;  // the whole grid
      const float sum = warp_sum(sums[r][j]);
      if (lane == 0 && first + j < x.n) x.c.row(r)[first + j] = as<C>(sum);
    }
  }
}

template <class T>
__global__ void __launch_bounds__(kThreads)
    quantize_kernel(Int8Matrix to, Matrix<const T> from, Index rows, Index cols) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const Index blocks = int8_blocks(cols), warp = Index{blockIdx.x} * kWarps + static_cast<int>(threadIdx.x) / 32;
  if (warp >= rows * blocks) return;  // whole warps
  const Index row = warp / blocks, first = warp % blocks * kInt8Block + lane;
  float values[2], greatest = 0, infinite = 0;
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    values[i] = first + 32 * i < cols ? as_float(from.row(row)[first + 32 * i]) : 0.0f;
    const float size = fabsf(values[i]);
    if (size <= 3.4028235e38f) {
      greatest = fmaxf(greatest, size);
    } else {  // NaN too
      infinite = 1;
    }
  }
  const bool finite = warp_max(infinite) == 0;
  const float scale = warp_max(greatest) / 127;
  const float inverse = finite && scale > 0 ? 1 / scale : 0;
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    if (first + 32 * i >= cols) continue;
    const float code = finite ? fminf(fmaxf(rintf(values[i] * inverse), -127.0f), 127.0f) : 0;
    to.codes[row * cols + first + 32 * i] = static_cast<std::int8_t>(code);
  }
  if (lane == 0) to.scales[warp] = finite ? scale : __uint_as_float(0x7fc00000u);
}

template <class T, class C, int kRows>
void run(const DeviceQueue& queue, const Int8Product<T, C>& x) {
  const bool aligned = vector_aligned(x.a.data, x.m == 1 ? 0 : x.a.stride) && vector_aligned(x.b.codes, x.k);
  constexpr Index kBlock = kWarps * kColumns;
  launch(queue, aligned ? int8_kernel<T, C, kRows, true> : int8_kernel<T, C, kRows, false>,
         dim3(static_cast<unsigned>((x.n + kBlock - 1) / kBlock)), dim3(kThreads), 0, x);
}

}  // namespace

template <class Queue, class T>
void quantize_int8(const Queue& queue, Int8Matrix to, Matrix<const T> from, Index rows, Index cols) {
  const Index warps = rows * int8_blocks(cols);
  if (warps <= 0) return;
  launch(queue, quantize_kernel<T>, dim3(static_cast<unsigned>((warps + kWarps - 1) / kWarps)), dim3(kThreads), 0, to,
         from, rows, cols);
}

template <class Queue, class T, class C>
void matmul_int8(const Queue& queue, Matrix<C> c, Matrix<const T> a, ConstInt8Matrix b, Index m, Index n, Index k) {
  const Int8Product<T, C> x{c, a, b, static_cast<int>(m), n, k};
  if (m == 1) return run<T, C, 1>(queue, x);
  if (m == 2) return run<T, C, 2>(queue, x);
  if (m <= 4) return run<T, C, 4>(queue, x);
  run<T, C, 8>(queue, x);
}

template void quantize_int8(const DeviceQueue&, Int8Matrix, Matrix<const float>, Index, Index);
template void quantize_int8(const DeviceQueue&, Int8Matrix, Matrix<const bf16>, Index, Index);
#define UNFURL_INSTANTIATE(T, C) \
  template void matmul_int8(const DeviceQueue&, Matrix<C>, Matrix<const T>, ConstInt8Matrix, Index, Index, Index);
UNFURL_INSTANTIATE(float, float)
UNFURL_INSTANTIATE(bf16, bf16)
UNFURL_INSTANTIATE(bf16, float)
#undef UNFURL_INSTANTIATE

}  // namespace unfurl::kernels
