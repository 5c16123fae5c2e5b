#include "train/recipe/recipe.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <numbers>

#include "core/error.h"
#include "core/files.h"
#include "core/names.h"
#include "train/corpus/prefix.h"
#include "train/recipe/stage_keys.h"
#include "train/refine/terms.h"

namespace unfurl::train {
namespace {

struct Preset {
  const char* name;
  int width, layers, heads, head_dim, vocab_size, context;
};
constexpr Preset kPresets[] = {
    {"palm-tiny", 128, 4, 2, 64, 4096, 128},    {"palm-25m", 384, 6, 6, 64, 32000, 128},
    {"palm-125m", 768, 12, 12, 64, 32000, 256}, {"palm-350m", 1024, 22, 8, 128, 32000, 256},
    {"palm-1b", 2048, 18, 16, 128, 32000, 256},
};

constexpr const char* kLoraTargets[] = {"q", "k", "v", "o", "gate", "up", "down"};

template <class Rule>
void check_targets(const ModelConfig& model, const Rule& rule) {
  if (model.tuning.method != Method::lora) return;
  const std::vector<std::string>& targets = model.tuning.lora.targets;
  const std::vector<std::string> known(std::begin(kLoraTargets), std::end(kLoraTargets));
  rule(!targets.empty(), "lora.targets is empty; name some of {}", fmt::join(known, ", "));
  for (const std::string& target : targets) {
    rule(std::ranges::find(known, target) != known.end(), "lora.targets: there is no \"{}\"{}; there are {}", target,
         did_you_mean(target, known), fmt::join(known, ", "));
    rule(target != "gate" || model.activation != ActivationKind::gelu,
         "lora.targets: model.activation gelu has no gate; leave it out");
    rule(std::ranges::count(targets, target) == 1, "lora.targets names \"{}\" twice", target);
  }
}

/// The rules that concern more than one key, or that a range does not say.
void check(const Recipe& recipe, const std::string& file) {
  const auto rule = [&]<class... Args>(bool kept, fmt::format_string<Args...> text, Args&&... args) {
    if (!kept) user_error("{}: {}", file, fmt::format(text, std::forward<Args>(args)...));
  };
  const ModelConfig& model = recipe.model;
  rule(model.head_dim % 2 == 0, "model.head_dim must be even, got {}", model.head_dim);
  rule(model.heads % model.kv_heads == 0, "model.heads ({}) must be a multiple of model.kv_heads ({})", model.heads,
       model.kv_heads);
  rule(std::has_single_bit(static_cast<std::uint64_t>(recipe.batch.slots)),
       "batch.slots must be a power of two, got {}", recipe.batch.slots);
  rule(recipe.data.context <= model.context, "data.context ({}) must be at most model.context ({})",
       recipe.data.context, model.context);
  rule(recipe.batch.tokens >= recipe.data.context,
       "batch.tokens ({}) must hold the longest sequence: at least data.context ({})", recipe.batch.tokens,
       recipe.data.context);
  rule(recipe.batch.tokens >= recipe.data.context + model.soft_rows(),
       "batch.tokens ({}) must hold the longest sequence behind the soft prompt: at least data.context ({}) + "
       "prompt_tuning.tokens ({})",
       recipe.batch.tokens, recipe.data.context, model.soft_rows());
  check_targets(model, rule);
  const SplitRecipe& split = recipe.data.split;
  rule(std::abs(split.train + split.validation + split.test - 1) < 1e-6,
       "data.split: train, validation and test must add up to 1, got {}", split.train + split.validation + split.test);
  const std::string& prefix = recipe.samples.prefix;
  std::vector<std::string> prefixes;
  for (const Prefix& known : kPrefixes) prefixes.emplace_back(known.name);
  rule(prefix.empty() || is_prefix(prefix), "samples.prefix: there is no prefix \"{}\"; there are {}{}", prefix,
       fmt::join(prefixes, ", "), did_you_mean(prefix, prefixes));
  rule(recipe.samples.diverse == 0 || recipe.samples.diverse >= recipe.samples.n,
       "samples.diverse ({}) must be 0 or at least samples.n ({})", recipe.samples.diverse, recipe.samples.n);
  const RefineRecipe& refine = recipe.refine;
  rule(refine.threshold == ThresholdKind::quantile || refine.per == ThresholdScope::all,
       "refine.per: {} goes with refine.threshold: quantile; a fixed threshold is one for all pairs: set refine.per: "
       "all, or refine.threshold: quantile",
       to_string(refine.per));
  check_score_terms(refine.score, file, "refine.score");
  check_score_terms(recipe.judge.best_of.score, file, "judge.best_of.score");
  rule(!recipe.name.empty() && recipe.name.find('/') == std::string::npos && recipe.name != "." && recipe.name != "..",
       "name must be fit for a folder, got \"{}\"", recipe.name);
}

}  // namespace

std::vector<std::string> names(BlockKind) { return {"parallel", "serial"}; }
std::vector<std::string> names(NormKind) { return {"rms", "layer"}; }
std::vector<std::string> names(ActivationKind) { return {"swiglu", "geglu", "gelu"}; }
std::vector<std::string> names(TokenizerKind) { return {"bpe", "unigram"}; }
std::vector<std::string> names(DataPart) { return {"base", "refine", "all", "none"}; }
std::vector<std::string> names(OptimizerKind) { return {"adamw", "adafactor"}; }
std::vector<std::string> names(ScheduleKind) { return {"constant", "cosine", "linear", "inverse_sqrt"}; }
std::vector<std::string> names(PrefixPolicy) { return {"none", "always", "dropout"}; }
std::vector<std::string> names(SpikePolicy) { return {"continue", "skip", "rewind"}; }
std::vector<std::string> names(RateShape) { return {"linear", "cosine", "quadratic"}; }
std::vector<std::string> names(KeepMode) { return {"verbatim", "free"}; }
std::vector<std::string> names(DecodePrecision) { return {"int8", "f32"}; }
std::vector<std::string> names(Method) { return {"full", "prompt_tuning", "lora"}; }
std::vector<std::string> names(Objective) { return {"pairs", "ul2", "causal", "prefix_lm"}; }
std::vector<std::string> names(DocumentsIn) { return {"lines", "paragraphs"}; }
std::vector<std::string> names(SplitSide) { return {"train", "validation", "test"}; }
std::vector<std::string> names(DeviceChoice) { return {"auto", "cpu", "cuda", "host_cuda"}; }
std::vector<std::string> names(Precision) { return {"auto", "f32", "bf16"}; }
std::vector<std::string> names(AttentionKind) { return {"own", "cudnn"}; }
std::vector<std::string> names(Toggle) { return {"auto", "false", "true"}; }
std::vector<std::string> names(SourceSide) { return {"split", "train"}; }
std::vector<std::string> names(SelectBy) { return {"score", "random", "all"}; }
std::vector<std::string> names(PairKind) { return {"generated", "real"}; }
std::vector<std::string> names(ThresholdKind) { return {"quantile", "fixed"}; }
std::vector<std::string> names(ThresholdScope) { return {"all", "type", "query"}; }
std::vector<std::string> names(QuerySide) { return {"base", "refine", "validation"}; }

void describe(Schema& schema, PromptTuningConfig& config) {
  schema.field("tokens", config.tokens, "length of the soft prompt, which comes before every sequence",
               between(1, 1 << 16));
}

void describe(Schema& schema, LoraConfig& config) {
  schema.field("rank", config.rank, "of the matrices that are added", between(1, 1 << 12));
  schema.field("alpha", config.alpha, "what is added is scaled by alpha / rank", positive());
  schema.field("targets", config.targets, "matrices that are added to: of q, k, v, o, gate, up, down");
}

void describe(Schema& schema, ModelConfig& config) {
  schema.field("preset", config.preset,
               "palm-tiny, palm-25m, palm-125m, palm-350m or palm-1b fill what is not given (by --set: over the file)");
  schema.field("vocab_size", config.vocab_size, "pieces; 0: as many as the tokenizer has", between(0, 1 << 20));
  schema.field("width", config.width, "size of the residual stream", between(1, 1 << 16));
  schema.field("layers", config.layers, "number of blocks", between(1, 1 << 10));
  schema.field("heads", config.heads, "query heads", between(1, 1 << 10));
  schema.field("kv_heads", config.kv_heads, "key and value heads: 1 is multi-query, `heads` is multi-head",
               between(1, 1 << 10));
  schema.field("head_dim", config.head_dim, "size of a head, even", between(2, 1 << 12));
  schema.field("ff_width", config.ff_width, "size of the hidden layer; 0: 4 width", between(0, 1 << 18));
  schema.field("context", config.context, "longest sequence, in tokens", between(8, 1 << 20));
  schema.field("block", config.block, "attention and feed-forward side by side, or one after the other");
  schema.field("norm", config.norm, "normalisation");
  schema.field("norm_eps", config.norm_eps, "added to the mean square", positive());
  schema.field("activation", config.activation, "of the feed-forward layer");
  schema.field("qk_norm", config.qk_norm, "normalise queries and keys");
  schema.field("tied", config.tied, "the head shares the embedding's weights");
  schema.field("rope_base", config.rope_base, "base of the rotary positions", positive());
  schema.field("init_std", config.init_std, "standard deviation of the initial weights", positive());
  schema.field("init_scaled", config.init_scaled, "initial output projections are divided by sqrt(2 layers)");
  schema.field("dropout", config.dropout, "of the residual branches and the embedding", between(0, 0.95));
}

void describe(Schema& schema, TokenizerRecipe& config) {
  schema.path("path", config.path, "the SentencePiece model");
  schema.field("vocab_size", config.vocab_size, "pieces, where it is trained; by default the preset's",
               between(300, 1 << 20));
  schema.field("type", config.type, "how it is trained");
  schema.field("character_coverage", config.character_coverage, "share of the text's characters that get a piece",
               between(0.9, 1));
  schema.field(
      "sentinels", config.sentinels,
      "pieces that stand for spans left out of a text, where it is trained; objective ul2 needs about a sixth of "
      "data.context",
      between(0, 1000));
  schema.field("max_lines", config.max_lines, "lines it is trained on, drawn by seed; 0: all", at_least(0));
}

void describe(Schema& schema, SourceConfig& config) {
  schema.required_path("path", config.path, "JSONL of pairs {\"query\", \"prompt\", \"prefix\"?, \"id\"?}");
  schema.field("weight", config.weight, "how often its pairs are seen, relative to the other sources'", positive());
  schema.field("side", config.side,
               "split: divided as data.split says; train: all of it is trained on, whatever the part");
}

void describe(Schema& schema, SplitRecipe& config) {
  schema.field("train", config.train, "share of the pairs to train on", between(0, 1));
  schema.field("validation", config.validation, "share to validate on", between(0, 1));
  schema.field("test", config.test, "share to judge by", between(0, 1));
  schema.field("base", config.base, "share of the training pairs in the base part", between(0, 1));
  schema.field("similarity", config.similarity,
               "pairs whose word 5-grams are this similar (Jaccard) stay on one side; 0: off", between(0, 1));
}

void describe(Schema& schema, DataConfig& config) {
  schema.list("sources", config.sources, "the pairs; for the other objectives texts, and of pairs the prompts");
  schema.field("documents", config.documents, "what a document is in plain text: a line, or what blank lines divide");
  schema.field("part", config.part, "which part of the training pairs is used; none: only sources whose side is train");
  schema.group("split", config.split, "how pairs are divided, by a hash of their content");
  schema.field("bad_line_share", config.bad_line_share, "the run ends where more lines than this are malformed",
               between(0, 1));
  schema.field("context", config.context,
               "longest sequence used, in tokens; longer pairs are truncated and counted; 0: model.context",
               between(0, 1 << 20));
  schema.field("subword_sampling", config.subword_sampling,
               "probability that a word of a training pair is cut into other pieces; 0: off", between(0, 1));
  schema.field("unconditional_share", config.unconditional_share,
               "share of the training pairs seen without their query", between(0, 1));
  schema.path("prompts", config.prompts,
              "prompts that pairs are made from: a plain list, one a line, or .jsonl as `corpus invert` writes it");
  schema.field("pairs", config.pairs, "pairs to synthesise", between(1, 1e9));
  schema.field("queries_per_prompt", config.queries_per_prompt, "queries made for each prompt of a corpus, at most",
               between(1, 16));
  schema.field("copy_share", config.copy_share,
               "share of pairs with random words in query and prompt, added to a corpus", between(0, 0.9));
  schema.field("held_out_share", config.held_out_share,
               "share of a synthetic corpus' content words kept out of its pairs", between(0, 0.5));
  schema.field("normalize", config.normalize, "repair spacing in a corpus: \"8 k\", \"sci - fi\"");
}

void describe(Schema& schema, BatchConfig& config) {
  schema.field("slots", config.slots, "the global batch is this many slots, a power of two; ranks share them",
               between(1, 1 << 16));
  schema.field("micro_batches", config.micro_batches, "micro-batches a slot accumulates in a step",
               between(1, 1 << 16));
  schema.field("tokens", config.tokens, "capacity of a micro-batch, in tokens", between(8, 1 << 24));
  schema.field("documents", config.documents, "most pairs in a micro-batch", between(1, 1 << 20));
}

void describe(Schema& schema, AdafactorConfig& config) {
  schema.field("decay", config.decay, "beta2 = 1 - step^-decay", between(0, 1));
  schema.field("eps1", config.eps1, "added to the squared gradient", positive());
  schema.field("eps2", config.eps2, "least size of a parameter, where steps are relative to it", positive());
  schema.field("clip_threshold", config.clip_threshold, "most root mean square of an update", positive());
  schema.field("parameter_scale", config.parameter_scale, "steps relative to the parameter's size");
}

void describe(Schema& schema, OptimizerConfig& config) {
  schema.field("name", config.name, "the optimiser");
  schema.field("learning_rate", config.learning_rate, "at its peak", between(0, 100));
  schema.field("beta1", config.beta1, "decay of AdamW's mean", between(0, 0.99999));
  schema.field("beta2", config.beta2, "decay of AdamW's mean square", between(0, 0.9999999));
  schema.field("eps", config.eps, "added to the root of AdamW's mean square", positive());
  schema.field("weight_decay", config.weight_decay, "decoupled, of matrices", between(0, 100));
  schema.field("clip_norm", config.clip_norm, "most norm of the whole gradient; 0: off", at_least(0));
  schema.group("adafactor", config.adafactor, "for Adafactor alone");
}

void describe(Schema& schema, ScheduleConfig& config) {
  schema.field("name", config.name, "course of the learning rate after the warm-up");
  schema.field("warmup_steps", config.warmup_steps, "steps from 0 to the peak, linear", between(0, 1e12));
  schema.field("final_ratio", config.final_ratio, "last learning rate over the peak (cosine, linear)", between(0, 1));
}

void describe(Schema& schema, SpikeConfig& config) {
  schema.field(
      "policy", config.policy,
      "continue: they are noted; skip: and change no weights; rewind: and the run goes back to a checkpoint and "
      "leaves their pairs out");
  schema.field("window", config.window, "steps before that the norm is compared with", between(2, 100000));
  schema.field("threshold", config.threshold, "standard deviations above their mean; 0: off", between(0, 1e6));
  schema.field("rewinds", config.rewinds, "going back so often, without a new checkpoint between, ends the run",
               at_least(1));
}

void describe(Schema& schema, TrainConfig& config) {
  schema.field("steps", config.steps, "optimiser steps", between(1, 1e12));
  schema.field("log_every", config.log_every, "steps between lines of metrics", at_least(1));
  schema.field("validate_every", config.validate_every, "steps between validations; 0: only at the end", at_least(0));
  schema.field("validation_tokens", config.validation_tokens, "tokens a validation looks at; 0: all", at_least(0));
  schema.field("checkpoint_every", config.checkpoint_every, "steps between checkpoints; 0: only at the end",
               at_least(0));
  schema.field("keep", config.keep, "checkpoints kept beside the best", at_least(1));
  schema.field("keep_every", config.keep_every, "checkpoints of steps that this divides are kept too; 0: none",
               at_least(0));
  schema.field("early_stop_patience", config.early_stop_patience,
               "validations without a better one before the run stops; 0: off", at_least(0));
  schema.field("non_finite_limit", config.non_finite_limit,
               "steps in a row with a non-finite loss or gradient that end the run", at_least(1));
  schema.field("recompute", config.recompute, "recompute activations in the backward pass: less memory, more time");
  schema.field("deterministic_reduction", config.deterministic_reduction,
               "ranks sum their gradients in an order that does not depend on how many they are; auto: on CPUs, where "
               "they always do, and not on GPUs, where NCCL's own order is the faster one");
  schema.field("overlap", config.overlap,
               "gradients are summed over ranks while backward goes on; false: behind it, for ranks that have no core "
               "to spare");
  schema.field("bucket_blocks", config.bucket_blocks,
               "blocks of 65,536 gradients that are summed over ranks at a time; 0: by the size of the model",
               between(0, 1e6));
  schema.group("spikes", config.spikes, "steps whose gradient norm is far above those before");
}

void describe(Schema& schema, PrefixConfig& config) {
  schema.field("mode", config.mode,
               "prefixes of pairs: never used, always, or dropped with a probability that changes");
  schema.field("from", config.from, "probability of dropping at the first step (dropout)", between(0, 1));
  schema.field("to", config.to, "probability of dropping at the last step (dropout)", between(0, 1));
  schema.field("shape", config.shape, "how it goes from one to the other");
}

void describe(Schema& schema, SampleConfig& config) {
  schema.field("queries", config.queries, "expanded at every validation");
  schema.field("n", config.n, "expansions of each", between(1, 256));
  schema.field("diverse", config.diverse, "draw this many and take the n that differ most; 0: draw n", between(0, 256));
  schema.field("prefix", config.prefix, "their prefix: ABST, DTL, GRD, SPCT, FLV, HAST, RFT or MSTP; empty for none");
  schema.field("temperature", config.temperature, "0 takes the likeliest token", between(0, 100));
  schema.field("top_p", config.top_p, "smallest set of likeliest tokens with this probability; 1: off",
               Limits{0, 1, true});
  schema.field("top_k", config.top_k, "this many likeliest tokens; 0: off", at_least(0));
  schema.field("min_p", config.min_p, "tokens with this share of the likeliest's probability; 0: off", between(0, 1));
  schema.field("max_tokens", config.max_tokens, "longest expansion, in tokens", at_least(1));
  schema.field("keep", config.keep, "verbatim forces the query as the opening of the expansion");
}

void describe(Schema& schema, EvalConfig& config) {
  schema.field("side", config.side, "the side of the split to judge by");
  schema.field("pairs", config.pairs, "how many of its pairs; 0: all", at_least(0));
  schema.field("queries", config.queries, "held-out queries to draw expansions for; 0: none", between(0, 100000));
  schema.field("ngram", config.ngram, "words of the n-grams that tell how much of a prompt training has seen",
               between(1, 64));
  schema.field("seen_share", config.seen_share, "prompts with a smaller share of seen n-grams are judged apart as well",
               between(0, 1));
}

void describe(Schema& schema, Recipe& recipe) {
  schema.field("name", recipe.name, "of the run; by default the recipe file's name");
  schema.path("output", recipe.output, "the run's folder; by default runs/NAME");
  schema.field("seed", recipe.seed, "of all random numbers", at_least(0));
  schema.path("start", recipe.start, "run or checkpoint whose weights training starts from; empty: from scratch");
  schema.field("device", recipe.device, "where it trains; auto: on a GPU if there is one. host_cuda is for tests");
  schema.field("precision", recipe.precision, "of what is computed; auto: bf16 on a GPU, f32 on the CPU");
  schema.field("attention", recipe.attention,
               "whose kernels compute attention in training: our own, or cuDNN's, on a Hopper GPU in bf16 with "
               "objective causal");
  schema.field(
      "method", recipe.model.tuning.method,
      "what is trained: all weights; a soft prompt on a frozen model, by default with Lester et al.'s optimizer, "
      "schedule and batch; or low-rank matrices added to a frozen model");
  schema.field(
      "objective", recipe.data.objective,
      "what is learned: prompts from queries; or, of plain text, UL2's mixture of denoisers, the next token, or the "
      "rest of a text from its first part");
  schema.group("prompt_tuning", recipe.model.tuning.prompt_tuning, "for method prompt_tuning alone");
  schema.group("lora", recipe.model.tuning.lora, "for method lora alone");
  schema.group("model", recipe.model, "the network");
  schema.group("tokenizer", recipe.tokenizer, "text to pieces");
  schema.group("data", recipe.data, "what is learned");
  schema.group("batch", recipe.batch, "what one step sees: slots x micro_batches x tokens");
  schema.group("optimizer", recipe.optimizer, "how weights move");
  schema.group("schedule", recipe.schedule, "the learning rate by step");
  schema.group("train", recipe.train, "the course of the run");
  schema.group("prefix", recipe.prefix, "control tokens before the query");
  schema.group("samples", recipe.samples, "sample expansions");
  schema.group("eval", recipe.eval, "how well the model predicts");
  schema.group("judge", recipe.judge, "how the images of its prompts are judged");
  schema.group("refine", recipe.refine, "stage refine: which of a model's own expansions it trains on");
  schema.group("multi_step", recipe.multi_step, "stage multi_step: pairs of expansions of expansions");
}

std::vector<std::string> preset_names() {
  std::vector<std::string> out;
  for (const Preset& preset : kPresets) out.push_back(preset.name);
  return out;
}

Node preset_keys(const std::string& name, const std::string& where) {
  for (const Preset& preset : kPresets) {
    if (preset.name != name) continue;
    Node out = Node::map(where), model = Node::map(where), tokenizer = Node::map(where);
    const auto put = [&](Node& group, const char* key, int value) {
      group.put(key, Node::scalar(fmt::format("{}", value), where));
    };
    put(model, "width", preset.width);
    put(model, "layers", preset.layers);
    put(model, "heads", preset.heads);
    put(model, "kv_heads", 1);
    put(model, "head_dim", preset.head_dim);
    put(model, "context", preset.context);
    put(tokenizer, "vocab_size", preset.vocab_size);
    out.put("model", std::move(model));
    out.put("tokenizer", std::move(tokenizer));
    return out;
  }
  user_error("{}: there is no preset \"{}\"{}; there are {}", where, name, did_you_mean(name, preset_names()),
             fmt::join(preset_names(), ", "));
}

Node method_keys(Method method, const std::string& where) {
  if (method != Method::prompt_tuning) return Node::map(where);
  return parse_yaml(
      "optimizer: {name: adafactor, learning_rate: 0.3, weight_decay: 1.0e-5, adafactor: {decay: 0.8}}\n"
      "schedule: {name: constant, warmup_steps: 0}\n"
      "batch: {slots: 8, micro_batches: 1, documents: 4}\n",
      where);
}

/// Takes the keys out of `node` that `preset`, given by --set, says and the file said before; `--set`'s own stay.
void give_way(Node& node, const Node& preset) {
  for (const Node& group : preset.items) {
    Node* const given = node.find(group.key);
    if (given == nullptr || given->kind != Node::Kind::map) continue;
    std::erase_if(given->items, [&](const Node& key) {
      const bool of_preset = group.find(key.key) != nullptr || (group.key == "model" && key.key == "ff_width");
      return of_preset && !is_set(key);
    });
  }
}

Recipe bind_recipe(Node node, const std::string& file) {
  if (node.kind == Node::Kind::null) node = Node::map(file);
  if (const Node* model = node.find("model")) {
    const Node* preset = model->find("preset");
    if (preset != nullptr && preset->kind == Node::Kind::scalar && !preset->text.empty()) {
      const Node keys = preset_keys(preset->text, preset->where);
      if (is_set(*preset)) give_way(node, keys);
      node = merged(keys, node);
    }
  }
  if (const Node* method = node.find("method"); method != nullptr && method->text == "prompt_tuning") {
    node = merged(method_keys(Method::prompt_tuning, method->where), node);
  }
  Recipe recipe;
  Schema schema;
  describe(schema, recipe);
  schema.read(node);
  if (recipe.name.empty()) recipe.name = std::filesystem::path(file).stem().string();
  if (recipe.output.empty()) recipe.output = "runs/" + recipe.name;
  if (recipe.model.ff_width == 0) recipe.model.ff_width = 4 * recipe.model.width;
  for (auto* score : {&recipe.refine.score, &recipe.judge.best_of.score}) {
    if (score->empty()) *score = {{"sim_query_image", 0.6}, {"sim_prompt_image", 0.4}};
  }
  if (recipe.data.context == 0) recipe.data.context = recipe.model.context;
  check(recipe, file);
  return recipe;
}

Recipe load_recipe(const std::filesystem::path& path, const std::vector<std::string>& sets) {
  Node node = load_document(path);
  set_values(node, sets, path.string());
  if (const Node* stages = node.find("stages")) {
    user_error("{}: this recipe lists stages: start it by `unfurl run {}`", stages->where, path.string());
  }
  return bind_recipe(std::move(node), path.string());
}

Recipe parse_recipe(std::string_view text, const std::string& name) {
  return bind_recipe(parse_yaml(text, name), name);
}

std::string dump_recipe(const Recipe& recipe) {
  Recipe copy = recipe;
  Schema schema;
  describe(schema, copy);
  return to_yaml(schema.write());
}

std::uint64_t recipe_hash(const Recipe& recipe) {
  Recipe copy = recipe;
  Schema schema;
  describe(schema, copy);
  Node node = schema.write();
  node.erase("name");
  node.erase("output");
  return hash_bytes(to_yaml(node));
}

std::string document_recipe() {
  Recipe standard;
  Schema schema;
  describe(schema, standard);
  return schema.documented();
}

double prefix_dropout_rate(const PrefixConfig& config, double progress) {
  if (config.mode == PrefixPolicy::none) return 1;
  if (config.mode == PrefixPolicy::always) return 0;
  const double t = std::clamp(progress, 0.0, 1.0);
  const double done = config.shape == RateShape::linear   ? t
                      : config.shape == RateShape::cosine ? (1 - std::cos(std::numbers::pi * t)) / 2
                                                          : t * t;
  return config.from + (config.to - config.from) * done;
}

}  // namespace unfurl::train
