// How sure a mean is: bootstrap intervals (Efron and Tibshirani, 1993, percentile form).
#pragma once
#include <cstdint>
#include <string>
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

/// What one training run showed in one world.
struct Unit {
  std::vector<double> values;       // those that are not finite count as missing
  std::vector<std::string> groups;  // of each value; values of a group are drawn together. None: each by itself
  std::string world;                // units of one world are drawn together
};

/// Of the values, each drawn with equal chance.
Estimate estimate(std::vector<double> values, const Bootstrap& bootstrap);

/// Of the mean over units of each unit's mean. Worlds are drawn, then units of each drawn world, then groups of values
/// of each drawn unit: the interval holds for other worlds, training seeds and queries. A unit alone in its world, and
/// a world alone, are always drawn: of one unit the interval is over its groups alone.
Estimate estimate(const std::vector<Unit>& units, const Bootstrap& bootstrap);

enum class Verdict { supported, refuted, undecided };

/// A difference is supported where its whole interval is above 0 and its mean at least `smallest`; refuted where its
/// whole interval is below `smallest`; else undecided.
Verdict judge_difference(const Estimate& difference, double smallest);
const char* name_of(Verdict verdict);

}  // namespace unfurl::train
