// Inverted dropout (Srivastava et al., 2014).
//
//   y[r,c] = keep(r,c) ? x[r,c] / (1 - rate) : 0
//   keep(r,c): uniform(word (i mod 4) of philox(key, i / 4)) >= rate,   i = first_index + r * cols + c
//
// x, y: [rows, cols] of T. Nothing is saved: backward is the same function of dy. `first_index` is a multiple of 4 and
// numbers the elements over the whole global batch, so the mask does not depend on how the batch is cut up.
#pragma once
#include "kernels/philox.h"
#include "kernels/queue.h"

namespace unfurl::kernels {

/// Overwrites y, which may be x.
template <class Queue, class T>
void dropout(const Queue& queue, Matrix<T> y, Matrix<const T> x, float rate, const PhiloxKey& key,
             std::uint64_t first_index, Index rows, Index cols);

/// What of a mask's numbers changes from one micro-batch to the next.
struct DropoutPosition {
  std::uint64_t first_row = 0;  // first_index is first_row * cols, a multiple of 4
  std::uint32_t step = 0;       // of the key
  std::uint32_t unused = 0;
};

/// The same with the key's step and first_index from `position`, in the queue's memory: a graph drops other elements
/// whenever it is launched.
template <class Queue, class T>
void dropout_at(const Queue& queue, Matrix<T> y, Matrix<const T> x, float rate, const PhiloxKey& key,
                const DropoutPosition* position, Index rows, Index cols);

}  // namespace unfurl::kernels
