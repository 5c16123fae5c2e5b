// A sum in double by one block, in an order that the count alone fixes.
#include "kernels/sum.h"

#include "kernels/device/device.h"

namespace unfurl::kernels {
namespace {

constexpr int kThreads = 256;

/// One block: thread t sums elements t, t + kThreads, ...; then halves of the threads are folded onto each other.
__global__ void __launch_bounds__(kThreads) sum_kernel(float* total, const float* x, Index count) {
  UNFURL_SHARED(double, sums, [kThreads]);
  const int thread = static_cast<int>(threadIdx.x);
  double own = 0;
  for (Index i = thread; i < count; i += kThreads) own += static_cast<double>(x[i]);
  sums[thread] = own;
  __syncthreads();
  for (int half = kThreads / 2; half > 0; half /= 2) {
    if (thread < half) sums[thread] += sums[thread + half];
    __syncthreads();
  }
  if (thread == 0) *total = static_cast<float>(sums[0]);
}

}  // namespace

template <class Queue, class A>
void sum(const Queue& queue, A* total, const A* x, Index count) {
  launch(queue, sum_kernel, dim3(1), dim3(kThreads), 0, total, x, count);
}

template void sum(const DeviceQueue&, float*, const float*, Index);

}  // namespace unfurl::kernels
