// Micro-batches on their way from the loader to the model.
#pragma once
#include <array>

#include "core/device.h"
#include "train/data/batch.h"
#include "train/model/decoder.h"

namespace unfurl::train {

/// A micro-batch as the model takes it; each target's loss counts `weight`.
ModelInputs model_inputs(const Batch& batch, double weight, DType dtype, Device device);

/// Throws Error where kernels that follow the batch's numbers would leave their memory. Operations check that
/// themselves, but not on a device that runs CUDA kernels: there the numbers are checked before they go there.
void check_batch(const Batch& batch, const ModelConfig& model);

/// Throws Error for a document that causal attention over at most `longest` rows is not for: a longer one, or one whose
/// prefix attends both ways.
void check_causal(const Batch& batch, Index longest);

/// The same batch with `rows` >= the targets it has: the new ones, between the others, are rows that nothing predicts
/// from, of weight 0. `weights` gets the weight of each row, `weight` or 0.
Batch with_target_rows(Batch batch, Index rows, float weight, std::vector<float>& weights);

/// Brings micro-batches of one capacity to a device without waiting for it, by way of two pinned buffers of the host,
/// always to the same memory there.
class BatchUploader {
 public:
  BatchUploader(Device device, Index tokens, Index documents);

  /// Queues the copy. The inputs are of use to what is queued until the next upload. Their target rows are as many as
  /// target_rows() says. `first_token` and `step` become dropout_position().
  ModelInputs upload(const Batch& batch, double weight, const ModelConfig& model, std::uint64_t first_token = 0,
                     std::uint32_t step = 0);

  /// Of the micro-batch that was uploaded last: what a DropoutPlace has on_device.
  const Tensor& dropout_position() const { return position_; }

  /// The number of target rows, a multiple of a sixteenth of the capacity: so many that a graph for each is not too
  /// much.
  Index target_rows(const Batch& batch) const;

 private:
  struct Buffer {
    PinnedMemory memory;
    Event copied;
  };
  Device device_;
  Index tokens_, documents_;
  Tensor numbers_, weights_, position_;
  std::array<Buffer, 2> buffers_;
  std::size_t next_ = 0;
};

}  // namespace unfurl::train
