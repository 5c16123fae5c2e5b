#include "train/trainer/trainer.h"

#include <fmt/format.h>
#include <sys/resource.h>

#include <algorithm>
#include <optional>
#include <sstream>

#include "core/comm/agree.h"
#include "core/device.h"
#include "core/files.h"
#include "core/names.h"
#include "core/trace.h"
#include "train/data/denoise.h"
#include "train/data/prepare.h"
#include "train/generate/expander.h"
#include "train/generate/tokenizer_codec.h"
#include "train/log.h"
#include "train/model/merge.h"
#include "train/model/open_session.h"
#include "train/report/html_report.h"
#include "train/report/metrics.h"
#include "train/report/progress.h"
#include "train/trainer/checkpoint.h"
#include "train/trainer/placement.h"
#include "train/trainer/prefix_shares.h"
#include "train/trainer/run_state.h"
#include "train/trainer/signals.h"
#include "train/trainer/start.h"
#include "train/trainer/step.h"
#include "train/trainer/validate.h"
#include "train/version.h"

namespace unfurl::train {
namespace {

namespace fs = std::filesystem;

constexpr Index kProfiledSteps = 10;

/// Bytes, the greatest this process has held.
std::size_t peak_process_memory() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return static_cast<std::size_t>(usage.ru_maxrss) * 1024;
}

/// The weights are not finite, on every rank.
class Diverged : public AgreedError {
 public:
  using AgreedError::AgreedError;
};

/// "train.steps is 50, there 40".
std::string difference(const std::string& here, const std::string& there) {
  std::istringstream a(here), b(there);
  for (std::string x, y; std::getline(a, x) && std::getline(b, y);) {
    if (x != y) return fmt::format("\"{}\" there, \"{}\" on rank 0", y, x);
  }
  return "one is longer";
}

/// The tokenizer of the run: the recipe's, else that of the checkpoint it starts from, else one made from its data,
/// which a run that goes on keeps. `first`: this is the rank that makes it for all.
fs::path tokenizer_path(const Recipe& recipe, bool fresh, bool first) {
  if (!recipe.tokenizer.path.empty()) return recipe.tokenizer.path;
  if (!recipe.start.empty()) return resolve_checkpoint(recipe.start) / "tokenizer.model";
  const fs::path own = fs::path(recipe.output) / "tokenizer.model";
  if (first && (fresh || !fs::exists(own) || checkpoint_steps(recipe.output).empty())) train_tokenizer(recipe, own);
  return own;
}

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
  void open_data();
  void load(const std::optional<fs::path>& newest);
  void resume(const fs::path& checkpoint);
  void start_step();
  void finish_step();
  void agree_on_signal();
  void finish_steps();
  void do_validation();
  void write_samples();
  void write_checkpoint_now();
  void try_checkpoint();
  void write_prefix_shares();
  void write_run_file(bool finished);
  void write_report();
  void check_same_everywhere();
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
  fs::path tokenizer_path_;
  std::shared_ptr<const Tokenizer> tokenizer_;
  PreparedData data_;
  std::vector<Source> validation_sources_;
  std::unique_ptr<BatchLoader> loader_;
  std::unique_ptr<FixedBatches> validation_;
  std::unique_ptr<TrainStep> step_;
  std::unique_ptr<MetricsWriter> metrics_;
  std::unique_ptr<Progress> progress_;
  PrefixShares prefix_shares_;

  RunState state_;             // its loader, updates and seconds are brought up to date for a checkpoint
  double seconds_before_ = 0;  // of earlier sessions
  Index saved_ = -1;           // the step of the last checkpoint
  int signal_ = 0;             // that stops the run: the greatest that any rank has received
};

Run::Run(Recipe recipe, const TrainSettings& settings)
    : recipe_(std::move(recipe)),
      settings_(settings),
      ranks_(settings.ranks == nullptr ? &alone_ : settings.ranks),
      folder_(recipe_.output),
      prefix_shares_(recipe_.train.steps) {
  agree(*ranks_, "start", [&] {
    placement_ = placement_of(recipe_);
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
  Allocator::of(placement_.device).reset_peak();  // what run.json tells is this run's, not that of a stage before
  agree_rank_0_first(*ranks_, "data", [&] { open_data(); });
  check_same_everywhere();
  agree(*ranks_, "model",
        [&] { step_ = std::make_unique<TrainStep>(recipe_, placement_.device, placement_.dtype, ranks_); });
  std::optional<fs::path> newest;
  if (!settings_.fresh) {
    agree(*ranks_, "checkpoints", [&] {
      if (is_first()) newest = newest_checkpoint(folder_);
    });
    const std::string path = text_of_rank_0(*ranks_, "checkpoints", newest ? newest->string() : "");
    if (!path.empty()) newest = path;
  }
  agree(*ranks_, "weights", [&] { load(newest); });
  if (settings_.fresh && is_first()) {  // only now: a mistake in the recipe must not cost the old run
    for (const Index step : checkpoint_steps(folder_)) fs::remove_all(checkpoint_path(folder_, step));
    fs::remove(folder_ / "run.json");
  }
  agree(*ranks_, "folder", [&] {
    if (!is_first()) return;
    write_file(folder_ / "recipe.yaml", dump_recipe(recipe_));
    metrics_ = std::make_unique<MetricsWriter>(folder_ / "metrics.jsonl", newest ? state_.step : -1);
  });
  Progress::Options options = Progress::standard();
  options.quiet = !is_first();
  progress_ = std::make_unique<Progress>(state_.step, recipe_.train.steps, options);
}

/// From a checkpoint, or anew.
void Run::load(const std::optional<fs::path>& newest) {
  if (newest) {
    resume(*newest);
  } else {
    if (!settings_.fresh && !checkpoint_steps(folder_).empty()) {
      user_error("no checkpoint in {} is whole; start over with --fresh, or set another output", folder_.string());
    }
    start_weights(step_->decoder(), recipe_, *tokenizer_, tokenizer_path_);
  }
  if (placement_.device == Device::cuda && !(newest && set_product_choices(state_.products))) {
    if (newest && !state_.products.library.empty()) {
      warn("{} is another matrix library than the run had ({}): its numbers are not those it would have had",
           product_choices().library, state_.products.library);
    }
    set_product_choices({product_choices().library, {}});
    const LoaderState before = loader_->state();
    step_->tune(loader_->next(1)[0]);
    loader_->seek(before);
  }
}

/// Ranks that are not of one run would train something that nobody asked for.
void Run::check_same_everywhere() {
  const std::vector<std::pair<const char*, std::string>> own = {
      {"version of the program", program_version()},
      {"recipe", dump_recipe(recipe_)},
      {"tokenizer", fmt::format("{:016x}", tokenizer_->fingerprint())},
      {"data", fmt::format("{:016x}", data_.fingerprint)},
      {"device", described(placement_)},
  };
  for (const auto& [what, text] : own) {
    const std::vector<std::string> all = ranks_->gather_texts("comparison of the ranks", text);
    agree(*ranks_, "comparison of the ranks", [&, what = what] {
      for (std::size_t rank = 1; rank < all.size() && is_first(); ++rank) {
        if (all[rank] == all[0]) continue;
        const std::string how =
            std::string_view(what) == "recipe" ? fmt::format(" ({})", difference(all[0], all[rank])) : "";
        user_error("rank {} has another {} than rank 0{}; start the same program with the same recipe on all ranks",
                   rank, what, how);
      }
    });
  }
}

void Run::open_data() {
  tokenizer_path_ = tokenizer_path(recipe_, settings_.fresh, is_first());
  tokenizer_ = std::make_shared<const Tokenizer>(tokenizer_path_);
  if (recipe_.model.vocab_size != 0 && recipe_.model.vocab_size != tokenizer_->vocab_size()) {
    user_error("model.vocab_size is {}, but the tokenizer {} has {} pieces; leave model.vocab_size out",
               recipe_.model.vocab_size, tokenizer_path_.string(), tokenizer_->vocab_size());
  }
  recipe_.model.vocab_size = tokenizer_->vocab_size();
  data_ = prepare_data(recipe_.data, *tokenizer_, folder_.parent_path());
  LoaderConfig config;
  config.tokens = recipe_.batch.tokens;
  config.max_documents = recipe_.batch.documents;
  config.context = std::min(recipe_.data.context, recipe_.batch.tokens);
  config.soft_rows = recipe_.model.soft_rows();
  config.objective = recipe_.data.objective;
  config.sentinels = tokenizer_->sentinels();
  if (const Index needed = sentinels_needed(config.objective, config.context); needed > config.sentinels) {
    user_error(
        "objective ul2 with sequences of {} tokens takes {} sentinels, the tokenizer {} has {}; train one with "
        "tokenizer.sentinels: {}",
        config.context, needed, tokenizer_path_.string(), config.sentinels, needed);
  }
  config.seed = static_cast<std::uint64_t>(recipe_.seed);
  config.subword_sampling = recipe_.data.subword_sampling;
  config.prefix = recipe_.prefix.mode == PrefixPolicy::none     ? PrefixMode::none
                  : recipe_.prefix.mode == PrefixPolicy::always ? PrefixMode::always
                                                                : PrefixMode::dropout;
  const Index held_out = data_.pairs(Side::validation) + data_.pairs(Side::test);
  const Index training = data_.pairs(Side::base) + data_.pairs(Side::refine) + data_.pairs(Side::given);
  require_training_pairs(training, held_out);
  loader_ = std::make_unique<BatchLoader>(tokenizer_, data_.training(recipe_.data.part), config);
  if (loader_->truncated() > 0) {
    const char* const are = loader_->truncated() == 1 ? "is" : "are";
    warn("{} of {} {} {} longer than the context of {} and {} cut", loader_->truncated(), loader_->examples(),
         plural(loader_->examples(), "pair"), are, config.context, are);
  }
  validation_sources_ = data_.side(Side::validation);
  if (validation_sources_.empty() && recipe_.data.split.validation > 0) {
    warn("no pairs to validate on: all {} fell on the other sides; set data.split.validation, or give more pairs",
         training + held_out);
  }
  if (!validation_sources_.empty()) validation_ = std::make_unique<FixedBatches>(validation_sources_, config);
}

void Run::resume(const fs::path& checkpoint) {
  state_ = read_run_state(verify_checkpoint(checkpoint), checkpoint, recipe_, data_.fingerprint);
  saved_ = state_.step;
  seconds_before_ = state_.seconds;
  loader_->seek(state_.loader);
  step_->optimizer().set_steps(state_.updates);
  read_tensors(checkpoint / "model.safetensors", named_tensors(step_->decoder().parameters()));
  read_optimizer(checkpoint, step_->optimizer().state());
  step_->decoder().parameters().round_values();
  info("goes on from {}", checkpoint.string());
  if (const std::string now = described(placement_); !state_.placement.empty() && state_.placement != now) {
    warn("this run was on {} and goes on on {}: its numbers are not those it would have had there", state_.placement,
         now);
  }
}

/// Starts the next step and finishes the one before. A device that is not waited for has the next step's work when it
/// is done with this one's.
void Run::start_step() {
  const Index step = started() + 1;
  const double progress =
      recipe_.train.steps > 1 ? static_cast<double>(step - 1) / static_cast<double>(recipe_.train.steps - 1) : 1;
  const double rate = prefix_dropout_rate(recipe_.prefix, progress);
  const std::vector<Batch> batches =
      loader_->next(recipe_.batch.slots * recipe_.batch.micro_batches,
                    {static_cast<std::uint32_t>(step), rate, recipe_.data.unconditional_share});
  if (recipe_.prefix.mode == PrefixPolicy::dropout) {
    prefix_shares_.add(step, batches, rate);
    if (step % recipe_.train.log_every == 0 || prefix_shares_.ends_tenth()) write_prefix_shares();
  }
  step_->start(batches, step);
  if (!runs_cuda(step_->device()) || step_->under_way() > 1) finish_step();
}

/// Takes note of the earliest step under way.
void Run::finish_step() {
  const StepResult result = step_->finish();
  const Index step = result.step;
  state_.step = step;
  state_.tokens += result.tokens;
  progress_->update(step, result.tokens, result.loss);
  if (!result.updated) {
    progress_->clear();
    warn("step {}: not finite: {}; the update is skipped", step, result.bad);
    if (++state_.bad_steps >= recipe_.train.non_finite_limit) {
      throw AgreedError(  // every rank has the same numbers
          fmt::format("step {}: not finite: {}; {} {} in a row; lower optimizer.learning_rate, or look at the data",
                      step, result.bad, state_.bad_steps, plural(state_.bad_steps, "time")));
    }
  } else {
    state_.bad_steps = 0;
  }
  agree_on_signal();
  if (metrics_ && (step % recipe_.train.log_every == 0 || step == recipe_.train.steps || !result.updated)) {
    metrics_->write(StepMetrics{step, result.loss, step_->learning_rate(step), result.gradient_norm, state_.tokens,
                                progress_->tokens_per_second(), seconds()});
  }
}

void Run::write_prefix_shares() {
  const Json line = prefix_shares_.take();
  if (metrics_ && !line.is_null()) metrics_->write(line);
}

/// All ranks stop after the same step.
void Run::agree_on_signal() {
  std::vector<double> signals(static_cast<std::size_t>(ranks_->size()), 0);
  signals[static_cast<std::size_t>(ranks_->rank())] = StopSignals::received();
  step_->ranks().gather("signals", signals.data(), ranks_->size());
  signal_ = static_cast<int>(*std::max_element(signals.begin(), signals.end()));
}

void Run::finish_steps() {
  while (step_->under_way() > 0) finish_step();
}

void Run::do_validation() {
  if (!validation_) return;
  progress_->pause();
  Validation found =
      validate(step_->decoder(), *validation_, validation_sources_, recipe_.train.validation_tokens, step_->ranks());
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
  if (recipe_.samples.queries.empty() || !is_first()) return;
  // What is trained by a method cannot generate.
  const bool full = recipe_.model.tuning.method == Method::full;
  const std::unique_ptr<Decoder> plain = full ? nullptr : merged(step_->decoder(), placement_.dtype, placement_.device);
  const std::unique_ptr<LanguageModel> session = open_session(full ? step_->decoder() : *plain);
  const TokenizerCodec codec(tokenizer_);
  Expander expander(*session, codec);
  const ExpandSettings settings = expand_settings(recipe_.samples, recipe_.seed);
  for (const std::string& query : recipe_.samples.queries) {
    const Expansions found = expand_or_return(expander, query, settings);
    SampleMetrics sample{state_.step, query, recipe_.samples.prefix, {}};
    for (const Expansion& expansion : found.items) sample.expansions.push_back(expansion.text);
    metrics_->write(sample);
  }
}

/// Throws Diverged, Error where the disk does not take them.
void Run::write_checkpoint_now() {
  state_.updates = step_->optimizer().steps();
  state_.seconds = seconds();
  state_.loader = loader_->state();
  state_.placement = described(placement_);
  state_.products = placement_.device == Device::cuda ? product_choices() : ProductChoices();
  step_->ranks().gather_masters();
  write_prefix_shares();  // before the checkpoint is there: a run that goes on from it counts from it
  CheckpointContent content;
  content.step = state_.step;
  content.model = named_tensors(step_->decoder().parameters());
  content.optimizer = step_->optimizer().state();
  content.tokenizer = tokenizer_path_;
  content.state = to_json(state_, recipe_, data_.fingerprint);
  try {
    write_checkpoint(folder_, content, *ranks_);
  } catch (const NotFinite& error) {
    throw Diverged(error.what());
  }
  saved_ = state_.step;
  if (!is_first()) return;
  write_run_file(false);
  prune_checkpoints(folder_, recipe_.train.keep, state_.best_step);
}

/// A disk that does not take a checkpoint does not end the run.
void Run::try_checkpoint() {
  progress_->pause();
  try {
    write_checkpoint_now();
  } catch (const Diverged&) {  // no step mends them
    throw;
  } catch (const Error& error) {
    progress_->clear();
    warn("{}; training goes on", error.what());
  }
  progress_->resume();
}

void Run::write_run_file(bool finished) {
  const MemoryStatistics memory = Allocator::of(placement_.device).statistics();
  Json run = Json::object();
  run["name"] = recipe_.name;
  run["step"] = state_.step;
  run["steps"] = recipe_.train.steps;
  run["finished"] = finished;
  run["best_step"] = state_.best_step > 0 ? state_.best_step : saved_;
  run["best_loss"] = state_.best_step > 0 ? Json(state_.best_loss) : Json();
  run["tokens"] = state_.tokens;
  run["seconds"] = seconds();
  run["parameters"] = step_->decoder().parameters().count();
  run["trained_parameters"] = trained();
  run["placement"] = described(placement_);
  run["ranks"] = ranks_->size();
  run["peak_allocated_bytes"] = static_cast<std::int64_t>(memory.peak);
  run["peak_process_bytes"] = static_cast<std::int64_t>(peak_process_memory());
  write_file(folder_ / "run.json", run.dump(2) + "\n");
}

void Run::write_report() {
  HtmlReport report("unfurl: " + recipe_.name, folder_.string());
  report.add_figures(
      {{"parameters", grouped(step_->decoder().parameters().count())},
       {"steps", grouped(state_.step)},
       {"tokens", grouped(state_.tokens)},
       {"time", duration(seconds())},
       {"best validation loss", state_.best_step > 0 ? fmt::format("{:.4f}", state_.best_loss) : "n/a"}});
  const std::vector<Json> metrics = read_metrics(folder_ / "metrics.jsonl");
  report.add_metrics(metrics);
  if (const auto rows = prefix_table(prefix_tenths(metrics, recipe_.train.steps)); !rows.empty()) {
    report.add_table("Dropped prefixes",
                     {"tenth of the run", "pairs with a prefix", "dropped", "schedule", "standard errors"}, rows);
  }
  report.add_text("Recipe", dump_recipe(recipe_));
  report.write(folder_ / "report.html");
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
       grouped(loader_->examples()),
       plural(loader_->examples(), recipe_.data.objective == Objective::pairs ? "pair" : "text"),
       grouped(recipe_.batch.slots * recipe_.batch.micro_batches * recipe_.batch.tokens));
  info("{}: on {}{}", recipe_.name, described(placement_),
       ranks_->size() == 1 ? "" : fmt::format(", {}", ranks_->description()));
  if (settings_.profile && is_first()) Trace::start();
  const auto write_trace = [&] {
    if (Trace::active()) Trace::write(folder_ / "trace.json");
  };
  while (started() < config.steps && !stopped_early() && signal_ == 0) {
    start_step();
    if (started() == first + kProfiledSteps) write_trace();
    const bool last = started() == config.steps;
    const bool validated = last || (config.validate_every > 0 && started() % config.validate_every == 0);
    const bool due = config.checkpoint_every > 0 && started() % config.checkpoint_every == 0;
    if (validated || due) finish_steps();
    if (validated) do_validation();
    if (!last && (due || (validated && state_.best_step == state_.step))) try_checkpoint();
  }
  finish_steps();
  write_trace();
  TrainOutcome outcome;
  const int signal = signal_;
  const bool finished = state_.step >= config.steps || stopped_early();
  progress_->clear();
  if (saved_ != state_.step && state_.step > 0) {
    try {
      write_checkpoint_now();
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
    write_report();
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
