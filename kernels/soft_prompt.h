// Soft prompt (Lester et al., 2021): the first rows of every packed document are those of a table that is trained.
//
//   y[cu_seqlens[d] + i,:] = prompt[i,:],   i in [0, rows), for each document d of at least `rows` rows
//
// prompt: [rows, cols] of T.  y: [tokens, cols] of T.  cu_seqlens: [documents + 1]: document d has the rows [d] to
// [d + 1]. Other rows, and shorter (empty) documents, are left alone. Deterministic.
#pragma once
#include "kernels/queue.h"

namespace unfurl::kernels {

/// Overwrites those rows of y.
template <class Queue, class T>
void soft_prompt_forward(const Queue& queue, Matrix<T> y, const T* prompt, const std::int32_t* cu_seqlens,
                         Index documents, Index rows, Index cols);

/// Adds the documents' rows, in their order, to dprompt.
template <class Queue, class T>
void soft_prompt_backward(const Queue& queue, Accumulator<T>* dprompt, Matrix<const T> dy,
                          const std::int32_t* cu_seqlens, Index documents, Index rows, Index cols);

}  // namespace unfurl::kernels
