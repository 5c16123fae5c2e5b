#include "core/ops/linear.h"

#include "core/autograd.h"
#include "core/dispatch.h"
#include "core/product.h"

namespace unfurl {

Tensor linear(const Tensor& x, const Tensor& weight) {
  require(weight.rank() == 2, "linear: weight must be [out, in], got {}", weight.shape());
  require(x.rank() > 0 && x.cols() == weight.cols(), "linear: x must be [..., {}], got {}", weight.cols(), x.shape());
  require(x.dtype() == weight.dtype(), "linear: x is {}, weight is {}", name_of(x.dtype()), name_of(weight.dtype()));
  const Index rows = x.shape().drop_last().numel(), out = weight.size(0), in = weight.cols();
  const Tensor y = Tensor::empty(x.shape().with_last(out), x.dtype(), x.device());
  dispatch("linear", x, [&]<class T>(const auto& queue) {
    product(queue, y.matrix<T>(), x.matrix<const T>(), false, weight.matrix<const T>(), true, rows, out, in, false);
  });
  // Each gradient needs the other factor: what needs none is not kept for it.
  const Tensor kept_x = weight.needs_gradient() ? x : Tensor(), kept_weight = x.needs_gradient() ? weight : Tensor();
  record("linear", {x, weight}, {y}, [=](Backward& backward) {
    const Tensor dy = backward.cotangent(0);
    if (const Tensor dx = backward.gradient(0); dx.defined()) {
      dispatch("linear: dx", dy, [&]<class T>(const auto& queue) {
        product(queue, dx.matrix<T>(), dy.matrix<const T>(), false, kept_weight.matrix<const T>(), false, rows, in, out,
                false);
      });
    }
    if (const Tensor dweight = backward.accumulator(1); dweight.defined()) {
      dispatch("linear: dweight", dy, [&]<class T>(const auto& queue) {
        product(queue, dweight.matrix<kernels::Accumulator<T>>(), dy.matrix<const T>(), true, kept_x.matrix<const T>(),
                false, out, in, rows, true);
      });
    }
  });
  return y;
}

}  // namespace unfurl
