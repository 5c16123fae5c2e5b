#include "core/optim/adamw.h"

#include "core/dispatch.h"

namespace unfurl {

AdamW::AdamW(Parameters& parameters, const AdamWOptions& options, OptimizerShare share)
    : Optimizer(parameters, {.clip_norm = options.clip_norm, .beta1 = options.beta1, .beta2 = options.beta2},
                std::move(share)),
      options_(options) {
  const MemoryName memory("optimizer");
  for (const ParameterGroup group : {ParameterGroup::decayed, ParameterGroup::undecayed}) {
    const Tensor& gradients = parameters.gradients(group);
    if (!gradients.defined()) continue;
    const Index own = shards(group).own().size();
    const auto zeros = [&] { return Tensor::zeros({own}, gradients.dtype(), gradients.device()); };
    arenas_.push_back({group, zeros(), zeros()});
  }
}

kernels::AdamW AdamW::config(const Arena& arena) const {
  return {.beta1 = options_.beta1,
          .beta2 = options_.beta2,
          .eps = options_.eps,
          .weight_decay = arena.group == ParameterGroup::decayed ? options_.weight_decay : 0};
}

void AdamW::update(double learning_rate, double gradient_scale) {
  for (const Arena& arena : arenas_) {
    kernels::AdamW numbers = config(arena);
    numbers.learning_rate = learning_rate;
    numbers.step = steps();
    numbers.gradient_scale = gradient_scale;
    const Tensor &weights = parameters().masters(arena.group), &gradients = parameters().gradients(arena.group);
    const Range own = shards(arena.group).own();
    dispatch_sums("adamw", weights, [&]<class T>(const auto& queue) {
      kernels::adamw(queue, weights.data<T>() + own.begin, arena.m.data<T>(), arena.v.data<T>(),
                     gradients.data<T>() + own.begin, numbers, true, own.size());
    });
  }
}

void AdamW::update(const kernels::OptimizerStep* step) {
  for (const Arena& arena : arenas_) {
    const Tensor &weights = parameters().masters(arena.group), &values = parameters().values(arena.group);
    const Range own = shards(arena.group).own();
    if (own.size() == 0) continue;
    on_device(weights.device(), [&](const auto& queue) {
      kernels::adamw_step(queue, weights.data<float>() + own.begin, arena.m.data<float>(), arena.v.data<float>(),
                          parameters().gradients(arena.group).template data<float>() + own.begin,
                          values.dtype() == DType::bf16 ? values.data<bf16>() + own.begin : nullptr, step,
                          config(arena), own.size());
    });
  }
}

std::vector<StateTensor> AdamW::state() const {
  std::vector<StateTensor> out;
  for (const Arena& arena : arenas_) {
    const Shards whole = shards(arena.group);
    out.push_back({std::string("m.") + name_of(arena.group), arena.m, whole.own(), whole.count});
    out.push_back({std::string("v.") + name_of(arena.group), arena.v, whole.own(), whole.count});
  }
  return out;
}

}  // namespace unfurl
