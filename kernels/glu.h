// Gated linear units (Shazeer, 2020) and the plain GELU (Hendrycks and Gimpel, 2016).
//
//   glu:   y[r,c] = act(gate[r,c]) * up[r,c],   act = silu (SwiGLU) or gelu (GeGLU)
//   gelu:  y[r,c] = gelu(x[r,c])
//   silu(x) = x / (1 + exp(-x)),   gelu(x) = x / 2 * (1 + tanh(sqrt(2/pi) * (x + 0.044715 x^3)))
//
// All matrices: [rows, cols] of T. Nothing is saved: backward recomputes the activation from the inputs.
#pragma once
#include "kernels/queue.h"

namespace unfurl::kernels {

enum class Activation { silu, gelu };

/// Overwrites y.
template <class Queue, class T>
void glu_forward(const Queue& queue, Matrix<T> y, Matrix<const T> gate, Matrix<const T> up, Activation activation,
                 Index rows, Index cols);

/// Overwrites dgate and dup.
template <class Queue, class T>
void glu_backward(const Queue& queue, Matrix<T> dgate, Matrix<T> dup, Matrix<const T> dy, Matrix<const T> gate,
                  Matrix<const T> up, Activation activation, Index rows, Index cols);

/// Overwrites y.
template <class Queue, class T>
void gelu_forward(const Queue& queue, Matrix<T> y, Matrix<const T> x, Index rows, Index cols);

/// Overwrites dx.
template <class Queue, class T>
void gelu_backward(const Queue& queue, Matrix<T> dx, Matrix<const T> dy, Matrix<const T> x, Index rows, Index cols);

}  // namespace unfurl::kernels
