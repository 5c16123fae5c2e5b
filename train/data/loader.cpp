#include "train/data/loader.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "core/error.h"
#include "core/names.h"
#include "kernels/philox.h"
#include "kernels/thread_pool.h"
#include "train/data/denoise.h"
#include "train/data/pack.h"

namespace unfurl::train {
namespace {

// Purposes of random numbers (philox.h).
constexpr std::uint32_t kPurposeShuffle = 0x44530001;  // index: place in the epoch before shuffling; step: epoch
constexpr std::uint32_t kPurposeBins = 0x44530002;     // index: bin; step: epoch
constexpr std::uint32_t kPurposeSubset = 0x44530003;   // index: global example; step: epoch
constexpr std::uint32_t kPurposeSubword = 0x44530004;  // index: global example, part and draw; step: epoch
constexpr std::uint32_t kPurposeForm = 0x44530005;     // index: global example; step: training step

constexpr std::uint32_t kPurposeNoise = 0x44530006;  // index: global example and draw; step: epoch

constexpr Index kExamplesPerTask = 64;

std::uint64_t draw64(const PhiloxKey& key, std::uint64_t index) {
  const auto bits = philox(key, index);
  return std::uint64_t{bits[0]} << 32 | bits[1];
}

/// [0, count) by ascending random number.
std::vector<std::size_t> random_order(std::size_t count, const PhiloxKey& key, std::uint64_t first_index = 0) {
  std::vector<std::pair<std::uint64_t, std::size_t>> keys(count);
  for (std::size_t i = 0; i < count; ++i) keys[i] = {draw64(key, first_index + i), i};
  std::sort(keys.begin(), keys.end());
  std::vector<std::size_t> order(count);
  for (std::size_t i = 0; i < count; ++i) order[i] = keys[i].second;
  return order;
}

struct Rows {
  std::int32_t rows = 0;
  bool truncated = false;
};

/// The sources as one list of examples, with what both kinds of batches need.
struct Pool {
  std::vector<Source> sources;
  std::vector<std::int64_t> ends;  // global index behind each source's last example
  LoaderConfig config;

  Pool(std::vector<Source> given, const LoaderConfig& the_config) : sources(std::move(given)), config(the_config) {
    if (config.context < 4 || config.context + config.soft_rows > config.tokens ||
        config.tokens > std::numeric_limits<int>::max()) {
      user_error("data: the context ({} tokens) must be at least 4 and at most the micro-batch ({} tokens)",
                 config.context + config.soft_rows, config.tokens);
    }
    if (config.max_documents < 1) {
      user_error("data: max_documents must be at least 1, got {}", config.max_documents);
    }
    if (!(config.subword_sampling >= 0 && config.subword_sampling <= 1)) {
      user_error("data: subword_sampling must be in [0, 1], got {}", config.subword_sampling);
    }
    std::int64_t end = 0;
    for (const Source& source : sources) {
      require(source.shard != nullptr, "data: a source has no shard");
      if (!(source.weight > 0 && source.weight <= 1000)) {
        user_error("{}: the source's weight must be above 0 and at most 1000, got {}", source.shard->path().string(),
                   source.weight);
      }
      if (source.shard->size() == 0) user_error("{}: the source has no example", source.shard->path().string());
      ends.push_back(end += source.shard->size());
    }
    if (end == 0) user_error("data: there is no source with examples");
  }

  std::int64_t size() const { return ends.back(); }

  std::pair<std::size_t, Index> locate(std::int64_t example) const {
    require(example >= 0 && example < size(), "data: there is no example {}, there are {}", example, size());
    const auto source = static_cast<std::size_t>(std::upper_bound(ends.begin(), ends.end(), example) - ends.begin());
    return {source, example - (source == 0 ? 0 : ends[source - 1])};
  }

  /// Where the documents of examples in this order begin, and the end. Each is one, but with ul2 as many texts in a row
  /// as the context has room for, with <eos> between them: its long spans take more than a short text has.
  std::vector<std::size_t> documents(std::span<const Rows> texts) const {
    std::vector<std::size_t> begins;
    const Index most = document_tokens(config.objective, config.context);
    Index length = 0;
    for (std::size_t i = 0; i < texts.size(); ++i) {
      const Index tokens = texts[i].rows;
      const bool joins = config.objective == Objective::ul2 && i > 0 && length + 1 + tokens <= most;
      if (!joins) begins.push_back(i);
      length = joins ? length + 1 + tokens : tokens;
    }
    begins.push_back(texts.size());
    return begins;
  }

  /// A text as the objective has it in an epoch.
  Example text_example(std::span<const std::int32_t> text, std::int64_t example, const PhiloxKey& key) const {
    Draws draws(key, static_cast<std::uint64_t>(example) << 24);
    return document_example(text, config.objective, config.context, config.sentinels, draws);
  }

  bool has_prefix(const Shard& shard, Index i, PrefixMode mode) const {
    return mode != PrefixMode::none && shard.prefix(i) >= 0;
  }
};

Rows count_rows(bool prefix, std::size_t query, std::size_t prompt, Index context) {
  const auto q = static_cast<Index>(query), p = static_cast<Index>(prompt);
  const Index rows = example_rows(prefix, q, p, context);
  return {static_cast<std::int32_t>(rows), rows < (prefix ? 1 : 0) + q + 1 + p};
}

}  // namespace

struct BatchLoader::State {
  std::shared_ptr<const Tokenizer> tokenizer;
  Pool pool;
  LoaderState at;
  // The plan of the epoch at.epoch.
  std::vector<std::int64_t> entries;   // global indices, shuffled
  std::vector<std::size_t> documents;  // places in entries where documents begin, and the end
  Bins bins;                           // of documents, in the order of creation
  std::vector<std::size_t> order;      // of the bins
  Index rows = 0, truncated = 0;

  State(std::shared_ptr<const Tokenizer> the_tokenizer, std::vector<Source> sources, const LoaderConfig& config)
      : tokenizer(std::move(the_tokenizer)), pool(std::move(sources), config) {
    require(tokenizer != nullptr, "BatchLoader: there is no tokenizer");
    plan(0);
  }

  PhiloxKey key(std::uint32_t purpose, std::int64_t step) const {
    return {pool.config.seed, purpose, static_cast<std::uint32_t>(step)};
  }

  void plan(std::int64_t epoch);
  std::vector<std::int64_t> choose(std::int64_t epoch) const;
  std::vector<std::int32_t> sampled(std::string_view text, std::int64_t epoch, std::int64_t example, int part) const;
  std::int64_t first_of(std::size_t document) const { return entries[documents[document]]; }
  Example text_example(std::size_t document, std::int64_t epoch) const;
  struct Drawn {
    Example example;
    bool has_prefix = false, dropped = false;  // its pair; here
  };
  Drawn example(std::size_t document, const StepDraw& draw) const;
};

/// Calls body(i) for all i below count, on all threads.
template <class Body>
void each(std::size_t count, const Body& body) {
  const auto all = static_cast<Index>(count);
  kernels::ThreadPool::global().parallel_for((all + kExamplesPerTask - 1) / kExamplesPerTask, [&](Index task) {
    for (Index i = task * kExamplesPerTask; i < std::min(all, (task + 1) * kExamplesPerTask); ++i) {
      body(static_cast<std::size_t>(i));
    }
  });
}

std::vector<std::int64_t> BatchLoader::State::choose(std::int64_t epoch) const {
  std::vector<std::int64_t> chosen;
  for (std::size_t s = 0; s < pool.sources.size(); ++s) {
    const Index size = pool.sources[s].shard->size();
    const std::int64_t first = pool.ends[s] - size;
    const double whole = std::floor(pool.sources[s].weight);
    for (int repeat = 0; repeat < static_cast<int>(whole); ++repeat) {
      for (Index i = 0; i < size; ++i) chosen.push_back(first + i);
    }
    // A source of little weight still shows one example.
    auto more = static_cast<Index>(std::llround((pool.sources[s].weight - whole) * static_cast<double>(size)));
    if (whole == 0) more = std::max<Index>(more, 1);
    if (more == 0) continue;
    const auto by_key =
        random_order(static_cast<std::size_t>(size), key(kPurposeSubset, epoch), static_cast<std::uint64_t>(first));
    for (Index i = 0; i < more; ++i) chosen.push_back(first + static_cast<Index>(by_key[static_cast<std::size_t>(i)]));
  }
  return chosen;
}

std::vector<std::int32_t> BatchLoader::State::sampled(std::string_view text, std::int64_t epoch, std::int64_t example,
                                                      int part) const {
  const std::uint64_t index = static_cast<std::uint64_t>(example) << 24 | static_cast<std::uint64_t>(part) << 23;
  return tokenizer->encode_sampled(text, pool.config.subword_sampling, key(kPurposeSubword, epoch), index);
}

void BatchLoader::State::plan(std::int64_t epoch) {
  const std::vector<std::int64_t> chosen = choose(epoch);
  entries.resize(chosen.size());
  const auto shuffled = random_order(chosen.size(), key(kPurposeShuffle, epoch));
  for (std::size_t i = 0; i < chosen.size(); ++i) entries[i] = chosen[shuffled[i]];

  const bool texts = pool.config.objective != Objective::pairs, sampling = pool.config.subword_sampling > 0;
  std::vector<Rows> found(entries.size());  // of texts first the tokens
  each(entries.size(), [&](std::size_t e) {
    const std::int64_t index = entries[e];
    const auto [source, i] = pool.locate(index);
    const Shard& shard = *pool.sources[source].shard;
    const std::size_t prompt =
        sampling ? sampled(shard.prompt(i), epoch, index, 1).size() : shard.prompt_tokens(i).size();
    if (texts) {
      found[e].rows = static_cast<std::int32_t>(prompt);
      return;
    }
    const std::size_t query = sampling ? sampled(shard.query(i), epoch, index, 0).size() : shard.query_tokens(i).size();
    found[e] = count_rows(pool.has_prefix(shard, i, pool.config.prefix), query, prompt, pool.config.context);
  });
  documents = pool.documents(found);
  if (texts) {  // what is drawn for a text does not depend on what it says
    std::vector<Rows> of_documents(documents.size() - 1);
    each(of_documents.size(), [&](std::size_t d) {
      std::size_t tokens = documents[d + 1] - documents[d] - 1;
      for (std::size_t e = documents[d]; e < documents[d + 1]; ++e) tokens += static_cast<std::size_t>(found[e].rows);
      const std::vector<std::int32_t> blank(tokens);
      const Example text = pool.text_example(blank, first_of(d), key(kPurposeNoise, epoch));
      of_documents[d] = {static_cast<std::int32_t>(text.rows()), text.truncated};
    });
    found = std::move(of_documents);
  }
  std::vector<std::int32_t> lengths;
  rows = truncated = 0;
  for (const Rows& one : found) {
    lengths.push_back(static_cast<std::int32_t>(one.rows + pool.config.soft_rows));
    rows += lengths.back();
    truncated += one.truncated ? 1 : 0;
  }
  bins = pack(lengths, pool.config.tokens, pool.config.max_documents);
  order = random_order(static_cast<std::size_t>(bins.size()), key(kPurposeBins, epoch));
  at = {epoch, 0};
}

Example BatchLoader::State::text_example(std::size_t document, std::int64_t epoch) const {
  std::vector<std::int32_t> text;
  for (std::size_t e = documents[document]; e < documents[document + 1]; ++e) {
    const auto [source, i] = pool.locate(entries[e]);
    const Shard& shard = *pool.sources[source].shard;
    if (e > documents[document]) text.push_back(Tokenizer::kEnd);
    if (pool.config.subword_sampling > 0) {
      const std::vector<std::int32_t> tokens = sampled(shard.prompt(i), epoch, entries[e], 1);
      text.insert(text.end(), tokens.begin(), tokens.end());
    } else {
      const std::span<const std::int32_t> tokens = shard.prompt_tokens(i);
      text.insert(text.end(), tokens.begin(), tokens.end());
    }
  }
  return pool.text_example(text, first_of(document), key(kPurposeNoise, epoch));
}

BatchLoader::State::Drawn BatchLoader::State::example(std::size_t document, const StepDraw& draw) const {
  if (pool.config.objective != Objective::pairs) return {text_example(document, at.epoch), false, false};
  const std::int64_t index = first_of(document);
  const auto [source, i] = pool.locate(index);
  const Shard& shard = *pool.sources[source].shard;
  const auto bits = philox(key(kPurposeForm, draw.step), static_cast<std::uint64_t>(index));
  std::int32_t prefix = pool.has_prefix(shard, i, pool.config.prefix) ? shard.prefix(i) : -1;
  Drawn drawn;
  drawn.has_prefix = prefix >= 0;
  drawn.dropped =
      drawn.has_prefix && pool.config.prefix == PrefixMode::dropout && uniform(bits[0]) < draw.prefix_dropout;
  if (drawn.dropped) prefix = -1;
  Example& out = drawn.example;
  if (pool.config.subword_sampling > 0) {
    out = make_example(prefix, sampled(shard.query(i), at.epoch, index, 0),
                       sampled(shard.prompt(i), at.epoch, index, 1), pool.config.context);
  } else {
    out = make_example(prefix, shard.query_tokens(i), shard.prompt_tokens(i), pool.config.context);
  }
  if (uniform(bits[1]) < draw.unconditional) out = without_query(out);
  return drawn;
}

BatchLoader::BatchLoader(std::shared_ptr<const Tokenizer> tokenizer, std::vector<Source> sources,
                         const LoaderConfig& config)
    : state_(std::make_unique<State>(std::move(tokenizer), std::move(sources), config)) {}

BatchLoader::~BatchLoader() = default;

std::vector<Batch> BatchLoader::next(Index count, const StepDraw& draw, Range own) {
  State& s = *state_;
  std::vector<Batch> batches;
  while (static_cast<Index>(batches.size()) < count) {
    if (s.at.bin == s.bins.size()) s.plan(s.at.epoch + 1);
    const auto documents = s.bins.bin(static_cast<Index>(s.order[static_cast<std::size_t>(s.at.bin)]));
    std::vector<std::int64_t> indices;
    for (const std::int64_t document : documents) indices.push_back(s.first_of(static_cast<std::size_t>(document)));
    ++s.at.bin;
    if (const auto number = static_cast<Index>(batches.size()); number < own.begin || number >= own.end) {
      batches.emplace_back().examples = std::move(indices);
      continue;
    }
    std::vector<State::Drawn> drawn(indices.size());
    kernels::ThreadPool::global().parallel_for(static_cast<Index>(indices.size()), [&](Index i) {
      const auto at = static_cast<std::size_t>(i);
      drawn[at] = s.example(static_cast<std::size_t>(documents[at]), draw);
    });
    std::vector<Example> examples;
    for (State::Drawn& one : drawn) examples.push_back(std::move(one.example));
    const LoaderConfig& config = s.pool.config;
    batches.push_back(make_batch(examples, indices, config.tokens, config.max_documents, config.soft_rows));
    for (const State::Drawn& one : drawn) {
      batches.back().prefixes += one.has_prefix ? 1 : 0;
      batches.back().dropped += one.dropped ? 1 : 0;
    }
  }
  return batches;
}

LoaderState BatchLoader::state() const { return state_->at; }

void BatchLoader::seek(const LoaderState& state) {
  if (state.epoch < 0 || state.epoch > std::numeric_limits<std::uint32_t>::max() || state.bin < 0) {
    user_error("data: there is no epoch {} with a micro-batch {}", state.epoch, state.bin);
  }
  if (state.epoch != state_->at.epoch) state_->plan(state.epoch);
  if (state.bin > state_->bins.size()) {
    user_error("data: epoch {} has {} {}, not {}: the data or the recipe has changed since this was saved", state.epoch,
               state_->bins.size(), plural(state_->bins.size(), "micro-batch", "micro-batches"), state.bin);
  }
  state_->at = state;
}

Index BatchLoader::bins() const { return state_->bins.size(); }
Index BatchLoader::examples() const { return static_cast<Index>(state_->entries.size()); }
Index BatchLoader::truncated() const { return state_->truncated; }
double BatchLoader::fill() const {
  return static_cast<double>(state_->rows) / static_cast<double>(bins() * state_->pool.config.tokens);
}
std::pair<std::size_t, Index> BatchLoader::locate(std::int64_t example) const { return state_->pool.locate(example); }
const Shard& BatchLoader::source(std::size_t i) const { return *state_->pool.sources.at(i).shard; }

struct FixedBatches::State {
  Pool pool;
  Form form;
  std::vector<std::size_t> documents = {};  // examples with which documents begin, and the end
  Bins bins = {};                           // of documents
  Index examples = 0, truncated = 0;

  Example text(std::size_t document) const {
    std::vector<std::int32_t> tokens;
    for (std::size_t index = documents[document]; index < documents[document + 1]; ++index) {
      const auto [source, i] = pool.locate(static_cast<std::int64_t>(index));
      if (index > documents[document]) tokens.push_back(Tokenizer::kEnd);
      const std::span<const std::int32_t> more = pool.sources[source].shard->prompt_tokens(i);
      tokens.insert(tokens.end(), more.begin(), more.end());
    }
    return pool.text_example(tokens, static_cast<std::int64_t>(documents[document]), {0, kPurposeNoise, 0});
  }

  Example example(std::size_t document) const {
    if (pool.config.objective != Objective::pairs) return text(document);
    const auto [source, i] = pool.locate(static_cast<std::int64_t>(documents[document]));
    const Shard& shard = *pool.sources[source].shard;
    const bool prefix = pool.config.prefix == PrefixMode::always && shard.prefix(i) >= 0;
    Example out =
        make_example(prefix ? shard.prefix(i) : -1, shard.query_tokens(i), shard.prompt_tokens(i), pool.config.context);
    return form == Form::unconditional ? without_query(out) : out;
  }
};

FixedBatches::FixedBatches(std::vector<Source> sources, const LoaderConfig& config, Form form, Index max_examples)
    : state_(new State{.pool = Pool(std::move(sources), config), .form = form}) {
  state_->examples = max_examples > 0 ? std::min<Index>(max_examples, state_->pool.size()) : state_->pool.size();
  std::vector<Rows> texts(static_cast<std::size_t>(state_->examples));
  for (std::size_t e = 0; e < texts.size(); ++e) {
    const auto [source, i] = state_->pool.locate(static_cast<std::int64_t>(e));
    texts[e].rows = static_cast<std::int32_t>(state_->pool.sources[source].shard->prompt_tokens(i).size());
  }
  state_->documents = state_->pool.documents(texts);
  std::vector<std::int32_t> lengths;
  for (std::size_t d = 0; d + 1 < state_->documents.size(); ++d) {
    const Example example = state_->example(d);
    lengths.push_back(static_cast<std::int32_t>(example.rows() + config.soft_rows));
    state_->truncated += example.truncated ? 1 : 0;
  }
  state_->bins = pack(lengths, config.tokens, config.max_documents);
}

FixedBatches::~FixedBatches() = default;

Index FixedBatches::size() const { return state_->bins.size(); }
Index FixedBatches::examples() const { return state_->examples; }
Index FixedBatches::truncated() const { return state_->truncated; }

Batch FixedBatches::batch(Index i) const {
  require(i >= 0 && i < size(), "FixedBatches: there is no micro-batch {}, there are {}", i, size());
  std::vector<Example> examples;
  std::vector<std::int64_t> indices;
  for (const std::int64_t document : state_->bins.bin(i)) {
    examples.push_back(state_->example(static_cast<std::size_t>(document)));
    indices.push_back(static_cast<std::int64_t>(state_->documents[static_cast<std::size_t>(document)]));
  }
  const LoaderConfig& config = state_->pool.config;
  return make_batch(examples, indices, config.tokens, config.max_documents, config.soft_rows);
}

}  // namespace unfurl::train
