// Both passes have a thread for each number of the prompt: neighbours read and write neighbours, and backward sums over
// the documents in a register, in their order.
#include "kernels/soft_prompt.h"

#include "kernels/device/vector.h"

namespace unfurl::kernels {
namespace {

constexpr int kThreads = 128;   // of a block, along the columns
constexpr int kDocuments = 16;  // of a block's forward pass

template <class T>
__global__ void __launch_bounds__(kThreads)
    soft_prompt_forward_kernel(Matrix<T> y, const T* prompt, const std::int32_t* cu_seqlens, Index documents,
                               Index rows, Index cols) {
  const Index i = blockIdx.x, first = Index{blockIdx.y} * kDocuments;
  const Index col = Index{blockIdx.z} * kThreads + static_cast<int>(threadIdx.x);
  if (col >= cols) return;
  const T value = prompt[i * cols + col];
  const Index end = first + kDocuments < documents ? first + kDocuments : documents;
  for (Index d = first; d < end; ++d) {
    const Index start = cu_seqlens[d];
    if (cu_seqlens[d + 1] - start >= rows) y.row(start + i)[col] = value;
  }
}

template <class T>
__global__ void __launch_bounds__(kThreads)
    soft_prompt_backward_kernel(float* dprompt, Matrix<const T> dy, const std::int32_t* cu_seqlens, Index documents,
                                Index rows, Index cols) {
  const Index i = blockIdx.x;
  const Index col = Index{blockIdx.z} * kThreads + static_cast<int>(threadIdx.x);
  if (col >= cols) return;
  float sum = dprompt[i * cols + col];
  for (Index d = 0; d < documents; ++d) {
    const Index start = cu_seqlens[d];
    if (cu_seqlens[d + 1] - start >= rows) sum += as_float(dy.row(start + i)[col]);
  }
  dprompt[i * cols + col] = sum;
}

dim3 blocks(Index rows, Index documents, Index cols) {
  return dim3(static_cast<unsigned>(rows), static_cast<unsigned>((documents + kDocuments - 1) / kDocuments),
              static_cast<unsigned>((cols + kThreads - 1) / kThreads));
}

}  // namespace

template <class Queue, class T>
void soft_prompt_forward(const Queue& queue, Matrix<T> y, const T* prompt, const std::int32_t* cu_seqlens,
                         Index documents, Index rows, Index cols) {
  if (rows == 0 || documents == 0 || cols == 0) return;
  launch(queue, soft_prompt_forward_kernel<T>, blocks(rows, documents, cols), dim3(kThreads), 0, y, prompt, cu_seqlens,
         documents, rows, cols);
}

template <class Queue, class T>
void soft_prompt_backward(const Queue& queue, Accumulator<T>* dprompt, Matrix<const T> dy,
                          const std::int32_t* cu_seqlens, Index documents, Index rows, Index cols) {
  if (rows == 0 || documents == 0 || cols == 0) return;
  launch(queue, soft_prompt_backward_kernel<T>, blocks(rows, 1, cols), dim3(kThreads), 0, dprompt, dy, cu_seqlens,
         documents, rows, cols);
}

#define UNFURL_INSTANTIATE(T)                                                                                        \
  template void soft_prompt_forward(const DeviceQueue&, Matrix<T>, const T*, const std::int32_t*, Index, Index,      \
                                    Index);                                                                          \
  template void soft_prompt_backward(const DeviceQueue&, float*, Matrix<const T>, const std::int32_t*, Index, Index, \
                                     Index);
UNFURL_INSTANTIATE(float)
UNFURL_INSTANTIATE(bf16)
#undef UNFURL_INSTANTIATE

}  // namespace unfurl::kernels
