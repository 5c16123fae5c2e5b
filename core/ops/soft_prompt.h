// Soft prompt; the formula is in kernels/soft_prompt.h.
#pragma once
#include "core/tensor.h"

namespace unfurl {

/// Writes prompt [rows, cols] into the first rows of each document of x [tokens, cols], and returns x. No gradient
/// flows to what stood there: x must not need one. Documents that are not empty have at least `rows` rows; their bounds
/// are i32, cu_seqlens [documents + 1].
Tensor soft_prompt(const Tensor& x, const Tensor& prompt, const Tensor& cu_seqlens);

}  // namespace unfurl
