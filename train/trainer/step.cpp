#include "train/trainer/step.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <numeric>

#include "core/autograd.h"
#include "core/dispatch.h"
#include "core/optim/adafactor.h"
#include "core/optim/adamw.h"
#include "core/schedule.h"

namespace unfurl::train {
namespace {

/// Whether each rank has all masters. Where AdamW's ranks compute in bf16, they share them.
bool holds_masters(const Recipe& recipe, DType dtype, const Communicator* communicator) {
  return dtype != DType::bf16 || communicator == nullptr || communicator->size() == 1 ||
         recipe.optimizer.name != OptimizerKind::adamw;
}

std::unique_ptr<Optimizer> make_optimizer(Parameters& parameters, const OptimizerConfig& config, OptimizerShare share) {
  const MemoryName memory("optimiser state");
  if (config.name == OptimizerKind::adamw) {
    return std::make_unique<AdamW>(parameters,
                                   AdamWOptions{.beta1 = config.beta1,
                                                .beta2 = config.beta2,
                                                .eps = config.eps,
                                                .weight_decay = config.weight_decay,
                                                .clip_norm = config.clip_norm},
                                   std::move(share));
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

/// The sum of values [begin, end) along the tree by which the slots' gradients are summed.
double tree_sum(const std::vector<double>& values, std::size_t begin, std::size_t end) {
  if (end - begin == 1) return values[begin];
  const std::size_t middle = begin + (end - begin) / 2;
  return tree_sum(values, begin, middle) + tree_sum(values, middle, end);
}

/// The loss of a step from those of its micro-batches, `micro_batches` a slot.
double tree_sum(const std::vector<double>& losses, Index micro_batches) {
  std::vector<double> slots(losses.size() / static_cast<std::size_t>(micro_batches), 0);
  for (std::size_t i = 0; i < losses.size(); ++i) slots[i / static_cast<std::size_t>(micro_batches)] += losses[i];
  return tree_sum(slots, 0, slots.size());
}

/// Says what was not finite, if anything; `parameter` is the first whose gradient was not, or "".
void describe(StepResult& result, const std::string& parameter) {
  if (!std::isfinite(result.loss)) result.bad = "the loss";
  if (!parameter.empty()) result.bad += (result.bad.empty() ? "the gradient of " : " and the gradient of ") + parameter;
  result.updated = result.bad.empty() && !(result.gradient_norm > result.skip_norm);
}

}  // namespace

Index slots_per_rank(const Recipe& recipe, int ranks) {
  const Index slots = recipe.batch.slots;
  if (slots % ranks == 0 && (ranks & (ranks - 1)) == 0) return slots / ranks;
  user_error("batch.slots is {}, which {} ranks cannot share in equal parts; start {} ranks or fewer, a power of two{}",
             slots, ranks, slots, ranks > slots ? ", or set batch.slots higher" : "");
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

TrainStep::TrainStep(const Recipe& recipe, Device device, DType dtype, Communicator* communicator)
    : recipe_(recipe),
      device_(device),
      decoder_(recipe.model, dtype, device, true, holds_masters(recipe, dtype, communicator)),
      slots_(decoder_.parameters(), slots_per_rank(recipe, communicator == nullptr ? 1 : communicator->size())),
      ranks_(communicator == nullptr ? alone_ : *communicator, decoder_.parameters(),
             recipe.optimizer.name == OptimizerKind::adamw, recipe.train.bucket_blocks),
      optimizer_(make_optimizer(decoder_.parameters(), recipe.optimizer, ranks_.share())) {
  if (runs_cuda(device)) device_steps_ = std::make_unique<DeviceSteps>(recipe, decoder_, *optimizer_, ranks_);
}

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

/// `last`: of the step, on this rank.
double TrainStep::micro_batch(const Batch& batch, const DropoutPlace& dropout, double weight, bool last) {
  const ModelInputs inputs = model_inputs(batch, weight, decoder_.embedding().dtype(), device_);
  Tape tape;
  Tensor loss;
  {
    const TapeScope scope(tape);
    const TraceScope trace("forward");
    loss = decoder_.loss(inputs, dropout, {.recompute = recipe_.train.recompute, .root = true});
  }
  const TraceScope trace("backward");
  if (last && recipe_.train.overlap) {
    ranks_.reduce_during(tape, sum_of_slots());
  }
  tape.backward(loss);
  return loss.item();
}

void TrainStep::start(const std::vector<Batch>& batches, Index step, double skip_norm) {
  const Communicator& communicator = ranks_.communicator();
  const double busy = communicator.seconds_busy(), waited = communicator.seconds_waited();
  const double sent = communicator.bytes_sent();
  const auto begin = std::chrono::steady_clock::now();
  start_step(batches, step, skip_norm);
  communication_.seconds += std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  communication_.collectives += communicator.seconds_busy() - busy;
  communication_.exposed += communicator.seconds_waited() - waited;
  communication_.bytes_sent += communicator.bytes_sent() - sent;
  ++communication_.steps;
}

Range TrainStep::own_micro_batches() const {
  const Index each = recipe_.batch.slots * recipe_.batch.micro_batches / ranks_.ranks();
  return {each * ranks_.rank(), each * (ranks_.rank() + 1)};
}

/// The targets of all ranks, of which this one has made `own`; what else they count together goes into `result`.
Index TrainStep::count(std::span<const Batch> own, StepResult& result) {
  constexpr std::size_t kNumbers = 4;
  // Whole numbers far below 2^53: their sums are exact.
  std::vector<double> numbers(kNumbers * static_cast<std::size_t>(ranks_.ranks()), 0);
  double* const mine = numbers.data() + kNumbers * static_cast<std::size_t>(ranks_.rank());
  mine[0] = static_cast<double>(count_targets(own));
  for (const Batch& batch : own) {
    mine[1] += static_cast<double>(batch.tokens);
    mine[2] += static_cast<double>(batch.prefixes);
    mine[3] += static_cast<double>(batch.dropped);
  }
  ranks_.gather("counts of the batch", numbers.data(), static_cast<Index>(numbers.size()));
  const auto sum = [&](std::size_t which) {
    double out = 0;
    for (std::size_t at = which; at < numbers.size(); at += kNumbers) out += numbers[at];
    return static_cast<Index>(out);
  };
  result.tokens = sum(1);
  result.prefixes = sum(2);
  result.dropped = sum(3);
  return sum(0);
}

void TrainStep::start_step(const std::vector<Batch>& batches, Index step, double skip_norm) {
  const TraceScope trace("step");
  const Index slots = recipe_.batch.slots, micro_batches = recipe_.batch.micro_batches;
  require(static_cast<Index>(batches.size()) == slots * micro_batches, "TrainStep: {} micro-batches for {} slots of {}",
          batches.size(), slots, micro_batches);
  StepResult result;
  result.step = step;
  result.skip_norm = skip_norm;
  const Range own = own_micro_batches();
  const Index targets = count(
      std::span(batches).subspan(static_cast<std::size_t>(own.begin), static_cast<std::size_t>(own.size())), result);
  const double weight = 1.0 / static_cast<double>(std::max<Index>(targets, 1));
  std::vector<double> losses(batches.size(), 0);
  for (Index number = own.begin; number < own.end; ++number) {
    const Batch& batch = batches[static_cast<std::size_t>(number)];
    const bool last = number + 1 == own.end;
    const DropoutPlace dropout{static_cast<std::uint64_t>(recipe_.seed),
                               static_cast<std::uint32_t>(step),
                               static_cast<std::uint64_t>(number * recipe_.batch.tokens),
                               recipe_.model.dropout,
                               {}};
    if (device_steps_) {
      device_steps_->micro_batch(batch, number, dropout, weight);
      if (last && recipe_.train.overlap) ranks_.reduce_marked(sum_of_slots());
    } else {
      losses[static_cast<std::size_t>(number)] = micro_batch(batch, dropout, weight, last);
    }
    // With ranks the last slot ends bucket by bucket.
    if ((number + 1) % micro_batches == 0 && (ranks_.ranks() == 1 || !slots_.last())) {
      const TraceScope tree("slot tree");
      slots_.finish_slot();
    }
  }
  if (ranks_.ranks() > 1) {
    const TraceScope sum("sum over ranks");
    // Those that were not started while backward went on: train.overlap is false, or nothing but MPI is there for a
    // GPU.
    ranks_.reduce_gradients(sum_of_slots());
    slots_.finish_slot();
    if (!device_steps_) ranks_.gather("losses", losses.data(), slots * micro_batches);
  }
  const TraceScope update_trace("optimiser");
  if (device_steps_) {
    device_steps_->update(learning_rate(step), skip_norm);
  } else {
    result.loss = tree_sum(losses, micro_batches);
    update(result);
  }
  ranks_.gather_values();
  under_way_.push_back(std::move(result));
}

/// On the CPU, with the loss at hand.
void TrainStep::update(StepResult& result) {
  result.gradient_norm = optimizer_->norm();
  describe(result, std::isfinite(result.gradient_norm) ? "" : optimizer_->not_finite());
  if (result.updated) optimizer_->apply(learning_rate(result.step), result.gradient_norm);
  if (!result.updated) clear_gradients(decoder_.parameters());
}

StepResult TrainStep::finish() {
  require(!under_way_.empty(), "TrainStep: no step is under way");
  StepResult result = std::move(under_way_.front());
  under_way_.pop_front();
  if (device_steps_) {
    DeviceSteps::Outcome outcome = device_steps_->wait();
    ranks_.gather("losses", outcome.losses.data(), static_cast<Index>(outcome.losses.size()));
    result.loss = tree_sum(outcome.losses, recipe_.batch.micro_batches);
    result.gradient_norm = outcome.update.norm;
    describe(result, outcome.update.bad);
  }
  return result;
}

}  // namespace unfurl::train
