// One training step: a global batch in, one update of the weights out.
#pragma once
#include <memory>
#include <string>
#include <vector>

#include "core/optim/optimizer.h"
#include "train/data/batch.h"
#include "train/model/decoder.h"
#include "train/trainer/slots.h"

namespace unfurl::train {

struct StepResult {
  double loss = 0;  // nats a target, mean over the global batch
  double gradient_norm = 0;
  bool updated = false;  // false where the loss or a gradient was not finite: nothing has changed then
  std::string bad;       // what was not finite: "the loss", "the gradient of NAME", or both; NAME is the first such
};

/// The model, its optimiser and the way through them. On Device::meta nothing is computed, but memory is booked as a
/// real step does.
class TrainStep {
 public:
  /// `recipe.model.vocab_size` must be set.
  TrainStep(const Recipe& recipe, Device device);

  /// Updates the weights from `batches`: the slots one after the other, each of recipe.batch.micro_batches. `step`
  /// counts from 1.
  StepResult run(const std::vector<Batch>& batches, Index step);

  /// The learning rate of a step.
  double learning_rate(Index step) const;

  Decoder& decoder() { return decoder_; }
  Optimizer& optimizer() { return *optimizer_; }

 private:
  double micro_batch(const Batch& batch, Index number, Index step, double weight);

  const Recipe& recipe_;
  const Device device_;
  Decoder decoder_;
  std::unique_ptr<Optimizer> optimizer_;
  SlotTree slots_;
};

/// A micro-batch as the model takes it; each target's loss counts `weight`.
ModelInputs model_inputs(const Batch& batch, double weight, DType dtype, Device device);

/// A batch of the greatest size that the recipe allows, full of targets: for planning.
Batch largest_batch(const Recipe& recipe);

}  // namespace unfurl::train
