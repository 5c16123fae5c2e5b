// The second step of re-fine-tuning: the terms of every prompt's score. The file only grows, a prompt a line:
//
//   {"key": "92ab.../0", "query": "a tower", "prompt": "a tower, oil painting",
//    "terms": {"sim_query_image": 0.31, ...}, "image_side": "atelier (simulated)", "simulated": true}
//
// Where no term in use needs an image there are only the terms that need none.
#pragma once
#include <filesystem>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "train/image_side/image_side.h"
#include "train/recipe/recipe.h"
#include "train/refine/expansions.h"

namespace unfurl::train {

/// A prompt that may be trained on.
struct ScoredPrompt {
  const ExpandedQuery* query = nullptr;
  std::string prompt;
  Index sample = 0;
  std::map<std::string, double> terms;  // by name
  bool refused = false;                 // the image side makes no image of it

  std::string key() const { return query->key + '/' + std::to_string(sample); }
};

/// The prompts of the queries, without those that the model did not end where `only_ended`.
std::vector<ScoredPrompt> prompts_of(std::span<const ExpandedQuery> queries, bool only_ended);

/// True where one of the terms needs the image side.
bool needs_images(const RefineRecipe& config);

/// Fills in the terms; what the file has is taken from there, the rest appended. Prompts of which the side makes no
/// image are taken out, and stand in the file with "refused" instead of "terms". `side` is null where no images are
/// needed. Throws Error where an answer is unfit (check_embeddings), a term is not finite, or the file is not of these
/// prompts.
void score_prompts(std::vector<ScoredPrompt>& prompts, const RefineRecipe& config, ImageSide* side, std::uint64_t seed,
                   const std::filesystem::path& file);

/// The weighted sum.
double score_of(const ScoredPrompt& prompt, const std::vector<ScoreTermRecipe>& terms);

}  // namespace unfurl::train
