#include "train/judge/statistics.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>

#include "train/corpus/draw.h"

namespace unfurl::train {
namespace {

constexpr std::uint32_t kResample = 7001;

/// Values that are drawn together.
struct Group {
  double sum = 0, count = 0;
  Group& operator+=(const Group& other) {
    sum += other.sum;
    count += other.count;
    return *this;
  }
};
using World = std::vector<std::vector<Group>>;  // [unit, group]

/// Without what is missing.
std::vector<Group> groups_of(const Unit& unit) {
  std::vector<Group> out;
  std::map<std::string, std::size_t> places;
  for (std::size_t i = 0; i < unit.values.size(); ++i) {
    if (!std::isfinite(unit.values[i])) continue;
    std::size_t place = out.size();
    if (i < unit.groups.size() && !unit.groups[i].empty()) place = places.emplace(unit.groups[i], place).first->second;
    if (place == out.size()) out.emplace_back();
    out[place] += {unit.values[i], 1};
  }
  return out;
}

std::vector<World> worlds_of(const std::vector<Unit>& units) {
  std::vector<World> out;
  std::map<std::string, std::size_t> places;
  for (const Unit& unit : units) {
    std::vector<Group> groups = groups_of(unit);
    if (groups.empty()) continue;
    const std::size_t place = places.emplace(unit.world, out.size()).first->second;
    if (place == out.size()) out.emplace_back();
    out[place].push_back(std::move(groups));
  }
  return out;
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

Estimate estimate(std::vector<double> values, const Bootstrap& bootstrap) {
  return estimate(std::vector<Unit>{{std::move(values), {}, {}}}, bootstrap);
}

Estimate estimate(const std::vector<Unit>& units, const Bootstrap& bootstrap) {
  const std::vector<World> worlds = worlds_of(units);
  Estimate out;
  double weight = 0;
  for (const World& world : worlds) {
    for (const auto& unit : world) {
      Group whole;
      for (const Group& group : unit) whole += group;
      out.count += static_cast<std::size_t>(whole.count);
      out.mean += whole.sum / whole.count;
      ++weight;
    }
  }
  if (out.count == 0) return out;
  out.mean /= weight;
  std::vector<double> means;
  for (std::int64_t round = 0; round < bootstrap.resamples; ++round) {
    Draw draw(bootstrap.seed, kResample, static_cast<std::uint64_t>(round));
    double total = 0, drawn = 0;
    for (std::size_t w = 0; w < worlds.size(); ++w) {
      const World& world = worlds[draw.below(worlds.size())];
      for (std::size_t u = 0; u < world.size(); ++u) {
        const std::vector<Group>& unit = world[draw.below(world.size())];
        Group whole;
        for (std::size_t g = 0; g < unit.size(); ++g) whole += unit[draw.below(unit.size())];
        total += whole.sum / whole.count;
        ++drawn;
      }
    }
    means.push_back(total / drawn);
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
