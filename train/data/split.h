// Which pairs are for training, for validation and for the test, such that no source is on two sides.
//
// A pair's key is the hash of its `id`, else of its prompt's content part (the first comma-separated segment, as
// lower-case words). Pairs of one key belong together, and so do pairs whose prompts are near-duplicates: the sets of
// their word 5-grams (a prompt of fewer words is one gram) have a Jaccard similarity of at least 0.5. Groups are closed
// under both, a group's key is its smallest member key, and the sides are drawn from the group's key alone: the result
// depends neither on the order of the pairs nor on the number of threads.
#pragma once
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "kernels/types.h"
#include "train/corpus/pair.h"

namespace unfurl::train {

/// Base and refine are the two parts of the training pairs that are split; `given` are pairs that were never split and
/// are all for training.
enum class Side : std::uint8_t { base, refine, validation, test, given };
inline constexpr std::size_t kSides = 5;

struct SplitConfig {
  double train = 0.7, validation = 0.2, test = 0.1;  // shares, their sum is 1
  double base = 0.5;                                 // share of training that is base; the rest is for re-fine-tuning
  double similarity = 0.5;                           // Jaccard, in (0, 1]; above 1: only keys make groups
  std::uint64_t seed = 0;                            // another seed draws other sides
};

struct Split {
  std::vector<Side> sides;                               // of each pair
  Index base = 0, refine = 0, validation = 0, test = 0;  // pairs
  Index groups = 0;
  Index merged = 0;         // groups by key alone, less groups: what near-duplicates have joined
  Index largest_group = 0;  // pairs
};

/// Throws UserError for shares that make no sense.
Split split_pairs(std::span<const Pair> pairs, const SplitConfig& config = {});

/// A pair's key, before near-duplicates are joined.
std::uint64_t split_key(const Pair& pair);

/// For each text, the index of the first text of its group of near-duplicates. Exact: unlike MinHash with banding, it
/// misses no pair of texts that are similar enough (prefix filtering; Chaudhuri et al., 2006; Xiao et al., 2008). Runs
/// in seconds on 100,000 prompts.
std::vector<std::int64_t> near_duplicate_groups(std::span<const std::string_view> texts, double similarity);

}  // namespace unfurl::train
