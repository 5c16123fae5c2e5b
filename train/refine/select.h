// Which of the scored pairs are trained on.
#pragma once
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "train/recipe/recipe.h"

namespace unfurl::train {

struct Candidate {
  std::string type;         // of its query
  std::string query;        // the query's key
  double score = 0;         // of no meaning where needs_scores() is false
  std::uint64_t place = 0;  // by which it is drawn at random; each has its own
};

/// Pairs that one threshold is for.
struct SelectionGroup {
  std::string name;  // "" where there is one for all, else the type or the query's key
  std::size_t pairs = 0, kept = 0;
  bool raised = false;   // the quantile would keep none: it keeps one
  double threshold = 0;  // the least score that was kept; of no meaning for a random selection
};

struct Selection {
  std::vector<std::size_t> kept;  // ascending
  std::vector<SelectionGroup> groups;
};

/// True where select_pairs looks at scores. A random selection by quantile knows without them how many to take.
bool needs_scores(const RefineRecipe& config);

/// By quantile, of a group's m pairs the round(keep m) (at least one) with the best scores, the earlier first among
/// equals; or as many of each group drawn at random by (seed, place); or all. Throws UserError where a fixed threshold
/// keeps none, which says what would keep some, and Error for a score that is not finite.
Selection select_pairs(std::span<const Candidate> candidates, const RefineRecipe& config, std::uint64_t seed);

}  // namespace unfurl::train
