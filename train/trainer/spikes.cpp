#include "train/trainer/spikes.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "core/error.h"

namespace unfurl::train {
namespace {

constexpr Index kLag = 2;  // the norm of step n is known when step n + 2 begins
constexpr double kLeastDeviation = 0.05;

}  // namespace

double NormWindow::limit(Index step) const {
  double sum = 0, squares = 0;
  Index count = 0;
  for (auto it = norms_.rbegin(); it != norms_.rend() && count < window_; ++it) {
    if (it->first > step - kLag) continue;
    sum += it->second;
    squares += it->second * it->second;
    ++count;
  }
  if (threshold_ <= 0 || count < window_ || window_ == 0) return std::numeric_limits<double>::infinity();
  const double mean = sum / static_cast<double>(count);
  const double variance = std::max(squares / static_cast<double>(count) - mean * mean, 0.0);
  return mean + threshold_ * std::max(std::sqrt(variance), kLeastDeviation * mean);
}

void NormWindow::add(Index step, double norm, double limit) {
  if (!std::isfinite(norm)) return;
  norms_.emplace_back(step, std::min(norm, limit));
  while (static_cast<Index>(norms_.size()) > window_ + kLag) norms_.pop_front();
}

Json NormWindow::to_json() const {
  Json out = Json::array();
  for (const auto& [step, norm] : norms_) out.push_back(Json::Array{step, norm});
  return out;
}

void NormWindow::read(const Json& json) {
  norms_.clear();
  for (const Json& entry : json.as_array()) {
    const Json::Array& pair = entry.as_array();
    if (pair.size() != 2) fail("a norm of the window is no pair of a step and a number");
    norms_.emplace_back(pair[0].as_integer(), pair[1].as_number());
  }
}

Json spike_line(Index step, double norm, double limit, const std::string& policy, std::vector<std::string> pairs) {
  Json::Array names;
  for (std::string& pair : pairs) names.emplace_back(std::move(pair));
  return Json::Object{{"kind", "spike"}, {"step", step},     {"gradient_norm", norm},
                      {"limit", limit},  {"policy", policy}, {"pairs", std::move(names)}};
}

}  // namespace unfurl::train
