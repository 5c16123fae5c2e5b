// The sum of a vector: the loss of a micro-batch from those of its rows.
//
//   total = sum_i x[i]
//
// x: [count] of float or double.  total: one of the same. Summed in double, in an order that depends on count alone.
#pragma once
#include "kernels/queue.h"

namespace unfurl::kernels {

/// Overwrites *total.
template <class Queue, class A>
void sum(const Queue& queue, A* total, const A* x, Index count);

}  // namespace unfurl::kernels
