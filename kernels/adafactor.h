// Adafactor (Shazeer and Stern, 2018) for one matrix or vector, without momentum.
//
//   g  = gradient * gradient_scale,   beta2 = 1 - step^(-decay)
//   matrix [rows, cols]:  R[r] = beta2 R[r] + (1 - beta2) mean_c(g^2 + eps1),  C[c] likewise over rows
//                         v[r,c] = R[r] C[c] / mean_r(R)
//   vector (rows = 1):    v = beta2 v + (1 - beta2) (g^2 + eps1), kept in C
//   u  = g / sqrt(v),  u /= max(1, rms(u) / clip_threshold)
//   w -= learning_rate * s * u + learning_rate * weight_decay * w,   s = parameter_scale ? max(eps2, rms(w)) : 1
//
// weight, gradient: [rows, cols] of T, dense.  R: [rows], C: [cols] of T. step counts from 1.
#pragma once
#include "kernels/optimizer_step.h"
#include "kernels/queue.h"

namespace unfurl::kernels {

struct Adafactor {
  double learning_rate = 0;
  double decay = 0.8;
  double eps1 = 1e-30;
  double eps2 = 1e-3;
  double clip_threshold = 1;
  double weight_decay = 0;
  bool parameter_scale = false;
  Index step = 1;
  double gradient_scale = 1;
};

/// Overwrites weight, row (R) and column (C); sets gradient to zero where `clear`.
template <class Queue, class T>
void adafactor(const Queue& queue, T* weight, T* row, T* column, T* gradient, const Adafactor& config, bool clear,
               Index rows, Index cols);

/// The same with learning_rate, step and gradient_scale from device memory instead of from the config; nothing but the
/// gradient, which is cleared, changes where the step is to be skipped. Also writes `copy`, the weights rounded to bf16
/// (null: none).
template <class Queue>
void adafactor_step(const Queue& queue, float* weight, float* row, float* column, float* gradient, bf16* copy,
                    const OptimizerStep* step, const Adafactor& config, Index rows, Index cols);

}  // namespace unfurl::kernels
