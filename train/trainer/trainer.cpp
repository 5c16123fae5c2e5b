#include "train/trainer/trainer.h"

#include <fmt/format.h>

#include <algorithm>
#include <deque>
#include <functional>
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
#include "train/trainer/run_files.h"
#include "train/trainer/run_state.h"
#include "train/trainer/same_everywhere.h"
#include "train/trainer/signals.h"
#include "train/trainer/spikes.h"
#include "train/trainer/start.h"
#include "train/trainer/step.h"
#include "train/trainer/validate.h"
#include "train/version.h"

namespace unfurl::train {
namespace {

namespace fs = std::filesystem;

constexpr Index kProfiledSteps = 10;

/// The weights are not finite, on every rank.
class Diverged : public AgreedError {
 public:
  using AgreedError::AgreedError;
};

/// What is in a run's folder beside its lock.
std::vector<fs::path> entries_of(const fs::path& folder) {
  std::vector<fs::path> out;
  std::error_code error;
  for (fs::directory_iterator it(folder, error), end; !error && it != end; it.increment(error)) {
    if (it->path().filename() != ".lock") out.push_back(it->path());
  }
  return out;
}

class Run {
 public:
  Run(Recipe recipe, const TrainSettings& settings);
  TrainOutcome train();

 private:
  void begin();
  void load(const std::optional<fs::path>& newest);
  void share_product_choices();
  void restore(const fs::path& checkpoint);
  void start_step();
  void finish_step();
  void note_not_finite(const StepResult& result);
  void note_spike(const StepResult& result, double limit);
  bool rewind();
  void look_around();
  void finish_steps();
  void do_validation();
  void write_samples();
  void begin_checkpoint();
  void finish_checkpoint();
  void finish_begun_checkpoint();
  void try_checkpoint(const std::function<void()>& body);
  void write_prefix_shares();
  void write_run_file(bool finished) const;
  Index trained() const {
    const Parameters& parameters = step_->decoder().parameters();
    return parameters.count() - parameters.count(ParameterGroup::frozen);
  }
  bool is_first() const { return ranks_->rank() == 0; }
  double seconds() const { return seconds_before_ + progress_->seconds(); }
  /// Of the last step that was started.
  Index started() const { return state_.step + step_->under_way(); }

  Recipe recipe_;
  TrainSettings settings_;
  Communicator alone_;
  Communicator* ranks_;  // of which rank 0 alone writes to the folder, but for the parts of checkpoints
  Placement placement_;
  fs::path folder_;
  std::optional<FolderLock> lock_;
  TrainingData data_;
  std::unique_ptr<TrainStep> step_;
  std::unique_ptr<CheckpointWriter> writer_;
  std::unique_ptr<MetricsWriter> metrics_;
  std::unique_ptr<Progress> progress_;
  PrefixShares prefix_shares_;

  RunState state_;             // its loader, updates and seconds are brought up to date for a checkpoint
  double seconds_before_ = 0;  // of earlier sessions
  Index saved_ = -1;           // the step of the last checkpoint that is whole
  Index begun_ = -1;           // the step of the last that was begun
  int signal_ = 0;             // that stops the run: the greatest that any rank has received
  struct Begun {
    double limit = 0;                    // of its gradient's norm: above it is an outlier
    double prefix_dropout = 0;           // at which it was drawn
    std::vector<std::int64_t> examples;  // of the batch
  };
  std::deque<Begun> begun_steps_;  // those under way
  Index spike_ = 0;                // the step from which to go back; 0: none
  Json spike_line_;                // of the metrics, of that step
  Index rewinds_ = 0;              // since the last checkpoint
};

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

/// None is under way.
void Run::begin_checkpoint() {
  state_.updates = step_->optimizer().steps();
  state_.seconds = seconds();
  state_.loader = data_.loader->state();
  state_.placement = described(placement_);
  state_.products = placement_.device == Device::cuda ? product_choices() : ProductChoices();
  const std::unique_ptr<WholeMasters> masters = step_->ranks().gather_masters();
  write_prefix_shares();  // before the checkpoint is there: a run that goes on from it counts from it
  CheckpointContent content;
  content.step = begun_ = state_.step;
  if (is_first()) content.model = named_tensors(step_->decoder().parameters());
  content.optimizer = step_->optimizer().state();
  content.tokenizer = data_.tokenizer_path;
  content.state = to_json(state_, recipe_, data_.prepared.fingerprint);
  writer_->begin(std::move(content), CheckpointWriter::Tensors::copied);
}

/// Throws Diverged, Error where the disk does not take it.
void Run::finish_checkpoint() {
  if (metrics_) metrics_->sync();
  try {
    writer_->finish();
  } catch (const NotFinite& error) {
    throw Diverged(error.what());
  }
  saved_ = begun_;
  rewinds_ = 0;
  if (!is_first()) return;
  try {
    prune_checkpoints(folder_, {recipe_.train.keep, recipe_.train.keep_every, state_.best_step});
    write_run_file(false);
  } catch (const std::exception& error) {  // the checkpoint is whole, and the other ranks know nothing of this
    progress_->clear();
    warn("after the checkpoint of step {}: {}", saved_, error.what());
  }
}

void Run::finish_begun_checkpoint() {
  if (writer_->busy()) try_checkpoint([&] { finish_checkpoint(); });
}

/// A disk that does not take a checkpoint does not end the run.
void Run::try_checkpoint(const std::function<void()>& body) {
  progress_->pause();
  try {
    body();
  } catch (const Diverged&) {  // no step mends them
    throw;
  } catch (const Error& error) {
    progress_->clear();
    warn("{}; training goes on", error.what());
  }
  progress_->resume();
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

}  // namespace

TrainOutcome train_stage(Recipe recipe, const TrainSettings& settings) {
  return Run(std::move(recipe), settings).train();
}

}  // namespace unfurl::train
