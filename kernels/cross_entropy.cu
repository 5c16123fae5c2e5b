// A block a row. A row that fits is copied into shared memory, asynchronously, where it stays while maximum, sum and
// gradient are made of it: every logit is read once and its gradient written once, 4 bytes a logit in bf16, and the row
// of one block travels while another computes. Wider rows, and those that vectors cannot read, are read twice; of the
// second time the cache has most.
#include "kernels/cross_entropy.h"

#include "kernels/device/reduce.h"
#include "kernels/device/vector.h"

namespace unfurl::kernels {
namespace {

constexpr float kLog2E = 1.4426950408889634f;

template <class T>
struct CrossEntropy {
  float* loss;
  Matrix<T> logits;
  const std::int32_t* targets;
  const float* weight;
  Index cols;
};

/// exp(x - top). A NaN, an infinite logit or a row of nothing but -infinity gives NaN.
UNFURL_DEVICE float power(float x, float top) { return ptx::ex2((x - top) * kLog2E); }

/// Rows of weight 0, without a look at the logits.
template <class T, bool kGradient>
UNFURL_DEVICE void ignore_row(const CrossEntropy<T>& a, Index row) {
  if (threadIdx.x == 0) a.loss[row] = 0;
  if constexpr (kGradient) {
    T* x = a.logits.row(row);
    for (Index c = static_cast<int>(threadIdx.x); c < a.cols; c += static_cast<int>(blockDim.x)) x[c] = T{};
  }
}

constexpr int kThreads = 512;
constexpr Index kSharedBytes = 160 << 10;  // of the widest row that is copied
static_assert(kSharedBytes + 2 * sizeof(BlockScratch) <= 163 * 1024, "one block on a multiprocessor of sm_80");

/// A thread copies, reads and replaces the vectors threadIdx.x, threadIdx.x + blockDim.x, ..., so that it waits for its
/// own copies alone.
template <class T, bool kGradient>
__global__ void __launch_bounds__(kThreads, 3) cross_entropy_kernel(CrossEntropy<T> a) {
  constexpr int kWidth = kVectorSize<T>;
  UNFURL_SHARED(BlockScratch, scratch, [2]);
  UNFURL_DYNAMIC_SHARED(Vector<T>, first_vector);
  Vector<T>* const in = &first_vector;  // [cols / kWidth]
  const int threads = static_cast<int>(blockDim.x), thread = static_cast<int>(threadIdx.x);
  const int vectors = static_cast<int>(a.cols) / kWidth;
  const Index row = blockIdx.x;
  const float weight = a.weight[row];
  if (weight == 0) return ignore_row<T, kGradient>(a, row);  // the whole block
  T* x = a.logits.row(row);
  for (int v = thread; v < vectors; v += threads) ptx::copy_async16(ptx::shared_address(in + v), x + v * kWidth);
  ptx::commit_copies();
  const int target = a.targets[row];
  const float at_target = as_float(x[target]);
  __syncwarp();  // no thread overwrites it before; a block of one warp has no other barrier
  ptx::wait_copies<0>();

  float top = -INFINITY;
  for (int v = thread; v < vectors; v += threads) {
    float values[kWidth];
    in[v].to_floats(values);
#pragma unroll
    for (int i = 0; i < kWidth; ++i) top = fmaxf(top, values[i]);
  }
  top = block_max_once(top, scratch[0]);
  float sum = 0;
  for (int v = thread; v < vectors; v += threads) {
    float values[kWidth];
    in[v].to_floats(values);
#pragma unroll
    for (int i = 0; i < kWidth; ++i) sum += power(values[i], top);
  }
  sum = block_sum_once(sum, scratch[1]);
  if (thread == 0) a.loss[row] = weight * (logf(sum) + (top - at_target));
  if constexpr (kGradient) {
    const float factor = weight / sum;
    for (int v = thread; v < vectors; v += threads) {
      float values[kWidth];
      in[v].to_floats(values);
#pragma unroll
      for (int i = 0; i < kWidth; ++i) values[i] = power(values[i], top) * factor;
      store_vector(x + v * kWidth, Vector<T>::from_floats(values));
      if (target / kWidth == v) x[target] = as<T>(power(at_target, top) * factor - weight);
    }
  }
}

constexpr int kGeneralThreads = 512;
constexpr int kGeneralVectors = 4;  // in flight

/// A vector of logits from column c on; -infinity behind the row.
template <bool kAligned, class T>
UNFURL_DEVICE void load_logits(float (&out)[kVectorSize<T>], const T* x, Index c, Index cols) {
  if (kAligned && c + kVectorSize<T> <= cols) return load_vector(x + c).to_floats(out);
#pragma unroll
  for (int i = 0; i < kVectorSize<T>; ++i) out[i] = c + i < cols ? as_float(x[c + i]) : -INFINITY;
}

/// One pass for maximum and sum, which is corrected whenever a thread's maximum rises, and one for the gradient.
template <class T, bool kGradient, bool kAligned>
__global__ void __launch_bounds__(kGeneralThreads) cross_entropy_general_kernel(CrossEntropy<T> a) {
  constexpr int kWidth = kVectorSize<T>;
  UNFURL_SHARED(BlockScratch, scratch, [2]);
  const int thread = static_cast<int>(threadIdx.x), step = static_cast<int>(blockDim.x) * kWidth;
  const Index row = blockIdx.x;
  const float weight = a.weight[row];
  if (weight == 0) return ignore_row<T, kGradient>(a, row);
  T* x = a.logits.row(row);
  const Index target = a.targets[row];
  const float at_target = as_float(x[target]);
  __syncwarp();

  float mine = -INFINITY, sum = 0;
  for (Index c = thread * kWidth; c < a.cols; c += kGeneralVectors * step) {
    float values[kGeneralVectors][kWidth];
#pragma unroll
    for (int v = 0; v < kGeneralVectors; ++v) load_logits<kAligned>(values[v], x, c + v * step, a.cols);
    float higher = mine;
#pragma unroll
    for (int v = 0; v < kGeneralVectors; ++v) {
#pragma unroll
      for (int i = 0; i < kWidth; ++i) higher = fmaxf(higher, values[v][i]);
    }
    if (higher > mine) {
      sum *= power(mine, higher);
      mine = higher;
    }
    const float shift = mine == -INFINITY ? 0.0f : mine;  // -infinity is worth 0 while there is nothing greater
#pragma unroll
    for (int v = 0; v < kGeneralVectors; ++v) {
#pragma unroll
      for (int i = 0; i < kWidth; ++i) sum += power(values[v][i], shift);
    }
  }
  const float top = block_max_once(mine, scratch[0]);
  sum = block_sum_once(mine == -INFINITY ? sum : sum * power(mine, top), scratch[1]);
  if (thread == 0) a.loss[row] = weight * (logf(sum) + (top - at_target));
  if constexpr (kGradient) {
    const float factor = weight / sum;
    for (Index c = thread * kWidth; c < a.cols; c += step) {
      float values[kWidth];
      load_logits<kAligned>(values, x, c, a.cols);
#pragma unroll
      for (int i = 0; i < kWidth; ++i) values[i] = power(values[i], top) * factor;
      if (kAligned && c + kWidth <= a.cols) {
        store_vector(x + c, Vector<T>::from_floats(values));
      } else {
        store_some(x + c, values, static_cast<int>(a.cols - c < kWidth ? a.cols - c : kWidth));
      }
      if (c <= target && target < c + kWidth) x[target] = as<T>(power(at_target, top) * factor - weight);
    }
  }
}

template <class T, bool kGradient>
void run(const DeviceQueue& queue, const CrossEntropy<T>& a, Index rows) {
  const bool aligned = vector_aligned(a.logits.data, rows == 1 ? 0 : a.logits.stride);
  // Four vectors a thread, and more where that would be too many threads.
  const Index bytes = a.cols * static_cast<Index>(sizeof(T)), wanted = (bytes / 64 + 31) / 32 * 32;
  const dim3 grid(static_cast<unsigned>(rows));
  const auto threads = [&](Index most) { return dim3(static_cast<unsigned>(wanted < 32 ? 32 : min(wanted, most))); };
  if (aligned && bytes % 16 == 0 && bytes <= kSharedBytes) {
    launch(queue, cross_entropy_kernel<T, kGradient>, grid, threads(kThreads), static_cast<std::size_t>(bytes), a);
  } else {
    launch(
        queue,
        aligned ? cross_entropy_general_kernel<T, kGradient, true> : cross_entropy_general_kernel<T, kGradient, false>,
        grid, threads(kGeneralThreads), 0, a);
  }
}

}  // namespace

template <class Queue, class T>
void cross_entropy(const Queue& queue, Accumulator<T>* loss, Matrix<T> logits, const std::int32_t* targets,
                   const Accumulator<T>* weight, bool gradient, Index rows, Index cols) {
  const CrossEntropy<T> a{loss, logits, targets, weight, cols};
  gradient ? run<T, true>(queue, a, rows) : run<T, false>(queue, a, rows);
}

#define UNFURL_INSTANTIATE(T)                                                                                        \
  template void cross_entropy(const DeviceQueue&, float*, Matrix<T>, const std::int32_t*, const float*, bool, Index, \
                              Index);
UNFURL_INSTANTIATE(float)
UNFURL_INSTANTIATE(bf16)
#undef UNFURL_INSTANTIATE

}  // namespace unfurl::kernels
