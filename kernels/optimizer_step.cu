// Before the update: the gradient's sum of squares, one partial sum in double a block of a fixed number of elements;
// then one block adds them in order and decides, on the device, on clipping, skipping and bias correction.
#include "kernels/optimizer_step.h"

#include "kernels/device/reduce.h"
#include "kernels/device/vector.h"

namespace unfurl::kernels {
namespace {

constexpr int kThreads = 256;
constexpr int kInFlight = 4;  // vectors

/// A block of threads a partial sum.
template <class T, bool kAligned>
__global__ void __launch_bounds__(kThreads) squares_kernel(double* partials, const T* x, Index count) {
  constexpr int kWidth = kVectorSize<T>, kStep = kThreads * kWidth;
  UNFURL_SHARED(DoubleScratch, scratch, [1]);
  const Index first = Index{blockIdx.x} * kNormBlock;
  const int length = static_cast<int>(count - first < kNormBlock ? count - first : kNormBlock);
  double sum = 0;
  for (int i = static_cast<int>(threadIdx.x) * kWidth; i < length; i += kInFlight * kStep) {
    Vector<T> in[kInFlight];
#pragma unroll
    for (int v = 0; v < kInFlight; ++v) {
      const int at = i + v * kStep;
      in[v].bits = make_uint4(0, 0, 0, 0);
      if (kAligned && at + kWidth <= length) {
        in[v] = load_vector(x + first + at);
      } else if (at < length) {
        float values[kWidth];
        load_some(values, x + first + at, length - at);
        in[v] = Vector<T>::from_floats(values);
      }
    }
#pragma unroll
    for (int v = 0; v < kInFlight; ++v) {
      float values[kWidth];
      in[v].to_floats(values);
#pragma unroll
      for (int k = 0; k < kWidth; ++k) sum += static_cast<double>(values[k]) * static_cast<double>(values[k]);
    }
  }
  sum = block_sum_once(sum, scratch[0]);
  if (threadIdx.x == 0) partials[blockIdx.x] = sum;
}

__global__ void __launch_bounds__(kThreads)
    begin_step_kernel(OptimizerStep* step, const double* partials, Index count, StepPolicy policy) {
  UNFURL_SHARED(DoubleScratch, scratch, [1]);
  double sum = 0;
  for (Index i = static_cast<int>(threadIdx.x); i < count; i += kThreads) sum += partials[i];
  sum = block_sum_once(sum, scratch[0]);
  if (threadIdx.x != 0) return;
  const double norm = sqrt(sum);
  step->norm = norm;
  step->gradient_scale =
      static_cast<float>(policy.clip_norm > 0 && norm > policy.clip_norm ? policy.clip_norm / norm : 1.0);
  const bool skip = !(norm < INFINITY) || norm > step->skip_norm;
  step->skip = skip ? 1 : 0;
  if (skip) {
    ++step->skipped;
    return;
  }
  const double steps = static_cast<double>(++step->steps);
  step->rate = static_cast<float>(step->learning_rate / (1 - pow(policy.beta1, steps)));
  step->deviation = static_cast<float>(1 / sqrt(1 - pow(policy.beta2, steps)));
}

}  // namespace

template <class Queue, class T>
void sum_squares_of_blocks(const Queue& queue, double* partials, const T* x, Index count) {
  launch(queue, vector_aligned(x, 0) ? squares_kernel<T, true> : squares_kernel<T, false>,
         dim3(static_cast<unsigned>(norm_blocks(count))), dim3(kThreads), 0, partials, x, count);
}

template <class Queue>
void begin_step(const Queue& queue, OptimizerStep* step, const double* partials, Index count,
                const StepPolicy& policy) {
  launch(queue, begin_step_kernel, dim3(1), dim3(kThreads), 0, step, partials, count, policy);
}

template void sum_squares_of_blocks(const DeviceQueue&, double*, const float*, Index);
template void sum_squares_of_blocks(const DeviceQueue&, double*, const bf16*, Index);
template void begin_step(const DeviceQueue&, OptimizerStep*, const double*, Index, const StepPolicy&);

}  // namespace unfurl::kernels
