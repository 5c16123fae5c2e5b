#include "train/judge/statistics.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "core/error.h"
#include "train/corpus/draw.h"

namespace unfurl::train {
namespace {

constexpr std::uint32_t kResample = 7001;

double mean_of(const std::vector<double>& values) {
  double sum = 0;
  for (const double value : values) sum += value;
  return sum / static_cast<double>(values.size());
}

/// From the means of the resamples.
void set_interval(Estimate& estimate, std::vector<double>& means, double confidence) {
  std::sort(means.begin(), means.end());
  const auto at = [&](double share) {
    const double place = share * static_cast<double>(means.size() - 1);
    const auto below = static_cast<std::size_t>(place);
    const std::size_t above = std::min(below + 1, means.size() - 1);
    return means[below] + (place - static_cast<double>(below)) * (means[above] - means[below]);
  };
  estimate.low = at((1 - confidence) / 2);
  estimate.high = at((1 + confidence) / 2);
}

}  // namespace

Estimate estimate(std::span<const double> values, const Bootstrap& bootstrap) {
  std::vector<double> known;
  std::copy_if(values.begin(), values.end(), std::back_inserter(known), [](double x) { return std::isfinite(x); });
  Estimate out;
  out.count = known.size();
  if (known.empty()) return out;
  out.mean = mean_of(known);
  std::vector<double> means;
  for (std::int64_t round = 0; round < bootstrap.resamples; ++round) {
    Draw draw(bootstrap.seed, kResample, static_cast<std::uint64_t>(round));
    double sum = 0;
    for (std::size_t i = 0; i < known.size(); ++i) sum += known[draw.below(known.size())];
    means.push_back(sum / static_cast<double>(known.size()));
  }
  set_interval(out, means, bootstrap.confidence);
  return out;
}

Estimate estimate_difference(std::span<const double> a, std::span<const double> b, const Bootstrap& bootstrap) {
  require(a.size() == b.size(), "estimate_difference: {} values and {}", a.size(), b.size());
  std::vector<double> by;
  for (std::size_t i = 0; i < a.size(); ++i) by.push_back(a[i] - b[i]);
  return estimate(by, bootstrap);
}

std::vector<std::vector<double>> differences(const std::vector<std::vector<double>>& a,
                                             const std::vector<std::vector<double>>& b) {
  require(a.size() == b.size(), "differences: {} units and {}", a.size(), b.size());
  std::vector<std::vector<double>> out(a.size());
  for (std::size_t u = 0; u < a.size(); ++u) {
    require(a[u].size() == b[u].size(), "differences: unit {} has {} values and {}", u, a[u].size(), b[u].size());
    for (std::size_t i = 0; i < a[u].size(); ++i) out[u].push_back(a[u][i] - b[u][i]);
  }
  return out;
}

Estimate estimate_nested(const std::vector<std::vector<double>>& units, const Bootstrap& bootstrap) {
  std::vector<std::vector<double>> known;
  Estimate out;
  for (const std::vector<double>& unit : units) {
    std::vector<double> finite;
    std::copy_if(unit.begin(), unit.end(), std::back_inserter(finite), [](double x) { return std::isfinite(x); });
    out.count += finite.size();
    if (!finite.empty()) known.push_back(std::move(finite));
  }
  if (known.empty()) return out;
  for (const auto& unit : known) out.mean += mean_of(unit) / static_cast<double>(known.size());
  std::vector<double> means;
  for (std::int64_t round = 0; round < bootstrap.resamples; ++round) {
    Draw draw(bootstrap.seed, kResample, static_cast<std::uint64_t>(round));
    double total = 0;
    for (std::size_t u = 0; u < known.size(); ++u) {
      const std::vector<double>& unit = known[draw.below(known.size())];
      double sum = 0;
      for (std::size_t i = 0; i < unit.size(); ++i) sum += unit[draw.below(unit.size())];
      total += sum / static_cast<double>(unit.size());
    }
    means.push_back(total / static_cast<double>(known.size()));
  }
  set_interval(out, means, bootstrap.confidence);
  return out;
}

Verdict judge_difference(const Estimate& difference, double smallest) {
  if (!difference.defined()) return Verdict::undecided;
  if (difference.low > 0 && difference.mean >= smallest) return Verdict::supported;
  return difference.high < std::max(smallest, std::numeric_limits<double>::min()) ? Verdict::refuted
                                                                                  : Verdict::undecided;
}

const char* name_of(Verdict verdict) {
  switch (verdict) {
    case Verdict::supported:
      return "supported";
    case Verdict::refuted:
      return "refuted";
    case Verdict::undecided:
      break;
  }
  return "undecided";
}

}  // namespace unfurl::train
