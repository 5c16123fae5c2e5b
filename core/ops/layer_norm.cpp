#include "core/ops/layer_norm.h"

#include "core/ops/norm.h"

namespace unfurl {

Tensor layer_norm(const Tensor& x, const Tensor& gain, const Tensor& bias, double eps) {
  return norm_of_sum("layer_norm", Norm::layer, x, {}, gain, bias, eps).second;
}

std::pair<Tensor, Tensor> add_layer_norm(const Tensor& x, const Tensor& residual, const Tensor& gain,
                                         const Tensor& bias, double eps) {
  require(residual.defined(), "add_layer_norm: residual must be {}, got none", x.shape());
  return norm_of_sum("add_layer_norm", Norm::layer, x, residual, gain, bias, eps);
}

}  // namespace unfurl
