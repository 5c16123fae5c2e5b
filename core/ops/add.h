// Sums and copies.
#pragma once
#include "core/tensor.h"

namespace unfurl {

/// a + b, same shapes.
Tensor add(const Tensor& a, const Tensor& b);

/// A contiguous copy of x, which may be a column slice.
Tensor copy(const Tensor& x);

}  // namespace unfurl
