#include "train/trainer/inputs.h"

#include <algorithm>
#include <cstring>

#include "kernels/dropout.h"

namespace unfurl::train {
namespace {

constexpr Index kShares = 16;
/// Sections of the buffer start at multiples of so many bytes.
constexpr std::size_t kSection = 256;

constexpr std::size_t section(Index numbers) {
  return (static_cast<std::size_t>(numbers) * 4 + kSection - 1) / kSection * kSection;
}

void check_range(const char* what, const std::vector<std::int32_t>& numbers, Index bound) {
  for (const std::int32_t number : numbers) {
    require(number >= 0 && number < bound, "micro-batch: {} must be in [0, {}), got {}", what, bound, number);
  }
}

}  // namespace

ModelInputs model_inputs(const Batch& batch, double weight, DType dtype, Device device) {
  const MemoryName memory("batch");
  const auto tensor = [device](const std::vector<std::int32_t>& values) {
    return Tensor::from(values, {static_cast<Index>(values.size())}, device);
  };
  const Shape targets{static_cast<Index>(batch.targets.size())};
  ModelInputs inputs{tensor(batch.ids),
                     tensor(batch.positions),
                     tensor(batch.order),
                     tensor(batch.cu_seqlens),
                     tensor(batch.prefix_lengths),
                     tensor(batch.target_rows),
                     tensor(batch.targets),
                     {}};
  inputs.weights =
      accumulator(dtype) == DType::f64
          ? Tensor::from(std::vector<double>(batch.targets.size(), weight), targets, device)
          : Tensor::from(std::vector<float>(batch.targets.size(), static_cast<float>(weight)), targets, device);
  return inputs;
}

void check_batch(const Batch& batch, const ModelConfig& model) {
  const Index capacity = batch.capacity();
  require(static_cast<Index>(batch.positions.size()) == capacity &&
              static_cast<Index>(batch.order.size()) == capacity &&
              batch.cu_seqlens.size() == batch.prefix_lengths.size() + 1 &&
              batch.targets.size() == batch.target_rows.size(),
          "micro-batch: the sizes of its parts do not agree");
  check_range("ids", batch.ids, model.vocab_size);
  check_range("positions", batch.positions, model.positions());
  check_range("order", batch.order, capacity);
  check_range("targets", batch.targets, model.vocab_size);
  check_range("target_rows", batch.target_rows, capacity);
  for (std::size_t i = 1; i < batch.target_rows.size(); ++i) {
    require(batch.target_rows[i - 1] < batch.target_rows[i], "micro-batch: target_rows must increase, got {} after {}",
            batch.target_rows[i], batch.target_rows[i - 1]);
  }
  std::int32_t last = 0;
  for (std::size_t d = 0; d < batch.cu_seqlens.size(); ++d) {
    const std::int32_t start = batch.cu_seqlens[d];
    require((d > 0 || start == 0) && start >= last && start <= capacity,
            "micro-batch: document {} starts at {} after {}, of {} rows", d, start, last, capacity);
    if (d > 0) {
      require(batch.prefix_lengths[d - 1] >= 0 && batch.prefix_lengths[d - 1] <= start - last,
              "micro-batch: the prefix {} of document {} must be in [0, {}]", batch.prefix_lengths[d - 1], d - 1,
              start - last);
    }
    require(start == last || start - last >= model.soft_rows(),
            "micro-batch: document {} has {} rows, and no room for a soft prompt of {}", d - 1, start - last,
            model.soft_rows());
    last = start;
  }
}

void check_causal(const Batch& batch, Index longest) {
  for (std::size_t d = 0; d < batch.prefix_lengths.size(); ++d) {
    const std::int32_t rows = batch.cu_seqlens[d + 1] - batch.cu_seqlens[d];
    require(rows <= longest, "micro-batch: document {} has {} rows, and attention is causal over at most {}", d, rows,
            longest);
    require(batch.prefix_lengths[d] <= 1,
            "micro-batch: document {} has a prefix of {} that attends both ways, and attention is causal", d,
            batch.prefix_lengths[d]);
  }
}

Batch with_target_rows(Batch batch, Index rows, float weight, std::vector<float>& weights) {
  const auto targets = static_cast<Index>(batch.targets.size());
  require(targets <= rows && rows <= batch.capacity(), "micro-batch: {} target rows for {} targets of {} rows", rows,
          targets, batch.capacity());
  const std::vector<std::int32_t> had_rows = std::move(batch.target_rows), had = std::move(batch.targets);
  batch.target_rows.clear();
  batch.targets.clear();
  weights.clear();
  Index missing = rows - targets;
  std::size_t next = 0;
  for (std::int32_t row = 0; row < batch.capacity() && static_cast<Index>(batch.targets.size()) < rows; ++row) {
    const bool target = next < had_rows.size() && had_rows[next] == row;
    if (!target && missing == 0) continue;
    batch.target_rows.push_back(row);
    batch.targets.push_back(target ? had[next] : 0);
    weights.push_back(target ? weight : 0);
    if (target) {
      ++next;
    } else {
      --missing;
    }
  }
  return batch;
}

BatchUploader::BatchUploader(Device device, Index tokens, Index documents)
    : device_(device),
      tokens_(tokens),
      documents_(documents),
      buffers_{Buffer{{device, 6 * section(tokens) + 2 * section(documents + 1) + section(4)}, {}},
               Buffer{{device, 6 * section(tokens) + 2 * section(documents + 1) + section(4)}, {}}} {
  const MemoryName memory("batch");
  const auto numbers = static_cast<Index>((5 * section(tokens) + 2 * section(documents + 1) + section(4)) / 4);
  numbers_ = Tensor::zeros({numbers}, DType::i32, device);
  weights_ = Tensor::zeros({tokens}, DType::f32, device);
  position_ = numbers_.span_of(numbers - static_cast<Index>(section(4) / 4), {4});
}

Index BatchUploader::target_rows(const Batch& batch) const {
  const Index share = (tokens_ + kShares - 1) / kShares;
  const auto targets = std::max<Index>(static_cast<Index>(batch.targets.size()), 1);
  return std::min(tokens_, (targets + share - 1) / share * share);
}

ModelInputs BatchUploader::upload(const Batch& batch, double weight, const ModelConfig& model,
                                  std::uint64_t first_token, std::uint32_t step) {
  check_batch(batch, model);
  require(batch.capacity() == tokens_ && batch.max_documents() == documents_,
          "micro-batch: of {} rows and {} documents, expected {} and {}", batch.capacity(), batch.max_documents(),
          tokens_, documents_);
  std::vector<float> weights;
  const Batch padded = with_target_rows(batch, target_rows(batch), static_cast<float>(weight), weights);
  Buffer& buffer = buffers_[next_++ % buffers_.size()];
  buffer.copied.wait();
  std::size_t at = 0;
  const auto place = [&](const std::vector<std::int32_t>& values, Index capacity) {
    std::memcpy(buffer.memory.data() + at, values.data(), values.size() * sizeof(std::int32_t));
    const Tensor view = numbers_.span_of(static_cast<Index>(at / 4), {static_cast<Index>(values.size())});
    at += section(capacity);
    return view;
  };
  ModelInputs inputs;
  inputs.ids = place(padded.ids, tokens_);
  inputs.positions = place(padded.positions, tokens_);
  inputs.order = place(padded.order, tokens_);
  inputs.cu_seqlens = place(padded.cu_seqlens, documents_ + 1);
  inputs.prefix_lengths = place(padded.prefix_lengths, documents_ + 1);
  inputs.target_rows = place(padded.target_rows, tokens_);
  inputs.targets = place(padded.targets, tokens_);
  const kernels::DropoutPosition position{first_token, step};
  std::memcpy(buffer.memory.data() + at, &position, sizeof(position));
  at += section(4);
  inputs.weights = weights_.span_of(0, {static_cast<Index>(weights.size())});
  std::memcpy(buffer.memory.data() + at, weights.data(), weights.size() * sizeof(float));
  on_device(device_, [&](const auto& queue) {
    queue.copy(numbers_.data<std::int32_t>(), buffer.memory.data(), at);
    queue.copy(weights_.data<float>(), buffer.memory.data() + at, weights.size() * sizeof(float));
  });
  buffer.copied = Event(device_);
  return inputs;
}

}  // namespace unfurl::train
