// Layer normalisation (Ba, Kiros and Hinton, 2016), fused with the residual sum before it.
//
//   s[r,c] = x[r,c] + residual[r,c]
//   y[r,c] = (s[r,c] - mean[r]) * rstd[r] * gain[c] + bias[c],    rstd[r] = 1 / sqrt(var_c(s[r,c]) + eps)
//
// x, residual, s, y: [rows, cols] of T.  gain, bias: [cols] of T (bias may be null).  mean, rstd: [rows] of
// Accumulator<T>. Without a residual (null) s is x and is not written. Deterministic on any number of threads.
#pragma once
#include "kernels/queue.h"

namespace unfurl::kernels {

/// Overwrites y, mean, rstd and, with a residual, s. s may be the same memory as x or residual.
template <class Queue, class T>
void layer_norm_forward(const Queue& queue, Matrix<T> y, Matrix<T> s, Accumulator<T>* mean, Accumulator<T>* rstd,
                        Matrix<const T> x, Matrix<const T> residual, const T* gain, const T* bias, Index rows,
                        Index cols, float eps);

/// Overwrites dx with ds + (gradient through y); ds may be null (zero) and may be the same memory as dx. Adds to dgain
/// and dbias (null: skipped).
template <class Queue, class T>
void layer_norm_backward(const Queue& queue, Matrix<T> dx, Accumulator<T>* dgain, Accumulator<T>* dbias,
                         Matrix<const T> dy, Matrix<const T> ds, Matrix<const T> s, const T* gain,
                         const Accumulator<T>* mean, const Accumulator<T>* rstd, Index rows, Index cols);

}  // namespace unfurl::kernels
