#include "kernels/soft_prompt.h"

#include <cstring>

#include "kernels/blocks.h"

namespace unfurl::kernels {

template <class Queue, class T>
void soft_prompt_forward(const Queue& queue, Matrix<T> y, const T* prompt, const std::int32_t* cu_seqlens,
                         Index documents, Index rows, Index cols) {
  queue.pool().parallel_for(documents, [&](Index d) {
    const Index first = cu_seqlens[d];
    if (cu_seqlens[d + 1] - first < rows) return;
    for (Index i = 0; i < rows; ++i) {
      std::memcpy(y.row(first + i), prompt + i * cols, static_cast<std::size_t>(cols) * sizeof(T));
    }
  });
}

template <class Queue, class T>
void soft_prompt_backward(const Queue& queue, Accumulator<T>* dprompt, Matrix<const T> dy,
                          const std::int32_t* cu_seqlens, Index documents, Index rows, Index cols) {
  queue.pool().parallel_for(rows, [&](Index i) {
    Accumulator<T>* const sum = dprompt + i * cols;
    for (Index d = 0; d < documents; ++d) {
      const Index first = cu_seqlens[d];
      if (cu_seqlens[d + 1] - first < rows) continue;
      const T* const row = dy.row(first + i);
      for (Index c = 0; c < cols; ++c) sum[c] += row[c];
    }
  });
}

#define UNFURL_INSTANTIATE(T)                                                                                        \
  template void soft_prompt_forward(const CpuQueue&, Matrix<T>, const T*, const std::int32_t*, Index, Index, Index); \
  template void soft_prompt_backward(const CpuQueue&, T*, Matrix<const T>, const std::int32_t*, Index, Index, Index);
UNFURL_INSTANTIATE(float)
UNFURL_INSTANTIATE(double)
#undef UNFURL_INSTANTIATE

}  // namespace unfurl::kernels
