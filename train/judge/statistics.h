// How sure a mean is: bootstrap intervals (Efron and Tibshirani, 1993, percentile form).
#pragma once
#include <cstdint>
#include <functional>
#include <span>
#include <vector>

namespace unfurl::train {

struct Bootstrap {
  std::uint64_t seed = 1;
  std::int64_t resamples = 1000;
  double confidence = 0.95;
};

/// A mean with its interval; `count` 0 where there was nothing to take it of.
struct Estimate {
  double mean = 0, low = 0, high = 0;
  std::size_t count = 0;
  bool defined() const { return count > 0; }
};

/// Of the values, each drawn with equal chance. Values that are not finite count as missing.
Estimate estimate(std::span<const double> values, const Bootstrap& bootstrap);

/// Of a_i - b_i, drawn in pairs; pairs with a missing side are left out. Equally long.
Estimate estimate_difference(std::span<const double> a, std::span<const double> b, const Bootstrap& bootstrap);

/// Of the mean over units of each unit's mean: units are drawn, then the values of each drawn unit. The interval then
/// holds for other units (worlds, training seeds), not only for other queries.
Estimate estimate_nested(const std::vector<std::vector<double>>& units, const Bootstrap& bootstrap);

/// Differences by index, unit by unit; NaN where a side is missing. Units and values pair up by position.
std::vector<std::vector<double>> differences(const std::vector<std::vector<double>>& a,
                                             const std::vector<std::vector<double>>& b);

enum class Verdict { supported, refuted, undecided };

/// A difference is supported where its whole interval is above 0 and its mean at least `smallest`; refuted where its
/// whole interval is below `smallest`; else undecided.
Verdict judge_difference(const Estimate& difference, double smallest);
const char* name_of(Verdict verdict);

}  // namespace unfurl::train
