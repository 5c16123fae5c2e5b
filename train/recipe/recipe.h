// A recipe: everything that decides what a run does, read from YAML.
#pragma once
#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "train/recipe/schema.h"

namespace unfurl::train {

enum class BlockKind { parallel, serial };
enum class NormKind { rms, layer };
enum class ActivationKind { swiglu, geglu, gelu };
enum class TokenizerKind { bpe, unigram };
enum class DataPart { base, refine, all, none };
enum class SourceSide { split, train };
enum class OptimizerKind { adamw, adafactor };
enum class ScheduleKind { constant, cosine, linear, inverse_sqrt };
enum class PrefixPolicy { none, always, dropout };
enum class SpikePolicy { go_on, skip, rewind };
enum class RateShape { linear, cosine, quadratic };
enum class KeepMode { verbatim, free };
/// Of the weights in a decoding step: int8 reads a quarter of the bytes, which is what a step on the CPU costs.
enum class DecodePrecision { int8, f32 };
/// What of a model is trained: everything, a soft prompt before it, or low-rank additions to its matrices.
enum class Method { full, prompt_tuning, lora };
/// What is predicted: the prompt of a pair, or of plain text what data/denoise.h says.
enum class Objective { pairs, ul2, causal, prefix_lm };
/// What a document is in a file of plain text.
enum class DocumentsIn { lines, paragraphs };
enum class SplitSide { train, validation, test };
enum class DeviceChoice { automatic, cpu, cuda, host_cuda };
enum class Precision { automatic, f32, bf16 };
/// Which kernels compute attention in training.
enum class AttentionKind { own, cudnn };
enum class Toggle { automatic, off, on };
enum class SelectBy { score, random, all };
enum class PairKind { generated, real };
enum class ThresholdKind { quantile, fixed };
enum class ThresholdScope { all, type, query };
enum class QuerySide { base, refine, validation };

struct PromptTuningConfig {
  std::int64_t tokens = 100;
};

struct LoraConfig {
  std::int64_t rank = 8;
  double alpha = 16;
  std::vector<std::string> targets = {"q", "k", "v", "o", "gate", "up", "down"};
};

/// What the method puts beside the base model. Its keys are at the top of a recipe.
struct TuningConfig {
  Method method = Method::full;
  PromptTuningConfig prompt_tuning;
  LoraConfig lora;
};

struct ModelConfig {
  std::string preset;           // "" or one of preset_names(); fills what the recipe does not give
  std::int64_t vocab_size = 0;  // 0: the tokenizer's
  std::int64_t width = 128;
  std::int64_t layers = 4;
  std::int64_t heads = 2;
  std::int64_t kv_heads = 1;
  std::int64_t head_dim = 64;
  std::int64_t ff_width = 0;  // 0: 4 width; resolved on loading
  std::int64_t context = 128;
  BlockKind block = BlockKind::parallel;
  NormKind norm = NormKind::rms;
  double norm_eps = 1e-6;
  ActivationKind activation = ActivationKind::swiglu;
  bool qk_norm = false;
  bool tied = true;
  double rope_base = 10000;
  double init_std = 0.02;
  bool init_scaled = true;
  double dropout = 0;
  TuningConfig tuning;

  /// Rows of the soft prompt that come before every document's own.
  std::int64_t soft_rows() const { return tuning.method == Method::prompt_tuning ? tuning.prompt_tuning.tokens : 0; }
  /// Rows that a document may have at most.
  std::int64_t positions() const { return context + soft_rows(); }
};

struct TokenizerRecipe {
  std::string path;
  std::int64_t vocab_size = 4096;
  TokenizerKind type = TokenizerKind::bpe;
  double character_coverage = 0.9995;
  std::int64_t sentinels = 0;
  std::int64_t max_lines = 0;  // 0: all
};

struct SourceConfig {
  std::string path;
  double weight = 1;
  SourceSide side = SourceSide::split;
};

struct SplitRecipe {
  double train = 0.7;
  double validation = 0.2;
  double test = 0.1;
  double base = 0.5;
  double similarity = 0.5;
};

struct DataConfig {
  Objective objective = Objective::pairs;  // its key is at the top of a recipe
  DocumentsIn documents = DocumentsIn::lines;
  std::vector<SourceConfig> sources;
  DataPart part = DataPart::all;
  SplitRecipe split;
  double bad_line_share = 0.01;
  std::int64_t context = 0;  // 0: model.context; resolved on loading
  double subword_sampling = 0;
  double unconditional_share = 0;
  std::string prompts;
  std::int64_t pairs = 20000;
  std::int64_t queries_per_prompt = 5;
  double copy_share = 0.4;
  double held_out_share = 0.1;
  bool normalize = false;
};

struct BatchConfig {
  std::int64_t slots = 8;
  std::int64_t micro_batches = 1;
  std::int64_t tokens = 1024;
  std::int64_t documents = 64;
};

struct AdafactorConfig {
  double decay = 0.8;
  double eps1 = 1e-30;
  double eps2 = 1e-3;
  double clip_threshold = 1;
  bool parameter_scale = false;
};

struct OptimizerConfig {
  OptimizerKind name = OptimizerKind::adamw;
  double learning_rate = 1e-3;
  double beta1 = 0.9;
  double beta2 = 0.95;
  double eps = 1e-8;
  double weight_decay = 0.1;
  double clip_norm = 1;  // 0: off
  AdafactorConfig adafactor;
};

struct ScheduleConfig {
  ScheduleKind name = ScheduleKind::cosine;
  std::int64_t warmup_steps = 50;
  double final_ratio = 0.1;
};

struct SpikeConfig {
  SpikePolicy policy = SpikePolicy::go_on;
  std::int64_t window = 100;  // steps
  double threshold = 8;       // standard deviations; 0: off
  std::int64_t rewinds = 3;
};

struct TrainConfig {
  std::int64_t steps = 1000;
  std::int64_t log_every = 10;
  std::int64_t validate_every = 100;
  std::int64_t validation_tokens = 20000;  // 0: all
  std::int64_t checkpoint_every = 500;     // 0: only at the end
  std::int64_t keep = 2;
  std::int64_t keep_every = 0;           // 0: off
  std::int64_t early_stop_patience = 0;  // 0: off
  std::int64_t non_finite_limit = 10;
  bool recompute = false;
  Toggle deterministic_reduction = Toggle::automatic;
  bool overlap = true;
  std::int64_t bucket_blocks = 0;  // 0: by the size of the model
  SpikeConfig spikes;
};

struct PrefixConfig {
  PrefixPolicy mode = PrefixPolicy::always;
  double from = 0.4;
  double to = 1;
  RateShape shape = RateShape::linear;
};

struct SampleConfig {
  std::vector<std::string> queries;
  std::int64_t n = 4;
  std::int64_t diverse = 0;  // 0: off
  std::string prefix;
  double temperature = 1;
  double top_p = 1;
  std::int64_t top_k = 0;  // 0: off
  double min_p = 0;
  std::int64_t max_tokens = 96;
  KeepMode keep = KeepMode::verbatim;
};

struct EvalConfig {
  SplitSide side = SplitSide::test;
  std::int64_t pairs = 0;     // 0: all
  std::int64_t queries = 50;  // held-out queries to draw expansions for; 0: none
  std::int64_t ngram = 6;
  double seen_share = 0.25;
};

/// What turns prompts into images and scores (train/image_side).
struct ImageSideRecipe {
  std::string command;
  std::string url;
  std::int64_t workers = 1;
  std::int64_t batch = 16;
  double timeout = 120;  // seconds
  std::int64_t retries = 2;
  std::string cache;  // "": a folder of the stage's own
};

struct HypothesisConfig {
  std::string name;
  std::string better, worse;  // systems of the judgement; worse "": better's own value is meant
  std::string metric = "alignment";
  double smallest = 0;  // the smallest difference, or value, that matters
};

/// A language model that is judged beside the models, shown a few training pairs.
struct FewShotRecipe {
  std::string endpoint;  // "": none
  std::string model;
  std::string api_key_env;
};

struct ScoreTermRecipe {
  std::string term;
  double weight = 1;
};

/// A control of re-fine-tuning: the first model draws `of` prompts for each that it gives, and a side, as it filters
/// there, takes the one whose image scores best.
struct BestOfRecipe {
  ImageSideRecipe side;  // no command and no url: no such control
  std::int64_t of = 4;
  std::vector<ScoreTermRecipe> score;  // none: as in RefineRecipe
};

struct JudgeConfig {
  ImageSideRecipe side;
  FewShotRecipe few_shot;
  BestOfRecipe best_of;
  std::string queries;            // "": from the held-out side of the runs' data
  std::int64_t max_queries = 60;  // 0: all
  std::int64_t n = 4;
  std::int64_t frontier_points = 0;  // temperatures from the lowest to the highest; 0: no frontier
  double frontier_from = 0.6;
  double frontier_to = 1.2;
  std::int64_t frontier_queries = 20;
  std::vector<std::string> prefixes;  // compared with no prefix, on the last run
  std::int64_t resamples = 1000;
  double confidence = 0.95;
  std::vector<HypothesisConfig> hypotheses;
};

/// The stage "refine" (train/refine).
struct RefineRecipe {
  ImageSideRecipe side;
  std::string like;  // "", or the folder of another such stage whose work is taken over where it is the same
  PairKind pairs = PairKind::generated;
  std::int64_t max_queries = 0;  // 0: all
  bool only_ended = true;
  std::vector<ScoreTermRecipe> score;  // none: 0.6 sim_query_image + 0.4 sim_prompt_image; resolved on loading
  SelectBy select = SelectBy::score;
  ThresholdKind threshold = ThresholdKind::quantile;
  ThresholdScope per = ThresholdScope::all;
  double keep = 0.5;    // of a quantile
  double at_least = 0;  // of a fixed threshold
};

/// The stage "multi_step" (train/refine).
struct MultiStepRecipe {
  std::int64_t steps = 3;
  QuerySide queries = QuerySide::validation;
  std::int64_t max_queries = 0;  // 0: all
  bool only_ended = true;
};

struct Recipe {
  std::string name;
  std::string output;  // "": runs/NAME; resolved on loading
  std::int64_t seed = 1;
  std::string start;  // "": from scratch
  DeviceChoice device = DeviceChoice::automatic;
  Precision precision = Precision::automatic;
  AttentionKind attention = AttentionKind::own;
  ModelConfig model;
  TokenizerRecipe tokenizer;
  DataConfig data;
  BatchConfig batch;
  OptimizerConfig optimizer;
  ScheduleConfig schedule;
  TrainConfig train;
  PrefixConfig prefix;
  SampleConfig samples;
  EvalConfig eval;
  JudgeConfig judge;
  RefineRecipe refine;
  MultiStepRecipe multi_step;
};

/// Reads a recipe with what it extends, lays the `--set` assignments ("a.b=c") over it, fills in presets and checks it.
/// `output` defaults to runs/NAME, `name` to the file's stem. Throws UserError, "file:line: what; what to do".
Recipe load_recipe(const std::filesystem::path& path, const std::vector<std::string>& sets = {});

/// The same from text, such as a checkpoint's; `name` stands for the file in messages.
Recipe parse_recipe(std::string_view text, const std::string& name);

/// From a tree of keys; `file` stands in the messages of rules that concern several keys.
Recipe bind_recipe(Node node, const std::string& file);

/// Every key of the resolved recipe as YAML, in a fixed order; parse_recipe reads back the same recipe.
std::string dump_recipe(const Recipe& recipe);

/// The same for every recipe that makes the same run: of all keys but `name` and `output`.
std::uint64_t recipe_hash(const Recipe& recipe);

/// Every key with its default, type and meaning: a YAML text with comments.
std::string document_recipe();

/// "palm-tiny", "palm-25m", ... and a preset's keys; throws UserError naming `where` for a name that is none.
std::vector<std::string> preset_names();
Node preset_keys(const std::string& preset, const std::string& where);

/// What a method fills in where the recipe does not say it: for prompt tuning the optimiser and batch of Lester et al.
Node method_keys(Method method, const std::string& where);

/// The probability of leaving out a pair's prefix when `progress`, in [0, 1], of the run is done: 0 for mode always, 1
/// for none.
double prefix_dropout_rate(const PrefixConfig& config, double progress);

std::vector<std::string> names(BlockKind);
std::vector<std::string> names(NormKind);
std::vector<std::string> names(ActivationKind);
std::vector<std::string> names(TokenizerKind);
std::vector<std::string> names(DataPart);
std::vector<std::string> names(OptimizerKind);
std::vector<std::string> names(ScheduleKind);
std::vector<std::string> names(PrefixPolicy);
std::vector<std::string> names(SpikePolicy);
std::vector<std::string> names(RateShape);
std::vector<std::string> names(KeepMode);
std::vector<std::string> names(DecodePrecision);
std::vector<std::string> names(Method);
std::vector<std::string> names(Objective);
std::vector<std::string> names(DocumentsIn);
std::vector<std::string> names(SplitSide);
std::vector<std::string> names(DeviceChoice);
std::vector<std::string> names(Precision);
std::vector<std::string> names(AttentionKind);
std::vector<std::string> names(Toggle);
std::vector<std::string> names(SourceSide);
std::vector<std::string> names(SelectBy);
std::vector<std::string> names(PairKind);
std::vector<std::string> names(ThresholdKind);
std::vector<std::string> names(ThresholdScope);
std::vector<std::string> names(QuerySide);

void describe(Schema& schema, PromptTuningConfig& config);
void describe(Schema& schema, LoraConfig& config);
void describe(Schema& schema, ModelConfig& config);
void describe(Schema& schema, TokenizerRecipe& config);
void describe(Schema& schema, SourceConfig& config);
void describe(Schema& schema, SplitRecipe& config);
void describe(Schema& schema, DataConfig& config);
void describe(Schema& schema, BatchConfig& config);
void describe(Schema& schema, AdafactorConfig& config);
void describe(Schema& schema, OptimizerConfig& config);
void describe(Schema& schema, ScheduleConfig& config);
void describe(Schema& schema, TrainConfig& config);
void describe(Schema& schema, PrefixConfig& config);
void describe(Schema& schema, SampleConfig& config);
void describe(Schema& schema, EvalConfig& config);
void describe(Schema& schema, ImageSideRecipe& config);
void describe(Schema& schema, HypothesisConfig& config);
void describe(Schema& schema, FewShotRecipe& config);
void describe(Schema& schema, BestOfRecipe& config);
void describe(Schema& schema, JudgeConfig& config);
void describe(Schema& schema, ScoreTermRecipe& config);
void describe(Schema& schema, RefineRecipe& config);
void describe(Schema& schema, MultiStepRecipe& config);
void describe(Schema& schema, Recipe& recipe);

}  // namespace unfurl::train
