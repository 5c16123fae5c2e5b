// Training data as micro-batches: which examples an epoch has, in which order, packed without padding between them.
//
// An epoch's plan is a pure function of (seed, epoch): examples are shuffled by random keys and packed best-fit into
// bins of `tokens` rows and `max_documents` documents; a bin is a micro-batch. The loader's whole state is (epoch,
// bin).
//
// A document is an example; with the objective ul2 it is as many texts, in the order of the epoch, as the context has
// room for, with <eos> between them.
//
// Several sources are mixed by weight: the times that each example of the source comes up in an epoch. 1 is every
// example once; 2.5 is every one twice and half of them, drawn anew each epoch, a third time; 0.25 is a quarter of
// them.
#pragma once
#include <cstdint>
#include <limits>
#include <memory>
#include <vector>

#include "core/comm/shards.h"
#include "train/data/batch.h"
#include "train/data/example.h"
#include "train/data/shard.h"
#include "train/recipe/recipe.h"

namespace unfurl::train {

enum class PrefixMode {
  none,    // never there
  always,  // there where the pair has one
  dropout  // there where the pair has one, but dropped at the rate given to next()
};

struct Source {
  std::shared_ptr<const Shard> shard;
  double weight = 1;  // > 0
};

struct LoaderConfig {
  Index tokens = 0;         // capacity of a micro-batch, rows
  Index max_documents = 0;  // of a micro-batch
  Index context = 0;        // rows of a document at most; longer pairs are truncated (example.h)
  Index soft_rows = 0;      // of a soft prompt before every document's own; with the context <= tokens
  std::uint64_t seed = 1;
  PrefixMode prefix = PrefixMode::none;
  Objective objective = Objective::pairs;  // otherwise prompts are texts, drawn by (seed, example, epoch): denoise.h
  Index sentinels = 0;                     // of the tokenizer
  double subword_sampling = 0;  // alpha of Tokenizer::encode_sampled, anew each epoch; 0: the shard's own tokens
};

struct LoaderState {
  std::int64_t epoch = 0, bin = 0;
  bool operator==(const LoaderState&) const = default;
};

/// What next() draws per example, keyed by (seed, step, example) and so independent of everything else.
struct StepDraw {
  std::uint32_t step = 0;
  double prefix_dropout = 0;  // probability that an example loses its prefix (PrefixMode::dropout), in [0, 1]
  double unconditional = 0;   // probability that an example is shown in the unconditional form, in [0, 1]
};

class BatchLoader {
 public:
  /// Throws UserError where the sources hold no example or the configuration makes no sense.
  BatchLoader(std::shared_ptr<const Tokenizer> tokenizer, std::vector<Source> sources, const LoaderConfig& config);
  ~BatchLoader();
  BatchLoader(const BatchLoader&) = delete;
  BatchLoader& operator=(const BatchLoader&) = delete;

  /// The next `count` micro-batches, on into the next epoch (or epochs) where this one ends. Of those outside `own`,
  /// which other ranks make, only `examples` is there.
  std::vector<Batch> next(Index count, const StepDraw& draw = {}, Range own = {0, std::numeric_limits<Index>::max()});

  LoaderState state() const;
  /// Continues as a loader that has reached this state does. Throws UserError for a state that this data cannot have.
  void seek(const LoaderState& state);

  Index bins() const;       // micro-batches of the current epoch
  Index examples() const;   // in the current epoch, with repetitions
  Index truncated() const;  // of these
  double fill() const;      // rows in use among all rows of the current epoch, before prefixes are dropped
  /// The source and the place in it of an example's global index.
  std::pair<std::size_t, Index> locate(std::int64_t example) const;
  const Shard& source(std::size_t i) const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

/// The same data in fixed order, every example once, without sampling: for validation and evaluation.
class FixedBatches {
 public:
  enum class Form { conditional, unconditional };

  /// `config.seed`, `subword_sampling` and the weights play no part; PrefixMode::dropout counts as none.
  /// `max_examples`: the first so many only; 0: all. Throws as BatchLoader does.
  FixedBatches(std::vector<Source> sources, const LoaderConfig& config, Form form = Form::conditional,
               Index max_examples = 0);
  ~FixedBatches();
  FixedBatches(const FixedBatches&) = delete;
  FixedBatches& operator=(const FixedBatches&) = delete;

  Index size() const;  // micro-batches
  Index examples() const;
  Index truncated() const;
  Batch batch(Index i) const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace unfurl::train
