// What RMSNorm and LayerNorm, alone and fused with a residual sum, have in common: everything but the kernel.
#pragma once
#include <utility>

#include "core/tensor.h"

namespace unfurl {

enum class Norm { rms, layer };

/// {s, norm(s)} with s = x + residual; without a residual (undefined) s is x. `bias` may be undefined.
std::pair<Tensor, Tensor> norm_of_sum(const char* name, Norm norm, const Tensor& x, const Tensor& residual,
                                      const Tensor& gain, const Tensor& bias, double eps);

}  // namespace unfurl
