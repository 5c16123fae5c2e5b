#include "train/trainer/step.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "core/autograd.h"
#include "core/dispatch.h"
#include "core/optim/adafactor.h"
#include "core/optim/adamw.h"
#include "core/schedule.h"

namespace unfurl::train {
namespace {

std::unique_ptr<Optimizer> make_optimizer(Parameters& parameters, const OptimizerConfig& config) {
  const MemoryName memory("optimiser state");
  if (config.name == OptimizerKind::adamw) {
    return std::make_unique<AdamW>(parameters, AdamWOptions{.beta1 = config.beta1,
                                                            .beta2 = config.beta2,
                                                            .eps = config.eps,
                                                            .weight_decay = config.weight_decay,
                                                            .clip_norm = config.clip_norm});
  }
  const AdafactorConfig& a = config.adafactor;
  return std::make_unique<Adafactor>(parameters, AdafactorOptions{.decay = a.decay,
                                                                  .eps1 = a.eps1,
                                                                  .eps2 = a.eps2,
                                                                  .clip_threshold = a.clip_threshold,
                                                                  .parameter_scale = a.parameter_scale,
                                                                  .weight_decay = config.weight_decay,
                                                                  .clip_norm = config.clip_norm});
}

/// Sums of the slots' losses along the tree by which their gradients are summed.
double tree_sum(const std::vector<double>& values, std::size_t begin, std::size_t end) {
  if (end - begin == 1) return values[begin];
  const std::size_t middle = begin + (end - begin) / 2;
  return tree_sum(values, begin, middle) + tree_sum(values, middle, end);
}

}  // namespace

ModelInputs model_inputs(const Batch& batch, double weight, DType dtype, Device device) {
  const MemoryName memory("batch");
  const auto tensor = [device](const std::vector<std::int32_t>& values) {
    return Tensor::from(values, {static_cast<Index>(values.size())}, device);
  };
  const auto targets = static_cast<Index>(batch.targets.size());
  ModelInputs inputs{tensor(batch.ids),
                     tensor(batch.positions),
                     tensor(batch.order),
                     tensor(batch.cu_seqlens),
                     tensor(batch.prefix_lengths),
                     tensor(batch.target_rows),
                     tensor(batch.targets),
                     Tensor::empty({targets}, accumulator(dtype), device)};
  if (device == Device::meta) return inputs;
  if (inputs.weights.dtype() == DType::f64) {
    std::fill_n(inputs.weights.data<double>(), targets, weight);
  } else {
    std::fill_n(inputs.weights.data<float>(), targets, static_cast<float>(weight));
  }
  return inputs;
}

Batch largest_batch(const Recipe& recipe) {
  Batch batch;
  const auto capacity = static_cast<std::size_t>(recipe.batch.tokens);
  const auto documents = static_cast<std::size_t>(recipe.batch.documents);
  batch.tokens = recipe.batch.tokens;
  batch.documents = recipe.batch.documents;
  batch.ids.assign(capacity, 0);
  batch.positions.assign(capacity, 0);
  batch.order.assign(capacity, 0);
  batch.target_rows.resize(capacity);
  std::iota(batch.target_rows.begin(), batch.target_rows.end(), 0);
  std::iota(batch.order.begin(), batch.order.end(), 0);
  batch.targets.assign(capacity, 0);
  batch.cu_seqlens.assign(documents + 1, static_cast<std::int32_t>(capacity));
  batch.cu_seqlens[0] = 0;
  batch.prefix_lengths.assign(documents, 0);
  return batch;
}

TrainStep::TrainStep(const Recipe& recipe, Device device)
    : recipe_(recipe),
      device_(device),
      decoder_(recipe.model, DType::f32, device, true),
      optimizer_(make_optimizer(decoder_.parameters(), recipe.optimizer)),
      slots_(decoder_.parameters(), recipe.batch.slots) {}

double TrainStep::learning_rate(Index step) const {
  const ScheduleConfig& config = recipe_.schedule;
  const ScheduleShape shape = config.name == ScheduleKind::constant ? ScheduleShape::constant
                              : config.name == ScheduleKind::cosine ? ScheduleShape::cosine
                              : config.name == ScheduleKind::linear ? ScheduleShape::linear
                                                                    : ScheduleShape::inverse_sqrt;
  const Schedule schedule{shape, std::min<Index>(config.warmup_steps, recipe_.train.steps), recipe_.train.steps,
                          config.final_ratio};
  return recipe_.optimizer.learning_rate * schedule.factor(step);
}

double TrainStep::micro_batch(const Batch& batch, Index number, Index step, double weight) {
  const ModelInputs inputs = model_inputs(batch, weight, DType::f32, device_);
  const DropoutPlace dropout{static_cast<std::uint64_t>(recipe_.seed), static_cast<std::uint32_t>(step),
                             static_cast<std::uint64_t>(number * recipe_.batch.tokens), recipe_.model.dropout};
  Tape tape;
  Tensor loss;
  {
    const TapeScope scope(tape);
    const TraceScope trace("forward");
    loss = decoder_.loss(inputs, dropout, recipe_.train.recompute);
  }
  const TraceScope trace("backward");
  tape.backward(loss);
  return loss.item();
}

StepResult TrainStep::run(const std::vector<Batch>& batches, Index step) {
  const TraceScope trace("step");
  const Index slots = recipe_.batch.slots, micro_batches = recipe_.batch.micro_batches;
  require(static_cast<Index>(batches.size()) == slots * micro_batches, "TrainStep: {} micro-batches for {} slots of {}",
          batches.size(), slots, micro_batches);
  const double weight = 1.0 / static_cast<double>(std::max<Index>(count_targets(batches), 1));
  std::vector<double> losses(static_cast<std::size_t>(slots), 0);
  for (Index slot = 0; slot < slots; ++slot) {
    for (Index i = 0; i < micro_batches; ++i) {
      const Index number = slot * micro_batches + i;
      losses[static_cast<std::size_t>(slot)] +=
          micro_batch(batches[static_cast<std::size_t>(number)], number, step, weight);
    }
    const TraceScope tree("slot tree");
    slots_.finish_slot();
  }
  StepResult result;
  result.loss = tree_sum(losses, 0, losses.size());
  const TraceScope update("optimiser");
  if (std::isfinite(result.loss)) {
    result.gradient_norm = optimizer_->step(learning_rate(step));
  } else {
    result.gradient_norm = gradient_norm(decoder_.parameters());
    result.bad = "the loss";
  }
  if (!std::isfinite(result.gradient_norm)) {
    result.bad +=
        (result.bad.empty() ? "the gradient of " : " and the gradient of ") + first_non_finite(decoder_.parameters());
  }
  result.updated = result.bad.empty();
  if (!result.updated) clear_gradients(decoder_.parameters());
  return result;
}

}  // namespace unfurl::train
