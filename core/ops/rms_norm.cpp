#include "core/ops/rms_norm.h"

#include "core/ops/norm.h"

namespace unfurl {

Tensor rms_norm(const Tensor& x, const Tensor& gain, double eps) {
  return norm_of_sum("rms_norm", Norm::rms, x, {}, gain, {}, eps).second;
}

std::pair<Tensor, Tensor> add_rms_norm(const Tensor& x, const Tensor& residual, const Tensor& gain, double eps) {
  require(residual.defined(), "add_rms_norm: residual must be {}, got none", x.shape());
  return norm_of_sum("add_rms_norm", Norm::rms, x, residual, gain, {}, eps);
}

}  // namespace unfurl
