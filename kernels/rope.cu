// A thread turns the same dimensions of several heads of a token, so that it reads their angles once, from a table that
// the host has computed.
#include "kernels/rope.h"

#include <cmath>

#include "kernels/map.cuh"

namespace unfurl::kernels {
namespace {

constexpr int kThreads = 256;
constexpr int kHeads = 4;  // of a token that a thread turns, by the same angles

template <class T>
struct Rope {
  Matrix<T> y;
  Matrix<const T> x;
  const std::int32_t* positions;
  const float* table;
  Index tokens;
  int heads, head_dim;
  float sign;
};

/// A thread has kWidth dimensions (and as many of the other half) of kHeads heads of a token.
template <class T, bool kAligned>
__global__ void __launch_bounds__(kThreads) rope_kernel(Rope<T> a) {
  constexpr int kWidth = kVectorSize<T>;
  const int half = a.head_dim / 2, pieces = (half + kWidth - 1) / kWidth, groups = (a.heads + kHeads - 1) / kHeads;
  const Index i = Index{blockIdx.x} * kThreads + static_cast<int>(threadIdx.x);
  const Index token = quotient(i, pieces * groups);
  if (token >= a.tokens) return;
  const int rest = static_cast<int>(i - token * (pieces * groups)), group = rest / pieces;
  const int first = (rest - group * pieces) * kWidth, count = half - first < kWidth ? half - first : kWidth;
  const float* angles = a.table + Index{a.positions[token]} * a.head_dim + first;
  const T* x = a.x.row(token) + first;
  T* y = a.y.row(token) + first;

  Elements<T> low[kHeads], high[kHeads];
#pragma unroll
  for (int h = 0; h < kHeads; ++h) {
    const int head = group * kHeads + h;
    if (head >= a.heads) continue;
    low[h] = load_elements<kAligned, kWidth>(x + head * a.head_dim, count);
    high[h] = load_elements<kAligned, kWidth>(x + head * a.head_dim + half, count);
  }
  float cosine[kWidth], sine[kWidth];
  load_elements<kAligned, kWidth>(angles, count).to_floats(cosine);
  load_elements<kAligned, kWidth>(angles + half, count).to_floats(sine);
#pragma unroll
  for (int k = 0; k < kWidth; ++k) sine[k] *= a.sign;
#pragma unroll
  for (int h = 0; h < kHeads; ++h) {
    const int head = group * kHeads + h;
    if (head >= a.heads) continue;
    float p[kWidth], q[kWidth], out[kWidth];
    low[h].to_floats(p);
    high[h].to_floats(q);
#pragma unroll
    for (int k = 0; k < kWidth; ++k) out[k] = p[k] * cosine[k] - q[k] * sine[k];
    store_elements<kAligned>(y + head * a.head_dim, out, count);
#pragma unroll
    for (int k = 0; k < kWidth; ++k) out[k] = p[k] * sine[k] + q[k] * cosine[k];
    store_elements<kAligned>(y + head * a.head_dim + half, out, count);
  }
}

}  // namespace

// Once for a model: on the host, so that every backend has the same table.
template <class Queue, class A>
void rope_table(const Queue& queue, A* table, Index max_position, Index head_dim, double base) {
  const std::size_t bytes = static_cast<std::size_t>(max_position * head_dim) * sizeof(A);
  if (bytes == 0) return;
  auto* host = static_cast<A*>(Queue::allocate_host(bytes));
  const Index half = head_dim / 2;
  for (Index i = 0; i < half; ++i) {
    const double rate = std::pow(base, -2.0 * static_cast<double>(i) / static_cast<double>(head_dim));
    for (Index p = 0; p < max_position; ++p) {
      const double angle = static_cast<double>(p) * rate;
      host[p * head_dim + i] = static_cast<A>(std::cos(angle));
      host[p * head_dim + half + i] = static_cast<A>(std::sin(angle));
    }
  }
  queue.copy(table, host, bytes);
  queue.synchronize();
  Queue::free_host(host);
}

template <class Queue, class T>
void rope(const Queue& queue, Matrix<T> y, Matrix<const T> x, const std::int32_t* positions,
          const Accumulator<T>* table, Index tokens, Index heads, Index head_dim, bool inverse) {
  if (tokens == 0 || heads == 0) return;
  constexpr int kWidth = kVectorSize<T>;
  const Index half = head_dim / 2;
  const Index threads = tokens * ((half + kWidth - 1) / kWidth) * ((heads + kHeads - 1) / kHeads);
  const bool aligned = half % kWidth == 0 && vector_aligned(y.data, tokens == 1 ? 0 : y.stride) &&
                       vector_aligned(x.data, tokens == 1 ? 0 : x.stride) && vector_aligned(table, 0);
  launch(queue, aligned ? rope_kernel<T, true> : rope_kernel<T, false>,
         dim3(static_cast<unsigned>((threads + kThreads - 1) / kThreads)), dim3(kThreads), 0,
         Rope<T>{y, x, positions, table, tokens, static_cast<int>(heads), static_cast<int>(head_dim),
                 inverse ? -1.0f : 1.0f});
}

template void rope_table(const DeviceQueue&, float*, Index, Index, double);
#define UNFURL_INSTANTIATE(T)                                                                                         \
  template void rope(const DeviceQueue&, Matrix<T>, Matrix<const T>, const std::int32_t*, const float*, Index, Index, \
                     Index, bool);
UNFURL_INSTANTIATE(float)
UNFURL_INSTANTIATE(bf16)
#undef UNFURL_INSTANTIATE

}  // namespace unfurl::kernels
