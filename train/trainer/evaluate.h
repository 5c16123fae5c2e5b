// How well a model predicts held-out prompts, in bits per byte. Pairs of type "copy", whose queries are made of random
// words, count in their own group only.
//
// Each figure is the total negative log2-likelihood of a prompt's tokens, the end token included, over its UTF-8 bytes:
//
//   free         of the whole prompt, given the query
//   forced       the same bytes, but where the prompt opens with the query those tokens cost nothing: they are forced
//   after        of what follows the query, over its own bytes; only prompts that open with their query count
//   unconditional  of the prompt without a query, for models that were trained for it
#pragma once
#include <string>
#include <unordered_set>
#include <vector>

#include "train/data/loader.h"
#include "train/model/decoder.h"

namespace unfurl::train {

/// Sums over pairs; the figures are ratios of them.
struct EvalTotals {
  Index pairs = 0, opening = 0;  // all; those that open with their query
  Index targets = 0, truncated = 0;
  double bits = 0, bits_forced = 0, bits_after = 0;
  Index bytes = 0, bytes_after = 0;

  double free() const { return bytes > 0 ? bits / static_cast<double>(bytes) : 0; }
  double forced() const { return bytes > 0 ? bits_forced / static_cast<double>(bytes) : 0; }
  double after() const { return bytes_after > 0 ? bits_after / static_cast<double>(bytes_after) : 0; }
  /// Nats a target, and its exponential.
  double loss() const;
  double perplexity() const;
  void add(const EvalTotals& other);
};

struct EvalGroup {
  std::string name;
  EvalTotals totals;
};

struct EvalResult {
  EvalTotals all;
  EvalTotals opening;            // those of `all` that open with their query, which is what verbatim expansions do
  EvalTotals unseen;             // pairs of whose word n-grams less than the given share occur in training prompts
  std::vector<EvalGroup> types;  // by the pairs' types, in order of name
  bool has_unconditional = false;
  EvalTotals unconditional;
};

struct EvalSettings {
  LoaderConfig loader;
  Index max_pairs = 0;  // 0: all
  bool unconditional = false;
  Index ngram = 6;
  double seen_share = 0.25;
};

/// Over every pair of the sources, in order. `training` gives the n-grams that count as seen.
EvalResult evaluate(const Decoder& decoder, const Tokenizer& tokenizer, const std::vector<Source>& sources,
                    const std::vector<Source>& training, const EvalSettings& settings);

}  // namespace unfurl::train
