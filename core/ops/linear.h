// y = x W^T.
#pragma once
#include "core/tensor.h"

namespace unfurl {

/// x: [..., in], possibly a column slice.  weight: [out, in].  Returns [..., out], contiguous.
/// The gradient of the weight is added to it in the product itself (no pass of its own).
Tensor linear(const Tensor& x, const Tensor& weight);

}  // namespace unfurl
