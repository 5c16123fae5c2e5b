// Token embedding: a row of the table for each token.
//
//   y[t,:] = table[ids[t],:]
//
// ids: [tokens], each in [0, vocab).  table: [vocab, cols] of T.  y: [tokens, cols] of T.
#pragma once
#include "kernels/queue.h"

namespace unfurl::kernels {

/// Overwrites y.
template <class Queue, class T>
void embedding_forward(const Queue& queue, Matrix<T> y, const std::int32_t* ids, const T* table, Index tokens,
                       Index cols);

/// Adds to dtable. `order` lists the tokens sorted by id, equal ids in order of position: the rows of one id are summed
/// in that order, so the result is deterministic.
template <class Queue, class T>
void embedding_backward(const Queue& queue, Accumulator<T>* dtable, Matrix<const T> dy, const std::int32_t* ids,
                        const std::int32_t* order, Index tokens, Index cols);

}  // namespace unfurl::kernels
