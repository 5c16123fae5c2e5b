#include "train/trainer/prefix_shares.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

namespace unfurl::train {
namespace {

/// 0 to 9; steps count from 1.
Index tenth_of(Index step, Index steps) { return std::clamp<Index>((step - 1) * 10 / std::max<Index>(steps, 1), 0, 9); }

}  // namespace

void PrefixShares::add(Index step, Index pairs, Index dropped, double rate) {
  step_ = step;
  pairs_ += pairs;
  dropped_ += dropped;
  expected_ += rate * static_cast<double>(pairs);
}

bool PrefixShares::ends_tenth() const { return tenth_of(step_, steps_) != tenth_of(step_ + 1, steps_); }

Json PrefixShares::take() {
  if (pairs_ == 0) return {};
  Json line(Json::Object{
      {"kind", "prefixes"}, {"step", step_}, {"pairs", pairs_}, {"dropped", dropped_}, {"expected", expected_}});
  pairs_ = dropped_ = 0;
  expected_ = 0;
  return line;
}

double PrefixTenth::deviation() const {
  const double p = schedule(), error = pairs > 0 ? std::sqrt(p * (1 - p) / static_cast<double>(pairs)) : 0;
  return error > 1e-9 ? (share() - p) / error : 0;
}

std::vector<PrefixTenth> prefix_tenths(const std::vector<Json>& metrics, Index steps) {
  std::vector<PrefixTenth> out;
  for (const Json& line : metrics) {
    const Json* kind = line.find("kind");
    if (kind == nullptr || *kind != Json("prefixes")) continue;
    out.resize(10);
    PrefixTenth& tenth = out[static_cast<std::size_t>(tenth_of(line.at("step").as_integer(), steps))];
    tenth.pairs += line.at("pairs").as_integer();
    tenth.dropped += line.at("dropped").as_integer();
    tenth.expected += line.at("expected").as_number();
  }
  return out;
}

std::vector<std::vector<std::string>> prefix_table(const std::vector<PrefixTenth>& tenths) {
  std::vector<std::vector<std::string>> rows;
  for (std::size_t i = 0; i < tenths.size(); ++i) {
    const PrefixTenth& tenth = tenths[i];
    if (tenth.pairs == 0) continue;
    rows.push_back({fmt::format("{}", i + 1), fmt::format("{}", tenth.pairs), fmt::format("{:.3f}", tenth.share()),
                    fmt::format("{:.3f}", tenth.schedule()), fmt::format("{:+.1f}", tenth.deviation())});
  }
  return rows;
}

}  // namespace unfurl::train
