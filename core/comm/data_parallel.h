// What the ranks of a run do together around a step: they sum their gradients, each updates its own part of the
// parameters, and they share what came of it.
//
//   backward on every rank -> reduce_gradients() -> optimiser, with share() -> gather_values()
//
// Gradients travel in buckets, so that one is summed while the next is on its way. Each sum is taken along the tree of
// ranks (communicator.h).
#pragma once
#include "core/comm/communicator.h"
#include "core/optim/optimizer.h"
#include "core/parameters.h"

namespace unfurl {

class DataParallel {
 public:
  /// `sharded`: each rank updates its own part alone (AdamW). Otherwise every rank updates everything (Adafactor). Both
  /// outlive it. Throws Error for a device whose memory the communicator cannot reach.
  DataParallel(Communicator& communicator, Parameters& parameters, bool sharded);

  int rank() const { return communicator_.rank(); }
  int ranks() const { return communicator_.size(); }
  Communicator& communicator() const { return communicator_; }

  /// For the optimiser's constructor.
  OptimizerShare share() const;

  /// From the gradients of each rank to their sums, of which a rank has its own part, or all where not sharded.
  void reduce_gradients();
  /// After the update: every rank's part of the values to all, and the gradients of the others' parts are zero.
  void gather_values();
  /// Brings all masters to all ranks, for a checkpoint, where they are not the values.
  void gather_masters();
  /// Brings the numbers of each rank, `count` in all in equal parts, to all.
  void gather(const char* what, double* numbers, Index count);

 private:
  void gather(const char* what, const Tensor& flat);
  Communicator& communicator_;
  Parameters& parameters_;
  const bool sharded_;
};

}  // namespace unfurl
