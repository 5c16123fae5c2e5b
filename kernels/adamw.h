// AdamW (Loshchilov and Hutter, 2019) over flat buffers, fused with clipping, bias correction and clearing the
// gradient.
//
//   g  = gradient * gradient_scale
//   m  = beta1 m + (1 - beta1) g,    v = beta2 v + (1 - beta2) g^2
//   w -= learning_rate * (m / (1 - beta1^step) / (sqrt(v / (1 - beta2^step)) + eps) + weight_decay * w)
//
// All buffers: [count] of float (or double). step counts from 1. gradient_scale carries clipping by the global norm.
#pragma once
#include "kernels/optimizer_step.h"
#include "kernels/queue.h"

namespace unfurl::kernels {

struct AdamW {
  double learning_rate = 0;
  double beta1 = 0.9;
  double beta2 = 0.95;
  double eps = 1e-8;
  double weight_decay = 0;
  Index step = 1;
  double gradient_scale = 1;
};

/// Overwrites weight, m, v; sets gradient to zero where `clear`.
template <class Queue, class T>
void adamw(const Queue& queue, T* weight, T* m, T* v, T* gradient, const AdamW& config, bool clear, Index count);

/// The same with learning_rate, step and gradient_scale from device memory instead of from the config; nothing but the
/// gradient, which is cleared, changes where the step is to be skipped. Also writes `copy`, the weights rounded to bf16
/// (null: none). 34 bytes a weight with the copy.
template <class Queue>
void adamw_step(const Queue& queue, float* weight, float* m, float* v, float* gradient, bf16* copy,
                const OptimizerStep* step, const AdamW& config, Index count);

/// The sum of squares of x: partial sums over fixed blocks of 65,536 elements, added in order, in double. Not finite
/// where any x is not. Waits for the queue.
template <class Queue, class T>
double sum_of_squares(const Queue& queue, const T* x, Index count);

}  // namespace unfurl::kernels
