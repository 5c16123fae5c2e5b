// Root-mean-square layer normalisation (Zhang and Sennrich, 2019), fused with the residual sum before it.
//
//   s[r,c] = x[r,c] + residual[r,c]
//   y[r,c] = s[r,c] * rstd[r] * gain[c],    rstd[r] = 1 / sqrt(mean_c(s[r,c]^2) + eps)
//
// x, residual, s, y: [rows, cols] of T.  gain: [cols] of T.  rstd: [rows] of Accumulator<T>.
// Without a residual (null) s is x and is not written. Deterministic on any number of threads.
#pragma once
#include "kernels/queue.h"

namespace unfurl::kernels {

/// Overwrites y, rstd and, with a residual, s. s may be the same memory as x or residual.
template <class Queue, class T>
void rms_norm_forward(const Queue& queue, Matrix<T> y, Matrix<T> s, Accumulator<T>* rstd, Matrix<const T> x,
                      Matrix<const T> residual, const T* gain, Index rows, Index cols, float eps);

/// ds_total = ds + (gradient through y): overwrites dx with it (the gradient of x and of residual alike); ds may be
/// null (zero) and may be the same memory as dx. Adds to dgain (null: skipped).
template <class Queue, class T>
void rms_norm_backward(const Queue& queue, Matrix<T> dx, Accumulator<T>* dgain, Matrix<const T> dy, Matrix<const T> ds,
                       Matrix<const T> s, const T* gain, const Accumulator<T>* rstd, Index rows, Index cols);

}  // namespace unfurl::kernels
