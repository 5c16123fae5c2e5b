// What the trainer asks of an optimiser.
#pragma once
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "core/parameters.h"

namespace unfurl {

/// The global norm of all attached gradients: per arena the sum over fixed blocks of 65,536 elements, in order. Not
/// finite where any gradient is not.
double gradient_norm(const Parameters& parameters);

/// Sets all attached gradients to zero.
void clear_gradients(const Parameters& parameters);

/// What the gradients are multiplied by so that their norm is at most `clip_norm` (0: no limit).
double clip_scale(double norm, double clip_norm);

class Optimizer {
 public:
  virtual ~Optimizer() = default;

  /// One update of the parameters from their attached gradients times `gradient_scale`; the gradients are zero
  /// afterwards. `step` counts from 1.
  virtual void step(Index step, double learning_rate, double gradient_scale) = 0;

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
