#include "core/optim/adamw.h"

#include "core/dispatch.h"
#include "kernels/adamw.h"

namespace unfurl {

AdamW::AdamW(Parameters& parameters, const AdamWOptions& options)
    : Optimizer(parameters, options.clip_norm), options_(options) {
  const MemoryName memory("optimizer");
  for (const ParameterGroup group : {ParameterGroup::decayed, ParameterGroup::undecayed}) {
    const Tensor& gradients = parameters.gradients(group);
    if (!gradients.defined()) continue;
    const auto zeros = [&] { return Tensor::zeros(gradients.shape(), gradients.dtype(), gradients.device()); };
    arenas_.push_back({group, zeros(), zeros()});
  }
}

void AdamW::update(double learning_rate, double gradient_scale) {
  for (const Arena& arena : arenas_) {
    const kernels::AdamW config{.learning_rate = learning_rate,
                                .beta1 = options_.beta1,
                                .beta2 = options_.beta2,
                                .eps = options_.eps,
                                .weight_decay = arena.group == ParameterGroup::decayed ? options_.weight_decay : 0,
                                .step = steps(),
                                .gradient_scale = gradient_scale};
    const Tensor &weights = parameters().values(arena.group), &gradients = parameters().gradients(arena.group);
    dispatch("adamw", weights, [&]<class T>(const auto& queue) {
      kernels::adamw(queue, weights.data<T>(), arena.m.data<T>(), arena.v.data<T>(), gradients.data<T>(), config, true,
                     weights.numel());
    });
  }
}

std::vector<StateTensor> AdamW::state() const {
  std::vector<StateTensor> out;
  for (const Arena& arena : arenas_) {
    out.push_back({std::string("m.") + name_of(arena.group), arena.m});
    out.push_back({std::string("v.") + name_of(arena.group), arena.v});
  }
  return out;
}

}  // namespace unfurl
