#include "core/optim/adafactor.h"

#include "core/dispatch.h"
#include "kernels/adafactor.h"

namespace unfurl {

Adafactor::Adafactor(Parameters& parameters, const AdafactorOptions& options)
    : Optimizer(parameters, options.clip_norm), options_(options) {
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

void Adafactor::update(double learning_rate, double gradient_scale) {
  for (const Part& part : parts_) {
    const Parameter& parameter = parameters().all()[part.parameter];
    const kernels::Adafactor config{
        .learning_rate = learning_rate,
        .decay = options_.decay,
        .eps1 = options_.eps1,
        .eps2 = options_.eps2,
        .clip_threshold = options_.clip_threshold,
        .weight_decay = parameter.group == ParameterGroup::decayed ? options_.weight_decay : 0,
        .parameter_scale = options_.parameter_scale,
        .step = steps(),
        .gradient_scale = gradient_scale};
    const Tensor gradient = parameter.value.gradient();
    dispatch("adafactor", parameter.value, [&]<class T>(const auto& queue) {
      kernels::adafactor(queue, parameter.value.data<T>(), row_.data<T>() + part.row, column_.data<T>() + part.column,
                         gradient.data<T>(), config, true, part.rows, part.cols);
    });
  }
}

std::vector<StateTensor> Adafactor::state() const {
  if (!row_.defined()) return {};
  return {{"row", row_}, {"column", column_}};
}

}  // namespace unfurl
