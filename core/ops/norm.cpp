#include "core/ops/norm.h"

#include "core/autograd.h"
#include "core/dispatch.h"
#include "kernels/layer_norm.h"
#include "kernels/rms_norm.h"

namespace unfurl {

std::pair<Tensor, Tensor> norm_of_sum(const char* name, Norm norm, const Tensor& x, const Tensor& residual,
                                      const Tensor& gain, const Tensor& bias, double eps) {
  require(x.rank() >= 1 && x.cols() > 0, "{}: x must have columns, got {}", name, x.shape());
  require(gain.shape() == Shape{x.cols()}, "{}: gain must be [{}], got {}", name, x.cols(), gain.shape());
  require(!bias.defined() || bias.shape() == gain.shape(), "{}: bias must be [{}], got {}", name, x.cols(),
          bias.shape());
  const bool fused = residual.defined();
  require(!fused || residual.shape() == x.shape(), "{}: residual must be {}, got {}", name, x.shape(),
          residual.shape());
  const Index rows = x.rows(), cols = x.cols();
  const Tensor y = x.empty_like(), s = fused ? x.empty_like() : x;
  const Tensor rstd = Tensor::empty({rows}, accumulator(x.dtype()), x.device());
  const Tensor mean = norm == Norm::layer ? rstd.empty_like() : Tensor();
  dispatch(name, x, [&]<class T>(const auto& queue) {
    using A = kernels::Accumulator<T>;
    if (norm == Norm::layer) {
      kernels::layer_norm_forward(queue, y.matrix<T>(), s.matrix<T>(), mean.data<A>(), rstd.data<A>(),
                                  x.matrix<const T>(), residual.matrix<const T>(), gain.data<const T>(),
                                  bias.data<const T>(), rows, cols, static_cast<float>(eps));
    } else {
      kernels::rms_norm_forward(queue, y.matrix<T>(), s.matrix<T>(), rstd.data<A>(), x.matrix<const T>(),
                                residual.matrix<const T>(), gain.data<const T>(), rows, cols, static_cast<float>(eps));
    }
  });
  const auto through = [=](Backward& backward) {
    // Inputs: x, residual, gain, bias. Outputs: y, and s where there is a residual.
    const Tensor dy = backward.cotangent(0), ds = fused ? backward.cotangent(1) : Tensor();
    if (!dy.defined()) {
      backward.pass(0, ds);
      backward.pass(1, ds);
      return;
    }
    Tensor dx = backward.gradient(0);
    const bool for_x = dx.defined();
    if (!for_x && fused) dx = backward.gradient(1);
    if (!dx.defined()) dx = s.empty_like();
    const Tensor dgain = backward.accumulator(2), dbias = backward.accumulator(3);
    dispatch(name, s, [&]<class T>(const auto& queue) {
      using A = kernels::Accumulator<T>;
      if (norm == Norm::layer) {
        kernels::layer_norm_backward(queue, dx.matrix<T>(), dgain.data<A>(), dbias.data<A>(), dy.matrix<const T>(),
                                     ds.matrix<const T>(), s.matrix<const T>(), gain.data<const T>(),
                                     mean.data<const A>(), rstd.data<const A>(), rows, cols);
      } else {
        kernels::rms_norm_backward(queue, dx.matrix<T>(), dgain.data<A>(), dy.matrix<const T>(), ds.matrix<const T>(),
                                   s.matrix<const T>(), gain.data<const T>(), rstd.data<const A>(), rows, cols);
      }
    });
    if (for_x && fused) backward.pass(1, dx);
  };
  record(name, {x, residual, gain, bias}, fused ? std::vector{y, s} : std::vector{y}, through);
  return {s, y};
}

}  // namespace unfurl
