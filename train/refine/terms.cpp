#include "train/refine/terms.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "core/error.h"
#include "core/names.h"
#include "train/corpus/text.h"
#include "train/judge/images.h"

namespace unfurl::train {
namespace {

constexpr std::array kTerms = {
    ScoreTerm{"sim_query_image", "cosine of the query's and the image's embeddings", true,
              [](std::string_view, std::string_view, const ImageAnswer& answer) {
                return cosine(answer.query, answer.image);
              }},
    ScoreTerm{"sim_prompt_image", "cosine of the prompt's and the image's embeddings", true,
              [](std::string_view, std::string_view, const ImageAnswer& answer) {
                return cosine(answer.prompt, answer.image);
              }},
    ScoreTerm{"sim_query_prompt", "cosine of the query's and the prompt's embeddings", true,
              [](std::string_view, std::string_view, const ImageAnswer& answer) {
                return cosine(answer.query, answer.prompt);
              }},
    ScoreTerm{"aesthetic", "the image side's score of the image", true,
              [](std::string_view, std::string_view, const ImageAnswer& answer) {
                if (!answer.aesthetic) {
                  user_error(
                      "the score has the term aesthetic, but the image side gives no aesthetic score (request "
                      "\"{}\"); leave the term out, or start the side so that it scores",
                      answer.id);
                }
                if (!std::isfinite(*answer.aesthetic)) fail("the aesthetic score of \"{}\" is not finite", answer.id);
                return *answer.aesthetic;
              }},
    ScoreTerm{"length", "words of the prompt", false,
              [](std::string_view, std::string_view prompt, const ImageAnswer&) {
                return static_cast<double>(split_words(prompt).size());
              }},
};

}  // namespace

std::span<const ScoreTerm> score_terms() { return kTerms; }

const ScoreTerm& find_score_term(std::string_view name, std::string_view where, std::string_view key) {
  const auto found = std::ranges::find(kTerms, name, &ScoreTerm::name);
  if (found != kTerms.end()) return *found;
  std::vector<std::string_view> names;
  for (const ScoreTerm& term : kTerms) names.push_back(term.name);
  user_error("{}: {}: there is no term \"{}\"{} (the terms are {})", where, key, name, did_you_mean(name, names),
             join(names, ", "));
}

void check_score_terms(const std::vector<ScoreTermRecipe>& terms, const std::string& where, std::string_view key) {
  for (std::size_t i = 0; i < terms.size(); ++i) {
    find_score_term(terms[i].term, where, key);
    const auto same = [&](const ScoreTermRecipe& other) { return other.term == terms[i].term; };
    if (std::any_of(terms.begin(), terms.begin() + static_cast<std::ptrdiff_t>(i), same)) {
      user_error("{}: {} names the term {} twice: give it one weight", where, key, terms[i].term);
    }
  }
  if (!terms.empty() && std::ranges::all_of(terms, [](const auto& term) { return term.weight == 0; })) {
    user_error("{}: {}: every weight is 0, so that every score would be: give a term another", where, key);
  }
}

double score_of(std::string_view query, std::string_view prompt, const ImageAnswer& answer,
                const std::vector<ScoreTermRecipe>& terms) {
  double sum = 0;
  for (const ScoreTermRecipe& term : terms) {
    sum += term.weight * find_score_term(term.term, "the score").value(query, prompt, answer);
  }
  return sum;
}

void check_embeddings(const ImageAnswer& answer) {
  const auto check = [&](const char* what, const std::vector<float>& embedding) {
    require(embedding.size() == answer.image.size() && !embedding.empty(),
            "the image side's answer to \"{}\": the {}'s embedding has {} numbers, the image's {}", answer.id, what,
            embedding.size(), answer.image.size());
    double squares = 0;
    for (const float x : embedding) squares += double{x} * x;
    require(std::isfinite(squares), "the image side's answer to \"{}\": the {}'s embedding is not of finite numbers",
            answer.id, what);
    require(squares > 0, "the image side's answer to \"{}\": the {}'s embedding is all zeros", answer.id, what);
  };
  check("image", answer.image);
  check("query", answer.query);
  check("prompt", answer.prompt);
}

}  // namespace unfurl::train
