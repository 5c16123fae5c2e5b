#include "core/optim/optimizer.h"

#include <algorithm>
#include <cmath>

#include "core/dispatch.h"
#include "kernels/adamw.h"

namespace unfurl {
namespace {

constexpr ParameterGroup kTrained[] = {ParameterGroup::decayed, ParameterGroup::undecayed};

double sum_of_squares(const Tensor& x) {
  double sum = 0;
  dispatch("gradient_norm", x, [&]<class T>(const auto& queue) {
    sum = kernels::sum_of_squares(queue, static_cast<const T*>(x.data<T>()), x.numel());
  });
  return sum;
}

}  // namespace

Optimizer::Optimizer(Parameters& parameters, double clip_norm) : parameters_(&parameters), clip_norm_(clip_norm) {
  for (const ParameterGroup group : kTrained) {
    require(parameters.values(group).defined() == parameters.gradients(group).defined(),
            "optimizer: the {} parameters have no gradients", name_of(group));
  }
}

double Optimizer::step(double learning_rate) {
  const double norm = gradient_norm(*parameters_);
  if (!std::isfinite(norm)) return norm;
  ++steps_;
  update(learning_rate, clip_norm_ > 0 && norm > clip_norm_ ? clip_norm_ / norm : 1.0);
  return norm;
}

double gradient_norm(const Parameters& parameters) {
  double sum = 0;
  for (const ParameterGroup group : kTrained) {
    if (const Tensor& gradients = parameters.gradients(group); gradients.defined()) sum += sum_of_squares(gradients);
  }
  return std::sqrt(sum);
}

std::string first_non_finite(const Parameters& parameters) {
  for (const Parameter& parameter : parameters.all()) {
    const Tensor gradient = parameter.value.gradient();
    if (gradient.defined() && !std::isfinite(sum_of_squares(gradient))) return parameter.name;
  }
  return {};
}

void clear_gradients(const Parameters& parameters) {
  for (const ParameterGroup group : kTrained) {
    const Tensor& gradients = parameters.gradients(group);
    if (!gradients.defined()) continue;
    dispatch("clear_gradients", gradients,
             [&]<class T>(const auto&) { std::fill_n(gradients.data<T>(), gradients.numel(), T(0)); });
  }
}

}  // namespace unfurl
