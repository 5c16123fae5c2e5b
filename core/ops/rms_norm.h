// Root-mean-square normalisation, alone or fused with the residual sum before it; see kernels/rms_norm.h.
#pragma once
#include <utility>

#include "core/tensor.h"

namespace unfurl {

/// x: [..., cols].  gain: [cols].  Returns the shape of x.
Tensor rms_norm(const Tensor& x, const Tensor& gain, double eps);

/// {s, rms_norm(s)} with s = x + residual (same shapes).
std::pair<Tensor, Tensor> add_rms_norm(const Tensor& x, const Tensor& residual, const Tensor& gain, double eps);

}  // namespace unfurl
