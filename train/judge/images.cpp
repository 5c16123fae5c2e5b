#include "train/judge/images.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "core/error.h"

namespace unfurl::train {
namespace {

constexpr double kNothing = std::numeric_limits<double>::quiet_NaN();

double mean_of(const std::vector<double>& values) {
  double sum = 0;
  std::size_t count = 0;
  for (const double value : values) {
    if (std::isnan(value)) continue;
    sum += value;
    ++count;
  }
  return count == 0 ? kNothing : sum / static_cast<double>(count);
}

std::vector<double> unit(std::span<const float> x) {
  double squares = 0;
  for (const float value : x) squares += double{value} * value;
  const double scale = squares > 0 ? 1 / std::sqrt(squares) : 0;
  std::vector<double> out;
  for (const float value : x) out.push_back(value * scale);
  return out;
}

double compare(double a, double b) { return a > b ? 1 : a < b ? 0 : 0.5; }

}  // namespace

double cosine(std::span<const float> a, std::span<const float> b) {
  require(a.size() == b.size(), "cosine: {} numbers and {}", a.size(), b.size());
  const std::vector<double> x = unit(a), y = unit(b);
  double sum = 0;
  for (std::size_t i = 0; i < x.size(); ++i) sum += x[i] * y[i];
  return sum;
}

ImageMetrics image_metrics(std::span<const ImageAnswer> answers) {
  ImageMetrics out;
  std::vector<double> prompts;
  std::vector<std::vector<double>> units;
  for (const ImageAnswer& answer : answers) {
    if (!answer.refused.empty()) {
      out.alignments.push_back(kNothing);
      out.aesthetics.push_back(kNothing);
      continue;
    }
    out.alignments.push_back(cosine(answer.query, answer.image));
    prompts.push_back(cosine(answer.prompt, answer.image));
    out.aesthetics.push_back(answer.aesthetic.value_or(kNothing));
    units.push_back(unit(answer.image));
  }
  out.alignment = mean_of(out.alignments);
  out.prompt_alignment = mean_of(prompts);
  out.aesthetic = mean_of(out.aesthetics);
  if (units.size() < 2) {
    out.diversity = kNothing;
    return out;
  }
  std::vector<double> middle(units[0].size(), 0);
  for (const auto& x : units) {
    for (std::size_t i = 0; i < x.size(); ++i) middle[i] += x[i] / static_cast<double>(units.size());
  }
  for (const auto& x : units) {
    for (std::size_t i = 0; i < x.size(); ++i) {
      out.diversity += (x[i] - middle[i]) * (x[i] - middle[i]) / static_cast<double>(units.size());
    }
  }
  return out;
}

double wins(std::span<const double> a, std::span<const double> b) {
  double sum = 0;
  std::size_t count = 0;
  for (std::size_t i = 0; i < std::min(a.size(), b.size()); ++i) {
    if (std::isnan(a[i]) || std::isnan(b[i])) continue;
    sum += compare(a[i], b[i]);
    ++count;
  }
  return count == 0 ? kNothing : sum / static_cast<double>(count);
}

double best_wins(std::span<const double> a, std::span<const double> b) {
  const auto best = [](std::span<const double> x) {
    double most = kNothing;
    for (const double value : x) {
      if (!std::isnan(value) && !(most >= value)) most = value;
    }
    return most;
  };
  const double x = best(a), y = best(b);
  return std::isnan(x) || std::isnan(y) ? kNothing : compare(x, y);
}

}  // namespace unfurl::train
