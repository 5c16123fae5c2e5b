// Rotary position embedding (Su et al., 2021), halves form: dimension i turns together with i + head_dim / 2.
//
//   angle = position[t] * base^(-2 i / head_dim),   i in [0, head_dim / 2)
//   y[t,h,i]              = x[t,h,i] * cos(angle) - x[t,h,i + head_dim/2] * sin(angle)
//   y[t,h,i + head_dim/2] = x[t,h,i] * sin(angle) + x[t,h,i + head_dim/2] * cos(angle)
//
// x, y: [tokens, heads * head_dim] of T.  positions: [tokens].  table: [max_position, head_dim] of Accumulator<T>, row
// p holding cos of every angle, then sin of every angle.
#pragma once
#include "kernels/queue.h"

namespace unfurl::kernels {

/// Fills the table; computed in double, then rounded.
template <class Queue, class A>
void rope_table(const Queue& queue, A* table, Index max_position, Index head_dim, double base);

/// Overwrites y, which may be x. `inverse` turns the other way: that is the gradient.
template <class Queue, class T>
void rope(const Queue& queue, Matrix<T> y, Matrix<const T> x, const std::int32_t* positions,
          const Accumulator<T>* table, Index tokens, Index heads, Index head_dim, bool inverse);

}  // namespace unfurl::kernels
