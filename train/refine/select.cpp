#include "train/refine/select.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <numeric>

#include "core/error.h"
#include "core/names.h"
#include "kernels/philox.h"

namespace unfurl::train {
namespace {

constexpr std::uint32_t kPurposeSelect = 0x52465401;  // index: the candidate's place

std::size_t quantile_of(std::size_t pairs, const RefineRecipe& config) {
  return static_cast<std::size_t>(std::llround(config.keep * static_cast<double>(pairs)));
}

/// How many of a group are kept by score.
std::size_t count_of(const std::vector<std::size_t>& group, std::span<const Candidate> candidates,
                     const RefineRecipe& config) {
  if (config.select == SelectBy::all) return group.size();
  if (config.threshold == ThresholdKind::quantile) {
    return std::clamp<std::size_t>(quantile_of(group.size(), config), 1, group.size());
  }
  return static_cast<std::size_t>(
      std::count_if(group.begin(), group.end(), [&](std::size_t i) { return candidates[i].score >= config.at_least; }));
}

[[noreturn]] void refuse_empty(std::span<const Candidate> candidates, const RefineRecipe& config) {
  std::vector<double> scores;
  for (const Candidate& candidate : candidates) scores.push_back(candidate.score);
  std::sort(scores.begin(), scores.end());
  user_error(
      "refine.at_least {} keeps none of {} {}: the best scores {:.6g}; {:.6g} keeps that one, {:.6g} keeps half of "
      "them",
      config.at_least, candidates.size(), plural(static_cast<std::int64_t>(candidates.size()), "pair"), scores.back(),
      scores.back(), scores[scores.size() / 2]);
}

}  // namespace

bool needs_scores(const RefineRecipe& config) {
  return config.select == SelectBy::score ||
         (config.select == SelectBy::random && config.threshold == ThresholdKind::fixed);
}

Selection select_pairs(std::span<const Candidate> candidates, const RefineRecipe& config, std::uint64_t seed) {
  const bool scored = needs_scores(config);
  std::map<std::string, std::vector<std::size_t>> groups;
  for (std::size_t i = 0; i < candidates.size(); ++i) {
    const Candidate& candidate = candidates[i];
    require(!scored || std::isfinite(candidate.score), "the score of pair {} (query {}) is not finite", i,
            candidate.query);
    groups[config.per == ThresholdScope::type    ? candidate.type
           : config.per == ThresholdScope::query ? candidate.query
                                                 : ""]
        .push_back(i);
  }
  Selection out;
  for (auto& [name, group] : groups) {
    const std::size_t count = count_of(group, candidates, config);
    std::vector<std::size_t> order = group;
    if (config.select == SelectBy::score) {
      std::stable_sort(order.begin(), order.end(),
                       [&](std::size_t a, std::size_t b) { return candidates[a].score > candidates[b].score; });
    } else if (config.select == SelectBy::random) {
      std::map<std::size_t, std::uint64_t> drawn;
      for (const std::size_t i : order) {
        const auto bits = philox({seed, kPurposeSelect, 0}, candidates[i].place);
        drawn[i] = std::uint64_t{bits[0]} << 32 | bits[1];
      }
      std::stable_sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) { return drawn[a] < drawn[b]; });
    }
    order.resize(count);
    SelectionGroup row{.name = name, .pairs = group.size(), .kept = count};
    row.raised = config.select != SelectBy::all && config.threshold == ThresholdKind::quantile &&
                 quantile_of(group.size(), config) == 0;
    if (scored && count > 0) {
      row.threshold = candidates[order[0]].score;
      for (const std::size_t i : order) row.threshold = std::min(row.threshold, candidates[i].score);
    }
    out.groups.push_back(row);
    out.kept.insert(out.kept.end(), order.begin(), order.end());
  }
  if (out.kept.empty() && !candidates.empty()) refuse_empty(candidates, config);
  std::sort(out.kept.begin(), out.kept.end());
  return out;
}

}  // namespace unfurl::train
