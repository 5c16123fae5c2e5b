// What the trainer asks of an optimiser.
#pragma once
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "core/parameters.h"

namespace unfurl {

struct OptimizerStep {
  double gradient_norm = 0;  // over all gradients, before clipping
  bool updated = false;      // false where the norm is not finite: weights and state are as they were
};

class Optimizer {
 public:
  virtual ~Optimizer() = default;

  /// One update of the parameters from their attached gradients, clipped to a global norm of `clip_norm` (0: not at
  /// all). `step` counts from 1. The gradients are zero afterwards, also where nothing was updated.
  virtual OptimizerStep step(Index step, double learning_rate, double clip_norm) = 0;

  /// The state, by name: flat tensors that share the optimiser's memory. Writing them restores it.
  virtual std::vector<std::pair<std::string, Tensor>> state() = 0;
};

struct AdamWConfig {
  double beta1 = 0.9, beta2 = 0.95, eps = 1e-8, weight_decay = 0.1;  // undecayed parameters do not decay
};
std::unique_ptr<Optimizer> make_adamw(Parameters& parameters, const AdamWConfig& config);

struct AdafactorConfig {
  double decay = 0.8, eps1 = 1e-30, eps2 = 1e-3, clip_threshold = 1, weight_decay = 0;
  bool parameter_scale = false;
};
std::unique_ptr<Optimizer> make_adafactor(Parameters& parameters, const AdafactorConfig& config);

}  // namespace unfurl
