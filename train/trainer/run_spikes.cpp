#include <fmt/format.h>

#include <utility>

#include "core/names.h"
#include "train/log.h"
#include "train/trainer/checkpoint.h"
#include "train/trainer/run.h"
#include "train/trainer/spikes.h"

namespace unfurl::train {

void Run::note_not_finite(const StepResult& result) {
  progress_->clear();
  warn("step {}: not finite: {}; the update is skipped", result.step, result.bad);
  if (++state_.bad_steps < recipe_.train.non_finite_limit) return;
  throw AgreedError(  // every rank has the same numbers
      fmt::format("step {}: not finite: {}; {} {} in a row; lower optimizer.learning_rate, or look at the data",
                  result.step, result.bad, state_.bad_steps, plural(state_.bad_steps, "time")));
}

void Run::note_spike(const StepResult& result, double limit) {
  const SpikePolicy policy = recipe_.train.spikes.policy;
  progress_->clear();
  warn("step {}: a spike: the gradient's norm is {:.3g}, the limit {:.3g}{}", result.step, result.gradient_norm, limit,
       policy == SpikePolicy::go_on ? "" : "; the update is skipped");
  Json line;
  if (metrics_) {
    std::vector<std::string> pairs;
    for (const std::int64_t example : begun_steps_.front().examples) {
      const auto [source, pair] = data_.loader->locate(example);
      const Shard& shard = data_.loader->source(source);
      const std::string_view id = shard.id(pair);
      pairs.push_back(id.empty() ? fmt::format("{}:{}", shard.path().filename().string(), pair) : std::string(id));
    }
    line = spike_line(result.step, result.gradient_norm, limit, names(policy)[static_cast<std::size_t>(policy)],
                      std::move(pairs));
    metrics_->write(line);
  }
  if (policy != SpikePolicy::rewind || spike_ != 0) return;
  spike_ = result.step;
  spike_line_ = std::move(line);
}

/// Back to the last regular checkpoint before the spike, and on with the pairs after it. A run that is stopped in
/// between comes to the same spike, and does the same. False where there is none.
bool Run::rewind() {
  finish_steps();
  finish_begun_checkpoint();
  const Index spike = std::exchange(spike_, 0);
  std::string path;
  agree(*ranks_, "checkpoints", [&] {
    if (!is_first()) return;
    const Index every = recipe_.train.checkpoint_every;
    const auto newest =
        newest_checkpoint(folder_, [&](Index step) { return step < spike && every > 0 && step % every == 0; });
    if (newest) path = newest->string();
  });
  path = text_of_rank_0(*ranks_, "checkpoints", path);
  if (path.empty()) {
    warn("step {}: there is no checkpoint before the spike to go back to; training goes on without its update", spike);
    return false;
  }
  if (++rewinds_ > recipe_.train.spikes.rewinds) {
    throw AgreedError(
        fmt::format("step {}: a spike again, {} {} after going back to {}; lower optimizer.learning_rate, or look at "
                    "the pairs that "
                    "metrics.jsonl names",
                    spike, recipe_.train.spikes.rewinds, plural(recipe_.train.spikes.rewinds, "time"), path));
  }
  agree(*ranks_, "weights", [&] { restore(path); });
  agree(*ranks_, "folder", [&] {
    if (!is_first()) return;
    remove_checkpoints_after(folder_, state_.step);
    metrics_.reset();
    metrics_ = std::make_unique<MetricsWriter>(folder_ / "metrics.jsonl", state_.step);
    spike_line_["kind"] = "rewind";  // the line of the spike itself is gone with those of the steps up to it
    spike_line_["step"] = state_.step;
    spike_line_["from"] = spike;
    metrics_->write(spike_line_);
  });
  prefix_shares_ = PrefixShares(recipe_.train.steps);
  warn("back to step {}; the pairs up to the spike are left out", state_.step);
  return true;
}

}  // namespace unfurl::train
