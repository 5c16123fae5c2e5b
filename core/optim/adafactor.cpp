#include "core/optim/adafactor.h"

#include "core/dispatch.h"

namespace unfurl {

Adafactor::Adafactor(Parameters& parameters, const AdafactorOptions& options)
    : Optimizer(parameters, {.clip_norm = options.clip_norm}), options_(options) {
  Index rows = 0, columns = 0;
  Tensor like;
  for (std::size_t i = 0; i < parameters.all().size(); ++i) {
    const Parameter& parameter = parameters.all()[i];
    if (parameter.group == ParameterGroup::frozen) continue;
    like = parameters.gradients(parameter.group);
    const Part part{i, parameter.value.rows(), parameter.value.cols(), rows, columns};
    rows += part.rows > 1 ? part.rows : 0;
    columns += part.cols;
    parts_.push_back(part);
  }
  if (!like.defined()) return;
  const MemoryName memory("optimizer");
  row_ = Tensor::zeros({rows}, like.dtype(), like.device());
  column_ = Tensor::zeros({columns}, like.dtype(), like.device());
}

kernels::Adafactor Adafactor::config(const Parameter& parameter) const {
  return {.decay = options_.decay,
          .eps1 = options_.eps1,
          .eps2 = options_.eps2,
          .clip_threshold = options_.clip_threshold,
          .weight_decay = parameter.group == ParameterGroup::decayed ? options_.weight_decay : 0,
          .parameter_scale = options_.parameter_scale};
}

void Adafactor::update(double learning_rate, double gradient_scale) {
  for (const Part& part : parts_) {
    const Parameter& parameter = parameters().all()[part.parameter];
    kernels::Adafactor numbers = config(parameter);
    numbers.learning_rate = learning_rate;
    numbers.step = steps();
    numbers.gradient_scale = gradient_scale;
    const Tensor &weights = parameter.master, gradient = parameter.value.gradient();
    dispatch_sums("adafactor", weights, [&]<class T>(const auto& queue) {
      kernels::adafactor(queue, weights.data<T>(), row_.data<T>() + part.row, column_.data<T>() + part.column,
                         gradient.data<T>(), numbers, true, part.rows, part.cols);
    });
  }
}

void Adafactor::update(const kernels::OptimizerStep* step) {
  for (const Part& part : parts_) {
    const Parameter& parameter = parameters().all()[part.parameter];
    const Tensor &weights = parameter.master, &values = parameter.value, gradient = values.gradient();
    on_device(weights.device(), [&](const auto& queue) {
      kernels::adafactor_step(queue, weights.data<float>(), row_.data<float>() + part.row,
                              column_.data<float>() + part.column, gradient.data<float>(),
                              values.dtype() == DType::bf16 ? values.data<bf16>() : nullptr, step, config(parameter),
                              part.rows, part.cols);
    });
  }
}

std::vector<StateTensor> Adafactor::state() const {
  if (!row_.defined()) return {};
  return {{"row", row_, {row_.numel()}}, {"column", column_, {column_.numel()}}};
}

}  // namespace unfurl
