// Layer normalisation, alone or fused with the residual sum before it; see kernels/layer_norm.h.
#pragma once
#include <utility>

#include "core/tensor.h"

namespace unfurl {

/// x: [..., cols].  gain: [cols].  bias: [cols], or undefined for none. Returns the shape of x.
Tensor layer_norm(const Tensor& x, const Tensor& gain, const Tensor& bias, double eps);

/// {s, layer_norm(s)} with s = x + residual (same shapes).
std::pair<Tensor, Tensor> add_layer_norm(const Tensor& x, const Tensor& residual, const Tensor& gain,
                                         const Tensor& bias, double eps);

}  // namespace unfurl
