#include "train/trainer/trainer.h"

#include <fmt/format.h>
#include <sys/resource.h>

#include <algorithm>
#include <cmath>
#include <csignal>
#include <limits>

#include "core/files.h"
#include "core/trace.h"
#include "train/data/prepare.h"
#include "train/generate/expander.h"
#include "train/generate/tokenizer_codec.h"
#include "train/log.h"
#include "train/model/session.h"
#include "train/report/html_report.h"
#include "train/report/metrics.h"
#include "train/report/progress.h"
#include "train/trainer/checkpoint.h"
#include "train/trainer/signals.h"
#include "train/trainer/step.h"
#include "train/trainer/validate.h"

namespace unfurl::train {
namespace {

namespace fs = std::filesystem;

constexpr Index kProfiledSteps = 10;

/// What a run's numbers depend on: the recipe without what it may change between sessions.
std::string identity(Recipe recipe) {
  recipe.name = recipe.output = "";
  // The data's fingerprint stands for a tokenizer that was there before; the run's own follows from these keys.
  if (!recipe.tokenizer.path.empty() || !recipe.start.empty()) recipe.tokenizer = {};
  recipe.data.sources.clear();
  recipe.samples = {};
  recipe.eval = {};
  const TrainConfig standard;
  recipe.train.log_every = standard.log_every;
  recipe.train.validate_every = standard.validate_every;
  recipe.train.validation_tokens = standard.validation_tokens;
  recipe.train.checkpoint_every = standard.checkpoint_every;
  recipe.train.keep = standard.keep;
  recipe.train.recompute = standard.recompute;  // gives the same bits
  return dump_recipe(recipe);
}

/// "model.width was 64, is 32": the first key in which two recipes differ.
std::string first_difference(const Node& was, const Node& is, const std::string& key = "") {
  for (const Node& member : was.items) {
    const Node* const other = is.find(member.key);
    if (other == nullptr || to_yaml(member) == to_yaml(*other)) continue;
    const std::string name = key + member.key;
    if (member.kind == Node::Kind::map) return first_difference(member, *other, name + ".");
    return fmt::format("{} was {}, is {}", name, member.described(), other->described());
  }
  return "the recipe";
}

/// Bytes, the greatest this process has held.
std::size_t peak_process_memory() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return static_cast<std::size_t>(usage.ru_maxrss) * 1024;
}

/// The tokenizer of the run: the recipe's, else that of the checkpoint it starts from, else one made from its data,
/// which a run that goes on keeps.
fs::path tokenizer_path(const Recipe& recipe, bool fresh) {
  if (!recipe.tokenizer.path.empty()) return recipe.tokenizer.path;
  if (!recipe.start.empty()) return resolve_checkpoint(recipe.start) / "tokenizer.model";
  const fs::path own = fs::path(recipe.output) / "tokenizer.model";
  if (fresh || !fs::exists(own) || checkpoint_steps(recipe.output).empty()) train_tokenizer(recipe, own);
  return own;
}

class Run {
 public:
  Run(Recipe recipe, const TrainSettings& settings);
  TrainOutcome train();

 private:
  void open_data();
  void start_from(const fs::path& checkpoint);
  bool resume();
  void read_state(const Json& state, const fs::path& checkpoint);
  void do_step();
  void do_validation();
  void write_samples();
  void write_checkpoint_now();
  void try_checkpoint();
  void write_run_file(bool finished);
  void write_report();
  double seconds() const { return seconds_before_ + progress_->seconds(); }

  Recipe recipe_;
  TrainSettings settings_;
  fs::path folder_;
  FolderLock lock_;
  fs::path tokenizer_path_;
  std::shared_ptr<const Tokenizer> tokenizer_;
  PreparedData data_;
  std::vector<Source> validation_sources_;
  std::unique_ptr<BatchLoader> loader_;
  std::unique_ptr<FixedBatches> validation_;
  std::unique_ptr<TrainStep> step_;
  std::unique_ptr<MetricsWriter> metrics_;
  std::unique_ptr<Progress> progress_;

  // The state of the run, kept in checkpoints.
  Index done_ = 0, tokens_ = 0;
  Index best_step_ = 0, without_gain_ = 0, bad_steps_ = 0;
  double best_loss_ = std::numeric_limits<double>::infinity(), last_loss_ = 0;
  double seconds_before_ = 0;  // of earlier sessions
  Index saved_ = -1;           // the step of the last checkpoint
};

Run::Run(Recipe recipe, const TrainSettings& settings)
    : recipe_(std::move(recipe)), settings_(settings), folder_(recipe_.output), lock_(folder_) {
  Allocator::of(Device::cpu).reset_peak();  // what run.json tells is this run's, not that of a stage before
  open_data();
  step_ = std::make_unique<TrainStep>(recipe_, Device::cpu);
  const bool resumed = !settings_.fresh && resume();
  if (!resumed) {
    step_->decoder().initialise(static_cast<std::uint64_t>(recipe_.seed));
    if (!recipe_.start.empty()) start_from(resolve_checkpoint(recipe_.start));
  }
  if (settings_.fresh) {  // only now: a mistake in the recipe must not cost the old run
    for (const Index step : checkpoint_steps(folder_)) fs::remove_all(checkpoint_path(folder_, step));
    fs::remove(folder_ / "run.json");
  }
  write_file(folder_ / "recipe.yaml", dump_recipe(recipe_));
  metrics_ = std::make_unique<MetricsWriter>(folder_ / "metrics.jsonl", resumed ? done_ : -1);
  progress_ = std::make_unique<Progress>(done_, recipe_.train.steps);
}

void Run::open_data() {
  tokenizer_path_ = tokenizer_path(recipe_, settings_.fresh);
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
  config.seed = static_cast<std::uint64_t>(recipe_.seed);
  config.subword_sampling = recipe_.data.subword_sampling;
  config.prefix = recipe_.prefix.mode == PrefixPolicy::none     ? PrefixMode::none
                  : recipe_.prefix.mode == PrefixPolicy::always ? PrefixMode::always
                                                                : PrefixMode::dropout;
  loader_ = std::make_unique<BatchLoader>(tokenizer_, data_.training(recipe_.data.part), config);
  if (loader_->truncated() > 0) {
    warn("{} of {} pairs are longer than the context of {} and are cut", loader_->truncated(), loader_->examples(),
         config.context);
  }
  validation_sources_ = data_.side(Side::validation);
  if (!validation_sources_.empty()) validation_ = std::make_unique<FixedBatches>(validation_sources_, config);
}

/// Only the weights are taken over: steps, optimiser and data begin anew.
void Run::start_from(const fs::path& checkpoint) {
  verify_checkpoint(checkpoint);
  const Tokenizer theirs(checkpoint / "tokenizer.model");
  if (theirs.fingerprint() != tokenizer_->fingerprint()) {
    user_error("{} was trained with another tokenizer than {}; leave tokenizer.path out to use its own",
               checkpoint.string(), tokenizer_path_.string());
  }
  read_tensors(checkpoint / "model.safetensors", named_tensors(step_->decoder().parameters()));
  info("starts from {}", checkpoint.string());
}

std::vector<NamedTensor> optimizer_tensors(const Optimizer& optimizer) {
  std::vector<NamedTensor> out;
  for (auto& [name, tensor] : optimizer.state()) out.push_back({name, tensor});
  return out;
}

void Run::read_state(const Json& state, const fs::path& checkpoint) {
  const std::string path = (checkpoint / "state.json").string();
  const std::string theirs = identity(parse_recipe(state.at("recipe").as_string(), path)), ours = identity(recipe_);
  const bool same_data = state.at("data").as_string() == fmt::format("{:016x}", data_.fingerprint);
  if (theirs != ours || !same_data) {
    user_error("{} holds a run of another recipe or other data ({}); set another output, or start over with --fresh",
               folder_.string(),
               theirs == ours ? "the data" : first_difference(parse_yaml(theirs, path), parse_yaml(ours, "")));
  }
  done_ = saved_ = state.at("step").as_integer();
  const Index updates = state.at("updates").as_integer();
  if (checkpoint_path(folder_, done_) != checkpoint || updates < 0 || updates > done_) {
    user_error("{} is damaged: step {} and {} updates do not belong there", path, done_, updates);
  }
  step_->optimizer().set_steps(updates);
  tokens_ = state.at("tokens").as_integer();
  seconds_before_ = state.at("seconds").as_number();
  loader_->seek({state.at("loader").at("epoch").as_integer(), state.at("loader").at("bin").as_integer()});
  best_step_ = state.at("best_step").as_integer();
  if (best_step_ > 0) best_loss_ = state.at("best_loss").as_number();
  without_gain_ = state.at("validations_without_gain").as_integer();
  bad_steps_ = state.at("non_finite_steps").as_integer();
}

bool Run::resume() {
  const auto checkpoint = newest_checkpoint(folder_);
  if (!checkpoint) {
    if (checkpoint_steps(folder_).empty()) return false;
    user_error("no checkpoint in {} is whole; start over with --fresh, or set another output", folder_.string());
  }
  const Json state = verify_checkpoint(*checkpoint);
  try {
    read_state(state, *checkpoint);
  } catch (const UserError&) {
    throw;
  } catch (const Error& error) {
    user_error("{} is damaged: {}", (*checkpoint / "state.json").string(), error.what());
  }
  read_tensors(*checkpoint / "model.safetensors", named_tensors(step_->decoder().parameters()));
  read_tensors(*checkpoint / "optimizer-0-of-1.safetensors", optimizer_tensors(step_->optimizer()));
  info("goes on from {}", checkpoint->string());
  return true;
}

void Run::do_step() {
  const Index step = done_ + 1;
  const double progress =
      recipe_.train.steps > 1 ? static_cast<double>(step - 1) / static_cast<double>(recipe_.train.steps - 1) : 1;
  const double rate = prefix_dropout_rate(recipe_.prefix, progress);
  const std::vector<Batch> batches =
      loader_->next(recipe_.batch.slots * recipe_.batch.micro_batches,
                    {static_cast<std::uint32_t>(step), rate, recipe_.data.unconditional_share});
  const StepResult result = step_->run(batches, step);
  done_ = step;
  Index tokens = 0;
  for (const Batch& batch : batches) tokens += batch.tokens;
  tokens_ += tokens;
  last_loss_ = result.loss;
  progress_->update(step, tokens, result.loss);
  if (!result.updated) {
    progress_->clear();
    warn("step {}: not finite: {}; the update is skipped", step, result.bad);
    if (++bad_steps_ >= recipe_.train.non_finite_limit) {
      fail("step {}: not finite: {}; {} times in a row; lower optimizer.learning_rate, or look at the data", step,
           result.bad, bad_steps_);
    }
  } else {
    bad_steps_ = 0;
  }
  if (step % recipe_.train.log_every == 0 || step == recipe_.train.steps || !result.updated) {
    metrics_->write(StepMetrics{step, result.loss, step_->learning_rate(step), result.gradient_norm, tokens_,
                                progress_->tokens_per_second(), seconds()});
  }
}

void Run::do_validation() {
  if (!validation_) return;
  progress_->pause();
  const Validation found =
      validate(step_->decoder(), *validation_, validation_sources_, recipe_.train.validation_tokens);
  const bool best = found.loss < best_loss_;
  if (best) {
    best_loss_ = found.loss;
    best_step_ = done_;
    without_gain_ = 0;
  } else {
    ++without_gain_;
  }
  metrics_->write(ValidationMetrics{done_, found.loss, found.bits_per_byte, found.targets, seconds(), best});
  progress_->clear();
  info("step {}: validation loss {:.4f}, {:.4f} bits per byte{}", done_, found.loss, found.bits_per_byte,
       best ? " (best)" : "");
  write_samples();
  progress_->resume();
}

void Run::write_samples() {
  if (recipe_.samples.queries.empty()) return;
  DecoderSession session(step_->decoder());
  const TokenizerCodec codec(tokenizer_);
  Expander expander(session, codec);
  const ExpandSettings settings = expand_settings(recipe_.samples, recipe_.seed);
  for (const std::string& query : recipe_.samples.queries) {
    const Expansions found = expand_or_return(expander, query, settings);
    SampleMetrics sample{done_, query, recipe_.samples.prefix, {}};
    for (const Expansion& expansion : found.items) sample.expansions.push_back(expansion.text);
    metrics_->write(sample);
  }
}

/// Throws Error where the disk does not take it.
void Run::write_checkpoint_now() {
  CheckpointContent content;
  content.step = done_;
  content.model = named_tensors(step_->decoder().parameters());
  content.optimizer = optimizer_tensors(step_->optimizer());
  content.tokenizer = tokenizer_path_;
  Json& state = content.state;
  state["program"] = "unfurl 0.1.0";
  state["recipe"] = dump_recipe(recipe_);
  state["data"] = fmt::format("{:016x}", data_.fingerprint);
  state["tokens"] = tokens_;
  state["seconds"] = seconds();
  const LoaderState at = loader_->state();
  state["loader"]["epoch"] = at.epoch;
  state["loader"]["bin"] = at.bin;
  state["best_step"] = best_step_;
  state["best_loss"] = best_step_ > 0 ? Json(best_loss_) : Json();
  state["validations_without_gain"] = without_gain_;
  state["non_finite_steps"] = bad_steps_;
  state["updates"] = step_->optimizer().steps();
  write_checkpoint(folder_, content);
  saved_ = done_;
  write_run_file(false);
  prune_checkpoints(folder_, recipe_.train.keep, best_step_);
}

/// A disk that does not take a checkpoint does not end the run.
void Run::try_checkpoint() {
  progress_->pause();
  try {
    write_checkpoint_now();
  } catch (const Error& error) {
    progress_->clear();
    warn("{}; training goes on", error.what());
  }
  progress_->resume();
}

void Run::write_run_file(bool finished) {
  const MemoryStatistics memory = Allocator::of(Device::cpu).statistics();
  Json run = Json::object();
  run["name"] = recipe_.name;
  run["step"] = done_;
  run["steps"] = recipe_.train.steps;
  run["finished"] = finished;
  run["best_step"] = best_step_ > 0 ? best_step_ : saved_;
  run["best_loss"] = best_step_ > 0 ? Json(best_loss_) : Json();
  run["tokens"] = tokens_;
  run["seconds"] = seconds();
  run["parameters"] = step_->decoder().parameters().count();
  run["peak_allocated_bytes"] = static_cast<std::int64_t>(memory.peak);
  run["peak_process_bytes"] = static_cast<std::int64_t>(peak_process_memory());
  write_file(folder_ / "run.json", run.dump(2) + "\n");
}

void Run::write_report() {
  HtmlReport report("unfurl: " + recipe_.name, folder_.string());
  report.add_figures({{"parameters", grouped(step_->decoder().parameters().count())},
                      {"steps", grouped(done_)},
                      {"tokens", grouped(tokens_)},
                      {"time", duration(seconds())},
                      {"best validation loss", best_step_ > 0 ? fmt::format("{:.4f}", best_loss_) : "n/a"}});
  report.add_metrics(read_metrics(folder_ / "metrics.jsonl"));
  report.add_text("Recipe", dump_recipe(recipe_));
  report.write(folder_ / "report.html");
}

TrainOutcome Run::train() {
  const StopSignals signals;
  const TrainConfig& config = recipe_.train;
  const Index first = done_;
  const auto stopped_early = [&] {
    return config.early_stop_patience > 0 && without_gain_ >= config.early_stop_patience;
  };
  info("{}: {} parameters, {} pairs to train on, {} tokens a step", recipe_.name,
       grouped(step_->decoder().parameters().count()), grouped(loader_->examples()),
       grouped(recipe_.batch.slots * recipe_.batch.micro_batches * recipe_.batch.tokens));
  if (settings_.profile) Trace::start();
  const auto write_trace = [&] {
    if (Trace::active()) Trace::write(folder_ / "trace.json");
  };
  while (done_ < config.steps && !stopped_early() && StopSignals::received() == 0) {
    do_step();
    if (done_ == first + kProfiledSteps) write_trace();
    const bool last = done_ == config.steps;
    const bool validated = last || (config.validate_every > 0 && done_ % config.validate_every == 0);
    if (validated) do_validation();
    const bool due = config.checkpoint_every > 0 && done_ % config.checkpoint_every == 0;
    if (!last && (due || (validated && best_step_ == done_))) try_checkpoint();
  }
  write_trace();
  TrainOutcome outcome;
  const int signal = StopSignals::received();
  const bool finished = done_ >= config.steps || stopped_early();
  progress_->clear();
  if (saved_ != done_ && done_ > 0) {
    try {
      write_checkpoint_now();
    } catch (const Error& error) {
      fail("the last checkpoint could not be written: {}; free space in {} and run again", error.what(),
           folder_.string());
    }
  }
  write_run_file(finished);
  write_report();
  if (signal != 0 && !finished) {
    info("stopped at step {}; the same command goes on from there", done_);
    outcome.exit_code = 128 + signal;
  } else {
    info("{}: step {}, best validation loss {} at step {}, {}", recipe_.name, done_,
         best_step_ > 0 ? fmt::format("{:.4f}", best_loss_) : "n/a", best_step_, duration(seconds()));
  }
  outcome.step = done_;
  outcome.best_step = best_step_;
  outcome.best_loss = best_loss_;
  outcome.finished = finished;
  return outcome;
}

}  // namespace

TrainOutcome train_stage(Recipe recipe, const TrainSettings& settings) {
  return Run(std::move(recipe), settings).train();
}

}  // namespace unfurl::train
