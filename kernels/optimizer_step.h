// What the optimisers of a GPU read from device memory, so that a step is a fixed sequence of launches, a CUDA graph,
// and the host never waits for the gradient's norm: sum_squares_of_blocks() for each arena of gradients, begin_step(),
// then adamw_step() or adafactor_step() for each.
//
//   norm = sqrt(sum of the partial sums),   gradient_scale = clip_norm / norm where clip_norm > 0 and norm > clip_norm,
//                                                            else 1
//
// A step whose norm is not finite, or greater than skip_norm, is skipped: it leaves weights, their copies, moments and
// the count of steps as they are, and only clears the gradients.
#pragma once
#include <cmath>
#include <cstdint>

#include "kernels/types.h"

namespace unfurl::kernels {

struct OptimizerStep {
  // Written by the host before every step, by one copy in the queue.
  double learning_rate = 0;
  double skip_norm = INFINITY;

  /// Updates done. Written by begin_step(); by the host only to start or resume.
  std::int64_t steps = 0;
  // All else is written by begin_step().
  double norm = 0;  // of the gradients, before clipping
  float gradient_scale = 1;
  float rate = 0;       // learning_rate / (1 - beta1^steps)
  float deviation = 0;  // 1 / sqrt(1 - beta2^steps)
  std::int32_t skip = 0;
  std::int64_t skipped = 0;  // steps, so far
};

/// Elements of a partial sum.
inline constexpr Index kNormBlock = 65536;
constexpr Index norm_blocks(Index count) { return (count + kNormBlock - 1) / kNormBlock; }

/// partials[i] = the sum of the squares of x[65536 i ... 65536 (i + 1) - 1], in double. [norm_blocks(count)]. Not
/// finite where any x is not.
template <class Queue, class T>
void sum_squares_of_blocks(const Queue& queue, double* partials, const T* x, Index count);

struct StepPolicy {
  double clip_norm = 0;              // 0: off
  double beta1 = 0.9, beta2 = 0.95;  // of AdamW
};

/// Decides about a step from the partial sums of all gradients, which are added in an order that `count` fixes.
template <class Queue>
void begin_step(const Queue& queue, OptimizerStep* step, const double* partials, Index count, const StepPolicy& policy);

}  // namespace unfurl::kernels
