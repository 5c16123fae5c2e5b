// Chosen rows of a matrix; see kernels/elementwise.h.
#pragma once
#include "core/tensor.h"

namespace unfurl {

/// y[i,:] = x[rows[i],:]. x: [total, cols].  rows: [count] of i32, strictly increasing.  Returns [count, cols].
Tensor gather_rows(const Tensor& x, const Tensor& rows);

}  // namespace unfurl
