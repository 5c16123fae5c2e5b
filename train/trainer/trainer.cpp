#include "train/trainer/trainer.h"

#include <fmt/format.h>

#include <algorithm>
#include <limits>
#include <optional>
#include <utility>

#include "core/comm/agree.h"
#include "core/device.h"
#include "core/files.h"
#include "core/names.h"
#include "core/trace.h"
#include "train/generate/expander.h"
#include "train/generate/tokenizer_codec.h"
#include "train/log.h"
#include "train/model/merge.h"
#include "train/model/open_session.h"
#include "train/report/metrics.h"
#include "train/report/progress.h"
#include "train/trainer/checkpoint.h"
#include "train/trainer/checkpoint_writer.h"
#include "train/trainer/open_data.h"
#include "train/trainer/placement.h"
#include "train/trainer/prefix_shares.h"
#include "train/trainer/run.h"
#include "train/trainer/run_files.h"
#include "train/trainer/run_state.h"
#include "train/trainer/same_everywhere.h"
#include "train/trainer/signals.h"
#include "train/trainer/start.h"
#include "train/trainer/step.h"
#include "train/trainer/validate.h"
#include "train/version.h"

namespace unfurl::train {
namespace {

namespace fs = std::filesystem;

constexpr Index kProfiledSteps = 10;

/// What is in a run's folder beside its lock.
std::vector<fs::path> entries_of(const fs::path& folder) {
  std::vector<fs::path> out;
  std::error_code error;
  for (fs::directory_iterator it(folder, error), end; !error && it != end; it.increment(error)) {
    if (it->path().filename() != ".lock") out.push_back(it->path());
  }
  return out;
}

}  // namespace

Run::Run(Recipe recipe, const TrainSettings& settings)
    : recipe_(std::move(recipe)),
      settings_(settings),
      ranks_(settings.ranks == nullptr ? &alone_ : settings.ranks),
      folder_(recipe_.output),
      prefix_shares_(recipe_.train.steps) {
  agree(*ranks_, "start", [&] {
    slots_per_rank(recipe_, ranks_->size());
    placement_ = training_placement_of(recipe_);
    if (is_first()) lock_.emplace(folder_);
  });
  const bool new_folder = is_first() && entries_of(folder_).empty();
  try {
    begin();
  } catch (...) {  // nothing is left of a run that could not begin
    std::error_code ignored;
    if (new_folder) {
      for (const fs::path& entry : entries_of(folder_)) fs::remove_all(entry, ignored);
    }
    throw;
  }
}

void Run::begin() {
  require_one_folder(*ranks_, folder_);
  Allocator::of(placement_.device).reset_peak();  // what run.json tells is this run's, not that of a stage before
  agree_rank_0_first(*ranks_, "data", [&] { data_ = open_data(recipe_, {settings_.fresh, is_first()}); });
  require_same_everywhere(*ranks_, {{"version of the program", program_version()},
                                    {"recipe", dump_recipe(recipe_)},
                                    {"tokenizer", fmt::format("{:016x}", data_.tokenizer->fingerprint())},
                                    {"data", fmt::format("{:016x}", data_.prepared.fingerprint)},
                                    {"device", described(placement_)}});
  agree(*ranks_, "model",
        [&] { step_ = std::make_unique<TrainStep>(recipe_, placement_.device, placement_.dtype, ranks_); });
  step_->ranks().connect({.deterministic = recipe_.train.deterministic_reduction == Toggle::on});
  writer_ = std::make_unique<CheckpointWriter>(folder_, *ranks_);
  if (is_first()) remove_unfinished_checkpoints(folder_);
  std::optional<fs::path> newest;
  if (!settings_.fresh) {
    agree(*ranks_, "checkpoints", [&] {
      if (is_first()) newest = newest_checkpoint(folder_);
    });
    const std::string path = text_of_rank_0(*ranks_, "checkpoints", newest ? newest->string() : "");
    if (!path.empty()) newest = path;
  }
  agree(*ranks_, "weights", [&] { load(newest); });
  if (placement_.device == Device::cuda && ranks_->size() > 1) share_product_choices();
  agree(*ranks_, "folder", [&] {
    if (!is_first()) return;
    // Only now: a mistake in the recipe must not cost the old run. Later ones than that it goes on from are damaged,
    // and would be taken for the newest, of which some are kept.
    remove_checkpoints_after(folder_, newest ? state_.step : -1);
    if (settings_.fresh) fs::remove(folder_ / "run.json");
    write_file(folder_ / "recipe.yaml", dump_recipe(recipe_));
    metrics_ = std::make_unique<MetricsWriter>(folder_ / "metrics.jsonl", newest ? state_.step : -1);
  });
  Progress::Options options = Progress::standard();
  options.quiet = !is_first();
  progress_ = std::make_unique<Progress>(state_.step, recipe_.train.steps, options);
}

/// Those of rank 0 for all: the numbers depend on them, and checkpoints keep these alone.
void Run::share_product_choices() {
  const std::string text = text_of_rank_0(*ranks_, "products", to_json(product_choices()).dump());
  agree(*ranks_, "products", [&] {
    const ProductChoices choices = read_product_choices(Json::parse(text));
    if (!set_product_choices(choices)) {
      fail("the matrix library is {}, that of rank 0 is {}; install the same one on all machines",
           product_choices().library, choices.library);
    }
  });
}

/// From a checkpoint, or anew.
void Run::load(const std::optional<fs::path>& newest) {
  state_.norms = NormWindow(recipe_.train.spikes.window, recipe_.train.spikes.threshold);
  if (newest) {
    restore(*newest);
    seconds_before_ = state_.seconds;
    data_.loader->seek(state_.loader);
    info("goes on from {}", newest->string());
    if (const std::string now = described(placement_); !state_.placement.empty() && state_.placement != now) {
      warn("this run was on {} and goes on on {}: its numbers are not those it would have had there", state_.placement,
           now);
    }
  } else {
    if (!settings_.fresh && !checkpoint_steps(folder_).empty()) {
      user_error("no checkpoint in {} is whole; start over with --fresh, or set another output", folder_.string());
    }
    const WholeMasters masters(step_->decoder().parameters());
    const bool from_simulated = start_weights(step_->decoder(), recipe_, *data_.tokenizer, data_.tokenizer_path);
    state_.simulated = from_simulated || data_.prepared.simulated();
  }
  if (placement_.device == Device::cuda && !(newest && set_product_choices(state_.products))) {
    if (newest && !state_.products.library.empty()) {
      warn("{} is another matrix library than the run had ({}): its numbers are not those it would have had",
           product_choices().library, state_.products.library);
    }
    set_product_choices({product_choices().library, {}});
    const LoaderState before = data_.loader->state();
    step_->tune(data_.loader->next(1)[0]);
    data_.loader->seek(before);
  }
}

/// Weights, the optimiser's state and all numbers of the run; the loader is left where it is.
void Run::restore(const fs::path& checkpoint) {
  state_ = read_run_state(verify_checkpoint(checkpoint), checkpoint, recipe_, data_.prepared.fingerprint);
  state_.simulated = state_.simulated || data_.prepared.simulated();
  saved_ = begun_ = state_.step;
  step_->optimizer().set_steps(state_.updates);
  const WholeMasters masters(step_->decoder().parameters());
  read_tensors(checkpoint / "model.safetensors", named_tensors(step_->decoder().parameters()));
  read_optimizer(checkpoint, step_->optimizer().state());
  step_->decoder().parameters().round_values();
}

/// Starts the next step and finishes the one before. A device that is not waited for has the next step's work when it
/// is done with this one's.
void Run::start_step() {
  const Index step = started() + 1;
  const double progress =
      recipe_.train.steps > 1 ? static_cast<double>(step - 1) / static_cast<double>(recipe_.train.steps - 1) : 1;
  const double rate = prefix_dropout_rate(recipe_.prefix, progress);
  const std::vector<Batch> batches = data_.loader->next(
      recipe_.batch.slots * recipe_.batch.micro_batches,
      {static_cast<std::uint32_t>(step), rate, recipe_.data.unconditional_share}, step_->own_micro_batches());
  Begun begun{state_.norms.limit(step), rate, {}};
  for (const Batch& batch : batches) {
    begun.examples.insert(begun.examples.end(), batch.examples.begin(), batch.examples.end());
  }
  const bool goes_on = recipe_.train.spikes.policy == SpikePolicy::go_on;
  step_->start(batches, step, goes_on ? std::numeric_limits<double>::infinity() : begun.limit);
  begun_steps_.push_back(std::move(begun));
  if (!runs_cuda(step_->device()) || step_->under_way() > 1) finish_step();
}

/// Takes note of the earliest step under way.
void Run::finish_step() {
  const StepResult result = step_->finish();
  const Index step = result.step;
  state_.step = step;
  state_.tokens += result.tokens;
  progress_->update(step, result.tokens, result.loss);
  if (recipe_.prefix.mode == PrefixPolicy::dropout) {
    prefix_shares_.add(step, result.prefixes, result.dropped, begun_steps_.front().prefix_dropout);
    if (step % recipe_.train.log_every == 0 || prefix_shares_.ends_tenth()) write_prefix_shares();
  }
  const double limit = begun_steps_.front().limit;
  const bool spike = result.bad.empty() && result.gradient_norm > limit;
  state_.norms.add(step, result.gradient_norm, limit);
  if (!result.bad.empty()) {
    note_not_finite(result);
  } else {
    state_.bad_steps = 0;
  }
  if (spike) note_spike(result, limit);
  begun_steps_.pop_front();
  look_around();
  if (metrics_ && (step % recipe_.train.log_every == 0 || step == recipe_.train.steps || !result.updated)) {
    metrics_->write(StepMetrics{step, result.loss, step_->learning_rate(step), result.gradient_norm, state_.tokens,
                                progress_->tokens_per_second(), seconds()});
  }
}

void Run::write_prefix_shares() {
  const Json line = prefix_shares_.take();
  if (metrics_ && !line.is_null()) metrics_->write(line);
}

/// After a step: whether a signal has come, so that all ranks stop after the same one, and whether a checkpoint that
/// was begun is written everywhere.
void Run::look_around() {
  const auto ranks = static_cast<std::size_t>(ranks_->size()), rank = static_cast<std::size_t>(ranks_->rank());
  std::vector<double> told(2 * ranks, 0);
  told[2 * rank] = StopSignals::received();
  told[2 * rank + 1] = writer_->busy() && writer_->written();
  step_->ranks().gather("signals", told.data(), 2 * ranks_->size());
  bool written = true;
  for (std::size_t r = 0; r < ranks; ++r) {
    signal_ = std::max(signal_, static_cast<int>(told[2 * r]));
    written = written && told[2 * r + 1] != 0;
  }
  if (written) try_checkpoint([&] { finish_checkpoint(); });
}

void Run::finish_steps() {
  while (step_->under_way() > 0) finish_step();
}

void Run::do_validation() {
  if (!data_.validation) return;
  progress_->pause();
  Validation found = validate(step_->decoder(), *data_.validation, data_.validation_sources,
                              recipe_.train.validation_tokens, step_->ranks());
  // Of a text that is seen in part, what is predicted has not all of its bytes.
  const Objective objective = recipe_.data.objective;
  if (objective == Objective::ul2 || objective == Objective::prefix_lm) found.bits_per_byte = 0;
  const bool best = state_.note_validation(found.loss);
  if (metrics_)
    metrics_->write(ValidationMetrics{state_.step, found.loss, found.bits_per_byte, found.targets, seconds(), best});
  progress_->clear();
  info("step {}: validation loss {:.4f}{}{}", state_.step, found.loss,
       found.bits_per_byte > 0 ? fmt::format(", {:.4f} bits per byte", found.bits_per_byte) : "",
       best ? " (best)" : "");
  write_samples();
  progress_->resume();
}

void Run::write_samples() {
  if (recipe_.samples.queries.empty()) return;
  // What is trained by a method cannot generate.
  const bool full = recipe_.model.tuning.method == Method::full;
  const std::unique_ptr<WholeMasters> masters = full ? nullptr : step_->ranks().gather_masters();
  if (!is_first()) return;
  const std::unique_ptr<Decoder> plain = full ? nullptr : merged(step_->decoder(), placement_.dtype, placement_.device);
  const std::unique_ptr<LanguageModel> session = open_session(full ? step_->decoder() : *plain);
  const TokenizerCodec codec(data_.tokenizer);
  Expander expander(*session, codec);
  const ExpandSettings settings = expand_settings(recipe_.samples, recipe_.seed);
  for (const std::string& query : recipe_.samples.queries) {
    const Expansions found = expand_or_return(expander, query, settings);
    SampleMetrics sample{state_.step, query, recipe_.samples.prefix, {}};
    for (const Expansion& expansion : found.items) sample.expansions.push_back(expansion.text);
    metrics_->write(sample);
  }
}

void Run::write_run_file(bool finished) const {
  RunFigures figures;
  figures.parameters = step_->decoder().parameters().count();
  figures.trained = trained();
  figures.finished = finished;
  figures.saved = saved_;
  figures.seconds = seconds();
  figures.placement = placement_;
  figures.ranks = ranks_->size();
  figures.communication = step_->communication();
  write_run_json(folder_, recipe_, state_, figures);
}

TrainOutcome Run::train() {
  const StopSignals signals;
  const TrainConfig& config = recipe_.train;
  const Index first = state_.step;
  const auto stopped_early = [&] {
    return config.early_stop_patience > 0 && state_.without_gain >= config.early_stop_patience;
  };
  if (first > 0 && (first >= config.steps || stopped_early())) {
    info("{}: this run is done; --fresh starts it over", recipe_.name);
  }
  const Index parameters = step_->decoder().parameters().count();
  info("{}: {} parameters{}, {} {} to train on, {} tokens a step", recipe_.name, grouped(parameters),
       trained() == parameters ? "" : fmt::format(", of which {} are trained", grouped(trained())),
       grouped(data_.loader->examples()),
       plural(data_.loader->examples(), recipe_.data.objective == Objective::pairs ? "pair" : "text"),
       grouped(recipe_.batch.slots * recipe_.batch.micro_batches * recipe_.batch.tokens));
  info("{}: on {}{}", recipe_.name, described(placement_),
       ranks_->size() == 1 ? "" : fmt::format(", {}", step_->ranks().description()));
  if (state_.simulated) info("{}: on SIMULATED data: no real images are behind it", recipe_.name);
  if (settings_.profile && is_first()) Trace::start();
  const auto write_trace = [&] {
    if (Trace::active()) Trace::write(folder_ / "trace.json");
  };
  while (started() < config.steps && !stopped_early() && signal_ == 0) {
    start_step();
    if (spike_ > 0 && rewind()) continue;
    if (started() == first + kProfiledSteps) write_trace();
    const bool last = started() == config.steps;
    const bool validated = last || (config.validate_every > 0 && started() % config.validate_every == 0);
    const bool due = config.checkpoint_every > 0 && started() % config.checkpoint_every == 0;
    if (validated || due) finish_steps();
    if (validated) do_validation();
    if (!last && (due || (validated && state_.best_step == state_.step))) {
      finish_begun_checkpoint();
      try_checkpoint([&] { begin_checkpoint(); });
    }
  }
  finish_steps();
  write_trace();
  TrainOutcome outcome;
  const int signal = signal_;
  const bool finished = state_.step >= config.steps || stopped_early();
  progress_->clear();
  finish_begun_checkpoint();
  if (saved_ != state_.step && state_.step > 0) {
    try {
      begin_checkpoint();
      finish_checkpoint();
    } catch (const Diverged&) {
      throw;
    } catch (const Error& error) {
      throw AgreedError(fmt::format("the last checkpoint could not be written: {}; free space in {} and run again",
                                    error.what(), folder_.string()));
    }
  }
  agree(*ranks_, "end", [&] {
    if (!is_first()) return;
    write_run_file(finished);
    write_run_report(folder_, recipe_, state_, step_->decoder().parameters().count(), seconds());
  });
  if (signal != 0 && !finished) {
    info("stopped at step {}; the same command goes on from there", state_.step);
    outcome.exit_code = 128 + signal;
  } else {
    if (state_.step < config.steps) {
      info("{}: stopped early after {} {} without a better one", recipe_.name, state_.without_gain,
           plural(state_.without_gain, "validation"));
    }
    info("{}: step {}, best validation loss {} at step {}, {}", recipe_.name, state_.step,
         state_.best_step > 0 ? fmt::format("{:.4f}", state_.best_loss) : "n/a", state_.best_step, duration(seconds()));
  }
  if (const Communication& c = step_->communication(); ranks_->size() > 1 && c.steps > 0) {
    const double ms = 1e3 / static_cast<double>(c.steps);
    info("{}: a step took {:.1f} ms; collectives were under way for {:.1f} ms of it, {:.1f} ms were waited for them",
         recipe_.name, c.seconds * ms, c.collectives * ms, c.exposed * ms);
  }
  outcome.step = state_.step;
  outcome.best_step = state_.best_step;
  outcome.best_loss = state_.best_loss;
  outcome.finished = finished;
  return outcome;
}

TrainOutcome train_stage(Recipe recipe, const TrainSettings& settings) {
  return Run(std::move(recipe), settings).train();
}

}  // namespace unfurl::train
