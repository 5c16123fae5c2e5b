// What all optimisers share: the global gradient norm, clipping by it, and the step that is skipped where the norm is
// not finite.
//
// On a device that runs CUDA kernels a step is a fixed sequence of launches that reads the learning rate and the count
// of updates from the device's memory: step() in parts, so that nobody waits and the middle part may be a graph.
#pragma once
#include <array>
#include <cmath>
#include <cstddef>
#include <memory>
#include <string>
#include <vector>

#include "core/comm/buckets.h"
#include "core/device.h"
#include "core/parameters.h"
#include "kernels/optimizer_step.h"

namespace unfurl {

/// A flat tensor of an optimiser's state: a handle, so that writing into it restores it.
struct StateTensor {
  std::string name;
  Tensor tensor;  // the elements of whole.own(), one part behind the other
  Buckets whole;  // how the ranks share it
};

/// How the ranks of a run share an optimiser's work: each updates its own part of the parameters and keeps the state of
/// that part alone (ZeRO stage 1, Rajbhandari et al., 2020). By default there is one rank.
struct OptimizerShare {
  int rank = 0, ranks = 1;
  Index bucket = 0;  // elements, of both arenas of gradients (core/comm/buckets.h)
  /// Brings the parts of partial sums of the gradients, one a block, in the memory where the gradients are, to all
  /// ranks; queued where a device is not waited for.
  std::function<void(double* sums, const Buckets& gradients)> gather_sums;
  /// This rank's part of a bucket has its new values: called for every bucket of an update, on every rank in the same
  /// order, in which the next forward pass reads them. May be empty.
  std::function<void(ParameterGroup group, Index bucket)> updated;
};

/// What came of a step.
struct Update {
  double norm = 0;   // of the gradients, before clipping
  bool done = true;  // false where it is not finite, or too great
  /// Where it is not finite, the first parameter whose gradient is not; "one of FIRST ... LAST" where it is not known
  /// better.
  std::string bad;
};

class Optimizer {
 public:
  virtual ~Optimizer() = default;
  Optimizer(const Optimizer&) = delete;
  Optimizer& operator=(const Optimizer&) = delete;

  /// One update with the gradients that have been added up, scaled down to the global norm `clip_norm` where theirs is
  /// greater; clears them. Returns their norm before clipping. Where that is not finite, nothing at all is changed, nor
  /// is the step counted: see first_non_finite and clear_gradients. (But on a device that runs CUDA kernels, which is
  /// waited for, the gradients are cleared then too.)
  double step(double learning_rate);

  /// The first half of a step on the CPU: the norm of all gradients.
  double norm();
  /// The second half, where the norm is finite.
  void apply(double learning_rate, double norm);
  /// After norm(): the first parameter whose gradient is not finite, as exactly as it is known; "" where all are.
  std::string not_finite() const;

  // The parts of a step on a device that runs CUDA kernels, in this order.

  /// Queues the learning rate of the next update, which is skipped where the norm is greater than skip_norm.
  void queue_settings(double learning_rate, double skip_norm = INFINITY);
  /// Queues the update. May be captured, as long as the parameters' gradients stay where they are.
  void queue_update();
  /// Queues a copy of what came of it to pinned memory, outcome_bytes() bytes.
  void queue_outcome(std::byte* pinned) const;
  std::size_t outcome_bytes() const;
  /// Reads the copy when it is there, and brings steps() up to date.
  Update outcome(const std::byte* pinned);

  /// Updates done. On a device that runs CUDA kernels: by the last outcome that was read.
  Index steps() const { return steps_; }
  void set_steps(Index steps);

  /// All state but steps(), in a fixed order; names are distinct.
  virtual std::vector<StateTensor> state() const = 0;

 protected:
  /// The parameters are allocated, with gradients, and outlive the optimiser.
  Optimizer(Parameters& parameters, const kernels::StepPolicy& policy, OptimizerShare share = {});

  /// How the ranks share a group's arena.
  Buckets buckets(ParameterGroup group) const;
  /// For update(), in its words.
  void note_updated(ParameterGroup group, Index bucket) const {
    if (share_.updated) share_.updated(group, bucket);
  }

  /// Update number steps(), from 1; clears the gradients.
  virtual void update(double learning_rate, double gradient_scale) = 0;
  /// The same with all numbers from `step`, in the device's memory.
  virtual void update(const kernels::OptimizerStep* step) = 0;

  Parameters& parameters() const { return *parameters_; }

 private:
  /// A step's numbers on a device that runs CUDA kernels.
  struct OnDevice {
    OnDevice(const Parameters& parameters, Device on);

    Device device;
    Index partials;  // of the norm: those of the decayed gradients, then those of the undecayed
    Tensor memory;   // an OptimizerStep, and behind it the partial sums
    struct Settings {
      PinnedMemory memory;
      Event copied;
    };
    std::array<Settings, 2> settings;  // on their way
    std::size_t next = 0;

    kernels::OptimizerStep* step() const;
    double* sums() const;
  };
  std::string first_non_finite(const double* sums) const;

  /// Calls body(group, gradients, number of its first partial sum) for each group that is trained.
  template <class Body>
  void each_group(Body body) const;
  /// The partial sums of this rank's parts of a group's gradients, from `sums` on; then those of all ranks.
  template <class Queue, class T>
  void sum_squares(const Queue& queue, double* sums, const T* gradients, const Buckets& whole) const;

  Parameters* parameters_;
  kernels::StepPolicy policy_;
  OptimizerShare share_;
  std::vector<double> sums_;  // on the CPU: the partial sums of the last norm
  Index steps_ = 0;
  std::unique_ptr<OnDevice> on_device_;
};

/// The Euclidean norm of all gradients; not finite where any is not. 0 on `meta`.
double gradient_norm(const Parameters& parameters);

/// The name of the first parameter whose gradient is not finite, "" where all are.
std::string first_non_finite(const Parameters& parameters);

/// Sets all gradients to zero.
void clear_gradients(const Parameters& parameters);

}  // namespace unfurl
