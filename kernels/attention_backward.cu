#include "kernels/attention.cuh"
#include "kernels/attention_general.cuh"

namespace unfurl::kernels {

template <class Queue, class T>
void attention_backward(const Queue& queue, Matrix<T> dq, Matrix<T> dk, Matrix<T> dv, Matrix<const T> dout,
                        Matrix<const T> out, const Accumulator<T>* lse, Matrix<const T> q, Matrix<const T> k,
                        Matrix<const T> v, const std::int32_t* cu_seqlens, const std::int32_t* prefix_lengths,
                        const AttentionShape& shape) {
  if (shape.tokens == 0) return;
  const Sizes sizes = sizes_of(shape, cu_seqlens, prefix_lengths);
  float* delta =
      static_cast<float*>(queue.scratch(static_cast<std::size_t>(shape.heads * shape.tokens) * sizeof(float)));
  general_backward<T>(queue, {dq, dk, dv, dout, out, lse, delta, q, k, v, sizes});
}

#define UNFURL_INSTANTIATE(T)                                                                                        \
  template void attention_backward(const DeviceQueue&, Matrix<T>, Matrix<T>, Matrix<T>, Matrix<const T>,             \
                                   Matrix<const T>, const float*, Matrix<const T>, Matrix<const T>, Matrix<const T>, \
                                   const std::int32_t*, const std::int32_t*, const AttentionShape&);
UNFURL_INSTANTIATE(float)
UNFURL_INSTANTIATE(bf16)
#undef UNFURL_INSTANTIATE

}  // namespace unfurl::kernels
