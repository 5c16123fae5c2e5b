// A thread for each document writes its starts and its length; a block for each row of padding clears it.
#include "kernels/ragged.h"

#include "kernels/device/vector.h"

namespace unfurl::kernels {
namespace {

constexpr int kThreads = 128;

__global__ void __launch_bounds__(kThreads)
    ragged_offsets_kernel(std::int64_t* offsets, Index pitch, std::int32_t* lengths, const std::int32_t* cu_seqlens,
                          Index documents, RaggedStrides strides) {
  const Index d = Index{blockIdx.x} * kThreads + static_cast<int>(threadIdx.x);
  if (d > documents) return;
  const std::int32_t start = cu_seqlens[d];
  if (d < documents) lengths[d] = cu_seqlens[d + 1] - start;
#pragma unroll
  for (int i = 0; i < kRaggedMatrices; ++i) {
    if (i < strides.count) offsets[i * pitch + d] = start * strides.values[i];
  }
}

template <class T>
__global__ void __launch_bounds__(kThreads)
    clear_padding_kernel(Matrix<T> x, const std::int32_t* cu_seqlens, Index documents, Index cols) {
  const Index row = blockIdx.x;
  if (row < cu_seqlens[documents]) return;
  for (Index c = static_cast<int>(threadIdx.x); c < cols; c += kThreads) x.row(row)[c] = T{};
}

}  // namespace

template <class Queue>
void ragged_offsets(const Queue& queue, std::int64_t* offsets, Index pitch, std::int32_t* lengths,
                    const std::int32_t* cu_seqlens, Index documents, const RaggedStrides& strides) {
  launch(queue, ragged_offsets_kernel, dim3(static_cast<unsigned>(documents / kThreads + 1)), dim3(kThreads), 0,
         offsets, pitch, lengths, cu_seqlens, documents, strides);
}

template <class Queue, class T>
void clear_padding(const Queue& queue, Matrix<T> x, const std::int32_t* cu_seqlens, Index documents, Index tokens,
                   Index cols) {
  if (tokens == 0 || cols == 0) return;
  launch(queue, clear_padding_kernel<T>, dim3(static_cast<unsigned>(tokens)), dim3(kThreads), 0, x, cu_seqlens,
         documents, cols);
}

template void ragged_offsets(const DeviceQueue&, std::int64_t*, Index, std::int32_t*, const std::int32_t*, Index,
                             const RaggedStrides&);
template void clear_padding(const DeviceQueue&, Matrix<float>, const std::int32_t*, Index, Index, Index);
template void clear_padding(const DeviceQueue&, Matrix<bf16>, const std::int32_t*, Index, Index, Index);

}  // namespace unfurl::kernels
