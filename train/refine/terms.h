// Terms of a score: numbers that say how good a pair (query, prompt) and its image are. A target behaviour is a
// weighted sum of them.
#pragma once
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "train/image_side/image_side.h"
#include "train/recipe/recipe.h"

namespace unfurl::train {

struct ScoreTerm {
  std::string_view name;
  std::string_view meaning;
  bool of_image;  // needs the image side's answer
  double (*value)(std::string_view query, std::string_view prompt, const ImageAnswer& answer);
};

/// All terms there are.
std::span<const ScoreTerm> score_terms();

/// Throws UserError naming the nearest for one that is not there.
const ScoreTerm& find_score_term(std::string_view name, std::string_view where, std::string_view key = "refine.score");

/// Throws UserError for an unknown term, or one given twice. `where` and the recipe's key begin the message.
void check_score_terms(const std::vector<ScoreTermRecipe>& terms, const std::string& where,
                       std::string_view key = "refine.score");

/// The weighted sum of an answer's terms.
double score_of(std::string_view query, std::string_view prompt, const ImageAnswer& answer,
                const std::vector<ScoreTermRecipe>& terms);

/// Throws Error naming the request where the embeddings differ in length, hold a number that is not finite, or one is
/// all zeros.
void check_embeddings(const ImageAnswer& answer);

}  // namespace unfurl::train
