#include "core/ops/glu.h"

#include "core/autograd.h"
#include "core/dispatch.h"

namespace unfurl {
namespace {

Tensor output(const char* name, const Tensor& x, const Tensor& destination) {
  if (!destination.defined()) return x.empty_like();
  require(destination.shape() == x.shape() && destination.dtype() == x.dtype(),
          "{}: destination must be {} {}, got {} {}", name, name_of(x.dtype()), x.shape(), name_of(destination.dtype()),
          destination.shape());
  return destination;
}

/// Where the gradient of input i goes; memory that is thrown away where none is needed.
Tensor gradient_or_unused(Backward& backward, int i, const Tensor& input) {
  const Tensor gradient = backward.gradient(i);
  return gradient.defined() ? gradient : input.empty_like();
}

}  // namespace

Tensor glu(const Tensor& gate, const Tensor& up, kernels::Activation activation, const Tensor& destination) {
  require(gate.shape() == up.shape() && gate.dtype() == up.dtype(), "glu: up must be {} {}, got {} {}",
          name_of(gate.dtype()), gate.shape(), name_of(up.dtype()), up.shape());
  const Tensor y = output("glu", gate, destination);
  dispatch("glu", gate, [&]<class T>(const auto& queue) {
    kernels::glu_forward(queue, y.matrix<T>(), gate.matrix<const T>(), up.matrix<const T>(), activation, y.rows(),
                         y.cols());
  });
  record("glu", {gate, up}, {y}, [=](Backward& backward) {
    const Tensor dy = backward.cotangent(0);
    const Tensor dgate = gradient_or_unused(backward, 0, gate), dup = gradient_or_unused(backward, 1, up);
    dispatch("glu", gate, [&]<class T>(const auto& queue) {
      kernels::glu_backward(queue, dgate.matrix<T>(), dup.matrix<T>(), dy.matrix<const T>(), gate.matrix<const T>(),
                            up.matrix<const T>(), activation, dy.rows(), dy.cols());
    });
  });
  return y;
}

Tensor gelu(const Tensor& x, const Tensor& destination) {
  const Tensor y = output("gelu", x, destination);
  dispatch("gelu", x, [&]<class T>(const auto& queue) {
    kernels::gelu_forward(queue, y.matrix<T>(), x.matrix<const T>(), y.rows(), y.cols());
  });
  record("gelu", {x}, {y}, [x](Backward& backward) {
    const Tensor dy = backward.cotangent(0), dx = backward.gradient(0);
    dispatch("gelu", x, [&]<class T>(const auto& queue) {
      kernels::gelu_backward(queue, dx.matrix<T>(), dy.matrix<const T>(), x.matrix<const T>(), dy.rows(), dy.cols());
    });
  });
  return y;
}

}  // namespace unfurl
