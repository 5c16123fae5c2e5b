// What the ranks of a run do together around a step: they sum their gradients, each updates its own part of the
// parameters, and they share what came of it.
//
//   backward on every rank -> reduce_gradients() -> optimiser, with share() -> gather_values()
//
// Gradients travel in buckets, so that one is summed while the next is on its way. Each sum is taken along the tree of
// ranks (communicator.h), or as NCCL likes it (nccl.h), which carries what is in the memory of GPUs.
#pragma once
#include <memory>
#include <string>

#include "core/comm/communicator.h"
#include "core/comm/nccl.h"
#include "core/optim/optimizer.h"
#include "core/parameters.h"

namespace unfurl {

class DataParallel {
 public:
  /// `sharded`: each rank updates its own part alone (AdamW). Otherwise every rank updates everything (Adafactor). Both
  /// outlive it.
  DataParallel(Communicator& communicator, Parameters& parameters, bool sharded);
  /// Before the first step, on every rank at once: prepares what reaches the memory of the parameters. Throws Error,
  /// the same on every rank, where that is missing.
  void connect(const NcclOptions& options);

  int rank() const { return communicator_.rank(); }
  int ranks() const { return communicator_.size(); }
  Communicator& communicator() const { return communicator_; }
  /// "4 ranks over Open MPI v4.1.4, GPUs over NCCL 2.28.9, sums in its order"
  std::string description() const;

  /// For the optimiser's constructor.
  OptimizerShare share() const;

  /// From the gradients of each rank to their sums, of which a rank has its own part, or all where not sharded.
  void reduce_gradients();
  /// After the update: every rank's part of the values to all, and the gradients of the others' parts are zero.
  void gather_values();
  /// Brings all masters to all ranks, for a checkpoint, where they are not the values. Waits for the device.
  void gather_masters();
  /// Brings the numbers of each rank, `count` in all in equal parts, to all. They are in the host's memory. Throws
  /// where anything before has failed.
  void gather(const char* what, double* numbers, Index count);

 private:
  void gather(const char* what, const Tensor& flat);
  Work reduce_scatter(const char* what, float* data, const Shards& shards) const;
  Work all_gather(const char* what, void* data, std::size_t element_bytes, const Shards& shards) const;
  Communicator& communicator_;
  Parameters& parameters_;
  const bool sharded_;
  Device device_ = Device::cpu;
  std::unique_ptr<NcclCommunicator> nccl_;  // where the parameters are in memory that it reaches
};

}  // namespace unfurl
