// What all optimisers share: the global gradient norm, clipping by it, and the step that is skipped where the norm is
// not finite.
#pragma once
#include <string>
#include <vector>

#include "core/parameters.h"

namespace unfurl {

/// A flat tensor of an optimiser's state: a handle, so that writing into it restores it.
struct StateTensor {
  std::string name;
  Tensor tensor;
};

class Optimizer {
 public:
  virtual ~Optimizer() = default;
  Optimizer(const Optimizer&) = delete;
  Optimizer& operator=(const Optimizer&) = delete;

  /// One update with the gradients that have been added up, scaled down to the global norm `clip_norm` where theirs is
  /// greater; clears them. Returns their norm before clipping. Where that is not finite, nothing at all is changed, nor
  /// is the step counted: see first_non_finite and clear_gradients.
  double step(double learning_rate);

  /// Updates done.
  Index steps() const { return steps_; }
  void set_steps(Index steps) { steps_ = steps; }

  /// All state but steps(), in a fixed order; names are distinct.
  virtual std::vector<StateTensor> state() const = 0;

 protected:
  /// `clip_norm` 0: no clipping. The parameters are allocated, with gradients, and outlive the optimiser.
  Optimizer(Parameters& parameters, double clip_norm);

  /// Update number steps(), from 1; clears the gradients.
  virtual void update(double learning_rate, double gradient_scale) = 0;

  Parameters& parameters() const { return *parameters_; }

 private:
  Parameters* parameters_;
  double clip_norm_;
  Index steps_ = 0;
};

/// The Euclidean norm of all gradients; not finite where any is not. 0 on `meta`.
double gradient_norm(const Parameters& parameters);

/// The name of the first parameter whose gradient is not finite, "" where all are.
std::string first_non_finite(const Parameters& parameters);

/// Sets all gradients to zero.
void clear_gradients(const Parameters& parameters);

}  // namespace unfurl
