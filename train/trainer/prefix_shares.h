// How many prefixes a run with prefix dropout has dropped, beside what its schedule says.
//
// Metrics lines, each of the pairs with a prefix since the line before:
//
//   {"kind": "prefixes", "step": 120, "pairs": 480, "dropped": 211, "expected": 207.6}
#pragma once
#include <string>
#include <vector>

#include "core/json.h"
#include "kernels/types.h"

namespace unfurl::train {

class PrefixShares {
 public:
  explicit PrefixShares(Index steps) : steps_(steps) {}

  /// The pairs with a prefix of a step, drawn with this probability of dropping, and how many were dropped.
  void add(Index step, Index pairs, Index dropped, double rate);
  /// True where a tenth of the run ends with the last step that was added.
  bool ends_tenth() const;
  /// The line of what was added since the last one; null where no pair had a prefix.
  Json take();

 private:
  Index steps_, step_ = 0;
  Index pairs_ = 0, dropped_ = 0;
  double expected_ = 0;
};

struct PrefixTenth {
  Index pairs = 0, dropped = 0;
  double expected = 0;  // pairs that the schedule drops
  double share() const { return pairs > 0 ? static_cast<double>(dropped) / static_cast<double>(pairs) : 0; }
  double schedule() const { return pairs > 0 ? expected / static_cast<double>(pairs) : 0; }
  /// Of the share: measured minus schedule in standard errors; 0 where the schedule leaves nothing to chance.
  double deviation() const;
};

/// Of each tenth of the run, from its metrics; empty where they have no such line.
std::vector<PrefixTenth> prefix_tenths(const std::vector<Json>& metrics, Index steps);

/// {"tenth", "pairs", "dropped", "schedule", "standard errors"}, a row each, for tables.
std::vector<std::vector<std::string>> prefix_table(const std::vector<PrefixTenth>& tenths);

}  // namespace unfurl::train
