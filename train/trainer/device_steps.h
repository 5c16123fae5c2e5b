// Training steps on a device that runs CUDA kernels, without waiting for it: micro-batches and updates are graphs, and
// what came of a step is read later.
//
// A graph is bound to the memory it was captured on: there is one for each number of target rows and each buffer of
// gradients (slots.h). The first micro-batch of a number of target rows runs as it is, which finds all memory that
// graphs of its kind need; the second is captured. Where ranks sum gradients beside backward, each of these marks where
// a bucket of gradients is whole (DataParallel::marked_backward); the marks of the last of a step are the ones waited
// for.
#pragma once
#include <deque>
#include <map>
#include <memory>
#include <set>
#include <vector>

#include "core/comm/data_parallel.h"
#include "core/optim/optimizer.h"
#include "train/model/decoder.h"
#include "train/recipe/recipe.h"
#include "train/trainer/inputs.h"

namespace unfurl::train {

class DeviceSteps {
 public:
  /// All must outlive it.
  DeviceSteps(const Recipe& recipe, Decoder& decoder, Optimizer& optimizer, DataParallel& ranks);
  ~DeviceSteps();

  /// Lets a GPU's matrix library choose its algorithms on a micro-batch. No step is under way; clears the gradients.
  void tune(const Batch& batch);

  /// Queues forward and backward of micro-batch `number` of the step.
  void micro_batch(const Batch& batch, Index number, const DropoutPlace& dropout, double weight);
  /// Queues the update that ends the step.
  void update(double learning_rate, double skip_norm);

  struct Outcome {
    std::vector<double> losses;  // of each micro-batch
    Update update;
  };
  /// Waits for the earliest step that was ended and not asked for yet.
  Outcome wait();

 private:
  struct Result {
    Result(Device device, std::size_t bytes) : memory(device, bytes) {}
    PinnedMemory memory;
    Event ready;
  };
  void run(const ModelInputs& inputs, const DropoutPlace& dropout, bool marked);
  ModelInputs upload(const Batch& batch, const DropoutPlace& dropout, double weight);
  /// The gradients' place: what a graph is bound to beside the inputs.
  const void* gradients() const;

  const Recipe& recipe_;
  Decoder& decoder_;
  Optimizer& optimizer_;
  DataParallel& ranks_;
  const Device device_;
  const Index cudnn_longest_;  // rows of a document, at most, where cuDNN computes attention; else 0
  BatchUploader uploader_;
  Tensor loss_, losses_;  // of this micro-batch, and of all of the step
  std::set<Index> met_;   // numbers of target rows
  std::map<std::pair<Index, const void*>, Graph> micro_batches_;
  std::map<const void*, Graph> updates_;
  bool updated_ = false;  // at least once
  std::deque<std::unique_ptr<Result>> results_, free_;
};

}  // namespace unfurl::train
