// Softmax cross-entropy with its gradient in one read of the logits.
//
//   loss[r] = weight[r] * (logsumexp_c(logits[r,c]) - logits[r, target[r]])
//   logits[r,c] <- weight[r] * (softmax(logits[r,:])[c] - (c == target[r]))      (only where `gradient`)
//
// logits: [rows, cols] of T.  targets: [rows], each in [0, cols).  loss, weight: [rows] of Accumulator<T>.
// Rows of weight 0 have loss 0 and gradient 0.
#pragma once
#include "kernels/queue.h"

namespace unfurl::kernels {

/// Overwrites loss and, where `gradient`, the logits with their gradient.
template <class Queue, class T>
void cross_entropy(const Queue& queue, Accumulator<T>* loss, Matrix<T> logits, const std::int32_t* targets,
                   const Accumulator<T>* weight, bool gradient, Index rows, Index cols);

}  // namespace unfurl::kernels
