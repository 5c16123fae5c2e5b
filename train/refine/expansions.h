// The first step of re-fine-tuning and each step of multi-step data: a model expands many queries. What it says goes to
// a file that only grows, one query a line in the order of the queries:
//
//   {"key": "92ab...", "query": "a tower", "type": "concrete", "id": "t1",
//    "prompts": [{"text": "a tower, oil painting", "sample": 0, "ended": true}, ...], "simulated": true}
//
// The prompts of a query depend on the model, the settings, the seed and the query alone, so the file has the same
// bytes for any number of threads and kills. A query of which the model gave nothing has no prompts.
#pragma once
#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "train/data/prepare.h"
#include "train/generate/expander.h"
#include "train/recipe/recipe.h"

namespace unfurl::train {

struct ExpandedPrompt {
  std::string text;
  Index sample = 0;
  bool ended = true;  // by the model
};

struct ExpandedQuery {
  std::string key;  // of its own; for the seed and for messages
  std::string query, type, id, source;
  std::vector<ExpandedPrompt> prompts;
  bool simulated = false;  // the pair that it is from, or the model that expands it
};

/// The different queries on one side of the data, each with the type, id and source of its first pair, without those of
/// type "copy", which are random words, and without those that a pair of the test side has too (short ones, as
/// "someone", belong to many prompts); `max_queries` of them drawn by seed (0: all), in the order of the data. With
/// `pairs`: one for each different pair instead, with its prompt.
std::vector<ExpandedQuery> queries_of(const SplitPairs& data, Side side, Index max_queries, std::uint64_t seed,
                                      bool pairs = false);

/// A model that expands many queries.
class RunExpander {
 public:
  /// From a run or checkpoint folder, placed as the recipe says. Throws as load_run does.
  RunExpander(const std::filesystem::path& run, const Recipe& recipe);
  ~RunExpander();

  /// Fills in the prompts of queries that have none yet, and appends what is new to the file. What the file has is
  /// taken from there. `what` is for the progress. Throws Error where the file is not of these queries.
  void expand(std::vector<ExpandedQuery>& queries, const ExpandSettings& settings, const std::filesystem::path& file,
              const std::string& what);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

/// Of all that decides what a run folder's model says: the weights' checksums.
std::uint64_t run_hash(const std::filesystem::path& run);

/// Writes all at once: for prompts that need no model.
void write_expansions(const std::filesystem::path& file, std::span<const ExpandedQuery> queries);
std::vector<ExpandedQuery> read_expansions(const std::filesystem::path& file);

}  // namespace unfurl::train
