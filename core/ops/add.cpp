#include "core/ops/add.h"

#include "core/autograd.h"
#include "core/dispatch.h"
#include "kernels/elementwise.h"

namespace unfurl {

Tensor add(const Tensor& a, const Tensor& b) {
  require(a.shape() == b.shape() && a.dtype() == b.dtype(), "add: both must be {} {}, got {} {}", name_of(a.dtype()),
          a.shape(), name_of(b.dtype()), b.shape());
  const Tensor y = a.empty_like();
  dispatch("add", a, [&]<class T>(const auto& queue) {
    kernels::add(queue, y.matrix<T>(), a.matrix<const T>(), b.matrix<const T>(), y.rows(), y.cols());
  });
  record("add", {a, b}, {y}, [](Backward& backward) {
    backward.pass(0, backward.cotangent(0));
    backward.pass(1, backward.cotangent(0));
  });
  return y;
}

Tensor copy(const Tensor& x) {
  const Tensor y = x.empty_like();
  dispatch("copy", x, [&]<class T>(const auto& queue) {
    kernels::convert(queue, y.matrix<T>(), x.matrix<const T>(), y.rows(), y.cols());
  });
  record("copy", {x}, {y}, [](Backward& backward) { backward.pass(0, backward.cotangent(0)); });
  return y;
}

}  // namespace unfurl
