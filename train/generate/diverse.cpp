#include "train/generate/diverse.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <numeric>
#include <set>

#include "core/error.h"
#include "train/corpus/text.h"

namespace unfurl::train {
namespace {

using Distances = std::vector<std::vector<double>>;

/// Starts with the two farthest apart; `gain(i, chosen)` says what i would add to the others.
template <class Gain>
std::vector<std::size_t> choose(const Distances& distances, std::size_t count, const Gain& gain) {
  const std::size_t all = distances.size();
  std::vector<std::size_t> chosen;
  if (count >= all) {
    chosen.resize(all);
    std::iota(chosen.begin(), chosen.end(), std::size_t{0});
    return chosen;
  }
  if (count == 0) return chosen;
  chosen.push_back(0);
  if (count == 1) return chosen;
  std::size_t first = 0, second = 1;
  for (std::size_t i = 0; i < all; ++i) {
    for (std::size_t j = i + 1; j < all; ++j) {
      if (distances[i][j] > distances[first][second]) first = i, second = j;
    }
  }
  chosen = {first, second};
  while (chosen.size() < count) {
    std::size_t best = all;
    double most = 0;
    for (std::size_t i = 0; i < all; ++i) {
      if (std::find(chosen.begin(), chosen.end(), i) != chosen.end()) continue;
      const double value = gain(i, chosen);
      if (best == all || value > most) best = i, most = value;
    }
    chosen.push_back(best);
  }
  std::sort(chosen.begin(), chosen.end());
  return chosen;
}

std::set<std::string> grams_of(const std::string& text) {
  const std::vector<std::string> words = plain_words(text);
  std::set<std::string> grams(words.begin(), words.end());
  for (std::size_t i = 1; i < words.size(); ++i) grams.insert(words[i - 1] + ' ' + words[i]);
  return grams;
}

double jaccard_distance(const std::set<std::string>& a, const std::set<std::string>& b) {
  std::size_t shared = 0;
  for (const std::string& gram : a) shared += b.contains(gram);
  const std::size_t all = a.size() + b.size() - shared;
  return all == 0 ? 0 : 1 - static_cast<double>(shared) / static_cast<double>(all);
}

}  // namespace

std::vector<std::size_t> most_different(std::span<const std::string> texts, std::size_t count) {
  std::vector<std::set<std::string>> grams;
  std::map<std::string, std::size_t> uses;
  for (const std::string& text : texts) {
    grams.push_back(grams_of(text));
    for (const std::string& gram : grams.back()) ++uses[gram];
  }
  for (std::set<std::string>& of_one : grams) {
    std::erase_if(of_one, [&](const std::string& gram) { return uses[gram] == texts.size(); });
  }
  Distances distances(texts.size(), std::vector<double>(texts.size(), 0));
  for (std::size_t i = 0; i < texts.size(); ++i) {
    for (std::size_t j = 0; j < i; ++j) distances[i][j] = distances[j][i] = jaccard_distance(grams[i], grams[j]);
  }
  return choose(distances, count, [&](std::size_t i, const std::vector<std::size_t>& chosen) {
    double nearest = distances[i][chosen[0]];
    for (const std::size_t other : chosen) nearest = std::min(nearest, distances[i][other]);
    return nearest;
  });
}

std::vector<std::size_t> most_different(std::span<const std::vector<float>> embeddings, std::size_t count) {
  std::vector<std::vector<double>> units;
  for (const std::vector<float>& embedding : embeddings) {
    require(embedding.size() == embeddings[0].size(), "most_different: embeddings of {} and {} numbers",
            embedding.size(), embeddings[0].size());
    double squares = 0;
    for (const float x : embedding) squares += double{x} * x;
    require(std::isfinite(squares), "most_different: an embedding holds a number that is not finite");
    const double scale = squares > 0 ? 1 / std::sqrt(squares) : 0;
    std::vector<double>& unit = units.emplace_back();
    for (const float x : embedding) unit.push_back(x * scale);
  }
  Distances distances(units.size(), std::vector<double>(units.size(), 0));
  for (std::size_t i = 0; i < units.size(); ++i) {
    for (std::size_t j = 0; j < i; ++j) {
      double sum = 0;
      for (std::size_t k = 0; k < units[i].size(); ++k) {
        sum += (units[i][k] - units[j][k]) * (units[i][k] - units[j][k]);
      }
      distances[i][j] = distances[j][i] = sum;
    }
  }
  // Among sets of one size, the sum over all pairs of the squared distances is the variance but for a factor.
  return choose(distances, count, [&](std::size_t i, const std::vector<std::size_t>& chosen) {
    double sum = 0;
    for (const std::size_t other : chosen) sum += distances[i][other];
    return sum;
  });
}

}  // namespace unfurl::train
