// One training step: a global batch in, one update of the weights out.
#pragma once
#include <cmath>
#include <deque>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "core/comm/data_parallel.h"
#include "core/optim/optimizer.h"
#include "train/data/batch.h"
#include "train/model/decoder.h"
#include "train/trainer/device_steps.h"
#include "train/trainer/slots.h"

namespace unfurl::train {

struct StepResult {
  Index step = 0;
  Index tokens = 0;          // rows in use of its micro-batches, on all ranks
  Index prefixes = 0;        // their documents whose pair has a prefix
  Index dropped = 0;         // of these, those that are shown without it
  double loss = 0;           // nats a target, mean over the global batch
  double gradient_norm = 0;  // before clipping
  double skip_norm = 0;      // above which the update was to be skipped
  bool updated = false;      // false where it was, or the loss or a gradient was not finite: nothing has changed then
  std::string bad;           // what was not finite: "the loss", "the gradient of NAME", or both; NAME is the first such
};

/// What the exchange between ranks took of some steps, where it is of the CPU's memory.
struct Communication {
  Index steps = 0;
  double seconds = 0;      // of these steps, from TrainStep::start() to its end
  double collectives = 0;  // of them, those in which a collective was under way
  double exposed = 0;      // of these, those in which the step waited for it
  double bytes_sent = 0;   // by this rank
};

/// The model, its optimiser and the way through them. On Device::meta nothing is computed, but memory is booked as a
/// real step does.
class TrainStep {
 public:
  /// `recipe.model.vocab_size` must be set. bf16 only on a device that runs CUDA kernels, or on meta. The ranks of
  /// `communicator` share the slots in equal parts; without one there is one rank. Throws UserError where there is no
  /// such part.
  TrainStep(const Recipe& recipe, Device device, DType dtype = DType::f32, Communicator* communicator = nullptr);

  /// The micro-batches of a step that this rank computes: those of its slots, which are neighbours.
  Range own_micro_batches() const;

  /// Updates the weights from `batches`, those of all ranks: the slots one after the other, each of
  /// recipe.batch.micro_batches; only the own ones are read. `step` counts from 1. Where the gradient's norm is greater
  /// than `skip_norm`, the weights stay as they are.
  StepResult run(const std::vector<Batch>& batches, Index step, double skip_norm = INFINITY) {
    start(batches, step, skip_norm);
    return finish();
  }

  /// The same in two parts: a device that runs CUDA kernels is not waited for in start(), so that it always has work
  /// where the next step is started before this one is finished.
  void start(const std::vector<Batch>& batches, Index step, double skip_norm = INFINITY);
  /// The result of the earliest step that was started and not finished.
  StepResult finish();
  /// Steps started and not finished.
  Index under_way() const { return static_cast<Index>(under_way_.size()); }

  /// Before the first step: lets a GPU's matrix library choose its algorithms on a micro-batch.
  void tune(const Batch& batch) {
    if (device_steps_) device_steps_->tune(batch);
  }

  /// The learning rate of a step.
  double learning_rate(Index step) const;

  Device device() const { return device_; }
  Decoder& decoder() { return decoder_; }
  Optimizer& optimizer() { return *optimizer_; }
  DataParallel& ranks() { return ranks_; }

  /// Of all steps so far.
  const Communication& communication() const { return communication_; }

 private:
  double micro_batch(const Batch& batch, const DropoutPlace& dropout, double weight, bool last);
  DataParallel::SumOfSlots sum_of_slots() {
    return [this](ParameterGroup group, const Range& part) { return slots_.finish_part(group, part); };
  }
  Index count(std::span<const Batch> own, StepResult& result);
  void start_step(const std::vector<Batch>& batches, Index step, double skip_norm);
  void update(StepResult& result);

  const Recipe& recipe_;
  const Device device_;
  Decoder decoder_;
  Communicator alone_;
  SlotTree slots_;      // before those who use its memory
  DataParallel ranks_;  //
  std::unique_ptr<Optimizer> optimizer_;
  std::unique_ptr<DeviceSteps> device_steps_;  // where the device runs CUDA kernels
  std::deque<StepResult> under_way_;           // whole where there are no device_steps_
  Communication communication_;
};

/// The slots of each of so many ranks. Throws UserError where they cannot share those of a batch.
Index slots_per_rank(const Recipe& recipe, int ranks);

/// A batch of the greatest size that the recipe allows, full of targets: for planning.
Batch largest_batch(const Recipe& recipe);

}  // namespace unfurl::train
