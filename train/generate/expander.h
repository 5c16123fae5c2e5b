// N different expansions of a query.
#pragma once
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "kernels/sampling.h"
#include "train/generate/bans.h"
#include "train/generate/codec.h"
#include "train/generate/decode.h"
#include "train/generate/language_model.h"
#include "train/recipe/recipe.h"

namespace unfurl::train {

/// "verbatim" (the query, byte for byte, opens every expansion) or "free" (the model rewrites it; tags and weights stay
/// byte for byte). Throws UserError for another name.
KeepMode parse_keep(std::string_view name);

struct ExpandSettings {
  Index count = 4;  // 1 to 256
  Index diverse =
      0;            // draw so many (`count` to 256) and take the `count` that differ most (diverse.h); 0: draw `count`
  Index steps = 1;  // expansions in a row (steps.h), 1 to 16; expand() itself takes one
  std::string prefix;
  std::string step_prefix;  // of the second step and further ones
  std::uint64_t seed = 0;
  kernels::Sampling sampling{.temperature = 0.8f, .top_k = 0, .top_p = 0.95f, .min_p = 0};
  Index max_tokens = 0;  // drawn for each expansion; 0: as many as the context has room for
  Index max_words = 0;   // of the whole expansion; 0: any number
  KeepMode keep = KeepMode::verbatim;
  Bans bans;
};

struct Expansion {
  std::string text;
  bool ended = false;  // the model ended it; else it was cut
  Stop stop = Stop::not_expanded;
  Index tokens = 0;                  // drawn, with <eos>
  double log_probability = 0;        // of those tokens, natural
  Index sample = 0;                  // with the seed, what to draw it by again: expansion `sample` of any count
  Index attempt = 0;                 // tries before this one that were empty or equal to an earlier sample
  std::vector<std::string> earlier;  // the texts of the steps before this one; empty after one step
};

struct Expansions {
  std::uint64_t seed = 0;
  std::vector<Expansion> items;  // by sample; fewer than asked for where the model gave no more different ones
  std::vector<std::string> warnings;
};

/// What a recipe's `samples` say.
ExpandSettings expand_settings(const SampleConfig& config, std::int64_t seed);

/// Throws UserError for a setting out of range, "top_p must be ...".
void check(const ExpandSettings& settings);

class Expander {
 public:
  /// Both must outlive the expander. Throws Error where they do not belong together.
  Expander(LanguageModel& model, const Codec& codec);

  /// Sample i is the first of its attempts (at most 8) that is not empty and differs from the samples before it (letter
  /// case, spaces and the punctuation at the end do not count); so it does not depend on how many are asked for.
  /// Segments between commas that a sample says twice, or that the query has, are left out (repeats.h). A query that
  /// cannot be expanded (longer than the context, nothing but tags, ...) is the one item, with a warning. Throws
  /// UserError for an empty query, one that is not UTF-8, an unknown prefix or a setting out of range; Error where the
  /// model fails.
  Expansions expand(std::string_view query, const ExpandSettings& settings);

  /// Throws UserError for a prefix that is neither empty nor known, naming the nearest.
  void check_prefix(std::string_view prefix) const;

 private:
  Expansions draw(std::string_view query, const ExpandSettings& settings, Index samples);
  LanguageModel& model_;
  const Codec& codec_;
  PieceTable pieces_;
};

/// The query itself as the one expansion.
Expansions unexpanded(std::string_view query, const ExpandSettings& settings, std::string warning);

/// As many steps as the settings say (steps.h), but where the model fails the query itself is returned, with a warning.
/// Mistakes of the user are still thrown.
Expansions expand_or_return(Expander& expander, std::string_view query, const ExpandSettings& settings);

}  // namespace unfurl::train
