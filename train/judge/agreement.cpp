#include "train/judge/agreement.h"

#include <map>

namespace unfurl::train {

std::optional<double> krippendorff_alpha(const std::vector<std::vector<int>>& units) {
  std::map<int, double> totals;
  double all = 0, disagreeing = 0;  // ratings; of the coincidences, those of two categories
  for (const std::vector<int>& unit : units) {
    if (unit.size() < 2) continue;
    std::map<int, double> counts;
    for (const int category : unit) ++counts[category];
    const auto size = static_cast<double>(unit.size());
    for (const auto& [category, count] : counts) {
      totals[category] += count;
      disagreeing += count * (size - count) / (size - 1);
    }
    all += size;
  }
  double by_chance = 0;
  for (const auto& [category, total] : totals) by_chance += total * (all - total);
  if (by_chance == 0) return std::nullopt;
  return 1 - (all - 1) * disagreeing / by_chance;
}

}  // namespace unfurl::train
