// Where packed documents lie in matrices of different row strides, and what lies behind the last of them.
#pragma once
#include "kernels/queue.h"

namespace unfurl::kernels {

constexpr int kRaggedMatrices = 10;

/// Row strides in elements, of up to kRaggedMatrices matrices.
struct RaggedStrides {
  Index values[kRaggedMatrices] = {};
  int count = 0;
};

/// lengths[d] = cu_seqlens[d + 1] - cu_seqlens[d], d in [0, documents);
/// offsets[i * pitch + d] = cu_seqlens[d] * strides[i], i in [0, count), d in [0, documents].
/// Overwrites both. pitch > documents.
template <class Queue>
void ragged_offsets(const Queue& queue, std::int64_t* offsets, Index pitch, std::int32_t* lengths,
                    const std::int32_t* cu_seqlens, Index documents, const RaggedStrides& strides);

/// x[r,:] = 0 for the rows r in [cu_seqlens[documents], tokens), which are padding. x: [tokens, cols] of T.
template <class Queue, class T>
void clear_padding(const Queue& queue, Matrix<T> x, const std::int32_t* cu_seqlens, Index documents, Index tokens,
                   Index cols);

}  // namespace unfurl::kernels
