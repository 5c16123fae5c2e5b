#include "core/schedule.h"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace unfurl {

double Schedule::factor(Index step) const {
  const auto s = static_cast<double>(step), warmup = static_cast<double>(warmup_steps);
  if (step <= warmup_steps) return std::max(0.0, s / warmup);
  const double length = static_cast<double>(steps) - warmup;
  const double progress = length > 0 ? std::min(1.0, (s - warmup) / length) : 1.0;
  switch (shape) {
    case ScheduleShape::constant:
      return 1;
    case ScheduleShape::cosine:
      return final_ratio + (1 - final_ratio) * (1 + std::cos(std::numbers::pi * progress)) / 2;
    case ScheduleShape::linear:
      return 1 - (1 - final_ratio) * progress;
    case ScheduleShape::inverse_sqrt:
      return std::max(final_ratio, std::sqrt(std::max(1.0, warmup) / s));
  }
  return 1;
}

}  // namespace unfurl
