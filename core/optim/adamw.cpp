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
    const Index own = buckets(group).own_count();
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

/// Calls body(arena, own, at) for this rank's part of each bucket, whose state starts at `at`. The small arena, whose
/// gains a forward pass reads from the start, comes first.
template <class Body>
void AdamW::each_part(Body body) const {
  for (auto place = arenas_.rbegin(); place != arenas_.rend(); ++place) {
    const Arena& arena = *place;
    const Buckets whole = buckets(arena.group);
    Index at = 0;
    for (Index bucket = 0; bucket < whole.size(); ++bucket) {
      const Range own = whole.own(bucket);
      if (own.size() > 0) body(arena, own, at);
      at += own.size();
      note_updated(arena.group, bucket);
    }
  }
}

void AdamW::update(double learning_rate, double gradient_scale) {
  each_part([&](const Arena& arena, const Range& own, Index at) {
    kernels::AdamW numbers = config(arena);
    numbers.learning_rate = learning_rate;
    numbers.step = steps();
    numbers.gradient_scale = gradient_scale;
    const Tensor &weights = parameters().masters(arena.group), &gradients = parameters().gradients(arena.group);
    dispatch_sums("adamw", weights, [&]<class T>(const auto& queue) {
      kernels::adamw(queue, weights.data<T>() + own.begin, arena.m.data<T>() + at, arena.v.data<T>() + at,
                     gradients.data<T>() + own.begin, numbers, true, own.size());
    });
  });
}

void AdamW::update(const kernels::OptimizerStep* step) {
  each_part([&](const Arena& arena, const Range& own, Index at) {
    const Tensor &weights = parameters().masters(arena.group), &values = parameters().values(arena.group);
    const bool rounded = values.dtype() == DType::bf16;  // of masters, which ranks share as they share the state
    on_device(weights.device(), [&](const auto& queue) {
      kernels::adamw_step(queue, weights.data<float>() + (rounded ? at : own.begin), arena.m.data<float>() + at,
                          arena.v.data<float>() + at,
                          parameters().gradients(arena.group).template data<float>() + own.begin,
                          rounded ? values.data<bf16>() + own.begin : nullptr, step, config(arena), own.size());
    });
  });
}

std::vector<StateTensor> AdamW::state() const {
  std::vector<StateTensor> out;
  for (const Arena& arena : arenas_) {
    const Buckets whole = buckets(arena.group);
    out.push_back({std::string("m.") + name_of(arena.group), arena.m, whole});
    out.push_back({std::string("v.") + name_of(arena.group), arena.v, whole});
  }
  return out;
}

}  // namespace unfurl
