// What the ranks of a run do together around a step: they sum their gradients, each updates its own parts of the
// parameters, and they share what came of it.
//
//   reduce_during(tape) -> the last backward on every rank -> reduce_gradients() -> optimiser, with share() ->
//   gather_values()
//
// Both ways go bucket by bucket (buckets.h). The sum over ranks of a bucket starts as soon as its last gradient is
// there, while backward goes on with the others; its updated values travel while the optimiser is at the next. GPUs run
// what was queued long before: there every backward marks where a bucket is whole (marked_backward()), and behind the
// last one reduce_marked() queues the sums, each of which waits for its mark alone. On GPUs over MPI, which is for
// tests of them without NCCL, all sums are behind backward. Each sum is taken along the tree of ranks (communicator.h),
// so that buckets of any size give the same bits; or as NCCL likes it (nccl.h), which carries what is in the memory of
// GPUs.
#pragma once
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "core/comm/bucket_queue.h"
#include "core/comm/communicator.h"
#include "core/comm/nccl.h"
#include "core/optim/optimizer.h"
#include "core/parameters.h"

namespace unfurl {

class DataParallel {
 public:
  /// `sharded`: each rank updates its own parts alone (AdamW). Otherwise every rank updates everything (Adafactor). A
  /// bucket has `bucket_blocks` blocks of kernels::kNormBlock elements; 0: bucket_blocks_for() the model. Both outlive
  /// it.
  DataParallel(Communicator& communicator, Parameters& parameters, bool sharded, Index bucket_blocks = 0);
  /// Before the first step, on every rank at once: prepares what reaches the memory of the parameters. Throws Error,
  /// the same on every rank, where that is missing.
  void connect(const NcclOptions& options);
  /// Waits for what is under way.
  ~DataParallel();
  DataParallel(const DataParallel&) = delete;
  DataParallel& operator=(const DataParallel&) = delete;

  int rank() const { return communicator_.rank(); }
  int ranks() const { return communicator_.size(); }
  /// Of all gradients: each is a collective there and, as values or sums, one back.
  Index bucket_count() const { return static_cast<Index>(queue_.all().size()); }
  /// Elements of the one that is whole last.
  Index last_bucket() const { return queue_.all().empty() ? 0 : queue_.all().back().range.size(); }
  Communicator& communicator() const { return communicator_; }
  /// "4 ranks over Open MPI v4.1.4, GPUs over NCCL 2.28.9, sums in its order"
  std::string description() const;

  /// For the optimiser's constructor.
  OptimizerShare share();

  /// Called when the attached gradients of a part of an arena are final on this rank: where the sum over this rank's
  /// slots of that part is, f32, flat. It is left alone until reduce_gradients() returns.
  using SumOfSlots = std::function<Tensor(ParameterGroup, const Range&)>;
  /// Of the last micro-batch of a step: its tape.backward() starts to sum each bucket that is whole. Where it is not
  /// called, nothing is summed before reduce_gradients().
  void reduce_during(Tape& tape, SumOfSlots sum);
  /// Whether sums can start at marks in a device's work.
  bool marks() const { return nccl_ != nullptr; }
  /// tape.backward(root), which marks where each bucket is whole, where marks(). May be captured.
  void marked_backward(Tape& tape, const Tensor& root);
  /// When the last micro-batch of a step, with a marked_backward(), was queued: queues the sum of each bucket, behind
  /// its mark. What sum() queues is part of that.
  void reduce_marked(const SumOfSlots& sum);
  /// From the gradients of each rank to their sums, of which a rank has its own parts, or all where not sharded. Starts
  /// what was not started, and waits.
  void reduce_gradients(const SumOfSlots& sum);
  /// After the update: every rank's parts of the values to all, and the gradients of the others' parts are zero.
  void gather_values();
  /// For a checkpoint, on every rank at once: where ranks share the masters, rank 0 has the whole of them for as long
  /// as it keeps what is returned; the others get nothing. They travel bucket by bucket. Waits for the device.
  std::unique_ptr<WholeMasters> gather_masters();
  /// Brings the numbers of each rank, `count` in all in equal parts, to all. They are in the host's memory. Throws
  /// where anything before has failed.
  void gather(const char* what, double* numbers, Index count);

 private:
  Work reduce_scatter(const char* what, float* data, const Shards& shards) const;
  Work all_gather(const char* what, void* data, std::size_t element_bytes, const Shards& shards) const;
  Buckets buckets(ParameterGroup group) const;
  void reduce(const BucketQueue::Bucket& bucket, const SumOfSlots& sum);
  void gather_sums(double* sums, const Buckets& gradients) const;
  Work gather(const char* what, const Tensor& part, const Shards& shards) const;

  Communicator& communicator_;
  Parameters& parameters_;
  const bool sharded_;
  const Index bucket_;  // elements
  BucketQueue queue_;
  bool marked_ = false;  // the sums of this step were started by reduce_marked()
  Device device_ = Device::cpu;
  std::unique_ptr<NcclCommunicator> nccl_;  // where the parameters are in memory that it reaches
  std::vector<Work> sums_, values_;         // under way
};

/// Of a model with so many trained weights: an eighth of them, at most 16 MiB of f32 or, for many ranks, 4 MiB a rank,
/// as a collective sends messages to all of them; at least a 64th of the weights; and then as many more as ranks that
/// are a power of two can share in equal parts.
Index bucket_blocks_for(Index trained, int ranks = 1);

}  // namespace unfurl
