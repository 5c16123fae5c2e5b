// Learning-rate schedules: pure functions of the step.
//
//   factor(s) = s / warmup_steps                                          s <= warmup_steps
//   then, with p = (s - warmup_steps) / (steps - warmup_steps) in [0, 1]:
//     constant      1
//     cosine        final_ratio + (1 - final_ratio) (1 + cos(pi p)) / 2   (Loshchilov and Hutter, 2017)
//     linear        1 - (1 - final_ratio) p
//     inverse_sqrt  max(final_ratio, sqrt(max(1, warmup_steps) / s))      (Vaswani et al., 2017)
#pragma once
#include "kernels/types.h"

namespace unfurl {

enum class ScheduleShape { constant, cosine, linear, inverse_sqrt };

struct Schedule {
  ScheduleShape shape = ScheduleShape::cosine;
  Index warmup_steps = 0;  // 0: none
  Index steps = 0;         // of the whole run, warm-up included
  double final_ratio = 0;  // of the peak, where the schedule ends; inverse_sqrt: never less

  /// The learning rate of step `step`, which counts from 1, over the peak: in [0, 1]. After the last step it
  /// stays (inverse_sqrt goes on).
  double factor(Index step) const;
};

}  // namespace unfurl
