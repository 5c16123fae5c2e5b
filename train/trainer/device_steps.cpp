#include "train/trainer/device_steps.h"

#include <algorithm>

#include "core/autograd.h"
#include "core/product.h"
#include "core/trace.h"

namespace unfurl::train {

DeviceSteps::DeviceSteps(const Recipe& recipe, Decoder& decoder, Optimizer& optimizer, DataParallel& ranks)
    : recipe_(recipe),
      decoder_(decoder),
      optimizer_(optimizer),
      ranks_(ranks),
      device_(decoder.embedding().device()),
      cudnn_longest_(recipe.attention == AttentionKind::cudnn ? std::min(recipe.data.context, recipe.batch.tokens) : 0),
      uploader_(device_, recipe.batch.tokens, recipe.batch.documents) {
  const MemoryName memory("batch");
  loss_ = Tensor::zeros({}, DType::f32, device_);
  losses_ = Tensor::zeros({recipe.batch.slots * recipe.batch.micro_batches}, DType::f32, device_);
}

DeviceSteps::~DeviceSteps() {
  try {
    synchronize(device_);            // copies into results are still to come
  } catch (const std::exception&) {  // the device is lost, and nothing comes
  }
}

const void* DeviceSteps::gradients() const {
  return decoder_.parameters().gradients(ParameterGroup::decayed).data<float>();
}

void DeviceSteps::run(const ModelInputs& inputs, const DropoutPlace& dropout, bool marked) {
  Tape tape;
  Tensor loss;
  {
    const TapeScope scope(tape);
    const TraceScope trace("forward");
    loss = decoder_.loss(inputs, dropout, {.recompute = recipe_.train.recompute, .root = true});
  }
  const TraceScope trace("backward");
  if (marked) {
    ranks_.marked_backward(tape, loss);
  } else {
    tape.backward(loss);
  }
  on_device(device_, [&](const auto& queue) { queue.copy(loss_.data<float>(), loss.data<float>(), sizeof(float)); });
}

ModelInputs DeviceSteps::upload(const Batch& batch, const DropoutPlace& dropout, double weight) {
  ModelInputs out = uploader_.upload(batch, weight, decoder_.config(), dropout.first_token, dropout.step);
  if (cudnn_longest_ > 0) check_causal(batch, cudnn_longest_);
  out.cudnn_longest = cudnn_longest_;
  return out;
}

void DeviceSteps::tune(const Batch& batch) {
  const ProductTuning tuning;
  const ModelInputs inputs = upload(batch, {}, 1);
  {
    const Allocator::GraphMemoryScope memory(Allocator::of(device_));
    run(inputs, {}, false);
  }
  clear_gradients(decoder_.parameters());
}

void DeviceSteps::micro_batch(const Batch& batch, Index number, const DropoutPlace& dropout, double weight) {
  const ModelInputs inputs = upload(batch, dropout, weight);
  DropoutPlace place = dropout;
  place.on_device = uploader_.dropout_position();
  const bool marked = recipe_.train.overlap && ranks_.marks();
  const Index rows = inputs.targets.numel();
  if (met_.insert(rows).second) {
    const Allocator::GraphMemoryScope memory(Allocator::of(device_));
    run(inputs, place, marked);
  } else {
    Graph& graph = micro_batches_[{rows, gradients()}];
    if (graph.empty()) graph = Graph(device_, [&] { run(inputs, place, marked); });
    graph.launch();
  }
  on_device(device_,
            [&](const auto& queue) { queue.copy(losses_.data<float>() + number, loss_.data<float>(), sizeof(float)); });
}

void DeviceSteps::update(double learning_rate, double skip_norm) {
  optimizer_.queue_settings(learning_rate, skip_norm);
  if (!std::exchange(updated_, true) || ranks_.ranks() > 1) {  // what ranks exchange is no part of a graph
    optimizer_.queue_update();
  } else {
    Graph& graph = updates_[gradients()];
    if (graph.empty()) graph = Graph(device_, [&] { optimizer_.queue_update(); });
    graph.launch();
  }
  const auto bytes = static_cast<std::size_t>(losses_.numel()) * sizeof(float);
  if (free_.empty()) {
    free_.push_back(std::make_unique<Result>(device_, bytes + optimizer_.outcome_bytes()));
  }
  std::unique_ptr<Result> result = std::move(free_.front());
  free_.pop_front();
  on_device(device_, [&](const auto& queue) { queue.copy(result->memory.data(), losses_.data<float>(), bytes); });
  optimizer_.queue_outcome(result->memory.data() + bytes);
  result->ready = Event(device_);
  results_.push_back(std::move(result));
}

DeviceSteps::Outcome DeviceSteps::wait() {
  require(!results_.empty(), "DeviceSteps: no step is under way");
  std::unique_ptr<Result> result = std::move(results_.front());
  results_.pop_front();
  result->ready.wait();
  const auto count = static_cast<std::size_t>(losses_.numel());
  const auto* losses = reinterpret_cast<const float*>(result->memory.data());
  Outcome out{{losses, losses + count}, optimizer_.outcome(result->memory.data() + count * sizeof(float))};
  free_.push_back(std::move(result));
  return out;
}

}  // namespace unfurl::train
