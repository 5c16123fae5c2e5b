// What a training benchmark trains, and how its time is told apart: a recipe's model on batches that a peer can be
// given too.
//
// Documents are as long as the recipe's context, so that nobody loses time to padding; their tokens follow Zipf's law.
#pragma once
#include <algorithm>
#include <chrono>
#include <cmath>
#include <filesystem>
#include <map>
#include <numeric>
#include <string>
#include <vector>

#include "core/error.h"
#include "core/files.h"
#include "core/json.h"
#include "kernels/philox.h"
#include "train/recipe/recipe.h"
#include "train/trainer/checkpoint.h"
#include "train/trainer/step.h"

namespace unfurl::train {

constexpr Index kBatches = 20;

/// Whether a document opens with a prefix of 8 to 39 tokens that sees both ways and is not predicted.
enum class Prefixes { none, some };

inline double seconds_since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

/// Batch `number`, full: documents of `context` rows.
inline Batch make_batch(const Recipe& recipe, Index number, Prefixes prefixes) {
  Batch batch;
  const Index context = recipe.model.context;
  batch.tokens = recipe.batch.tokens;
  batch.documents = batch.tokens / context;
  require(batch.documents * context == batch.tokens && batch.documents <= recipe.batch.documents,
          "batch.tokens ({}) must be a multiple of model.context ({}), in at most batch.documents ({})", batch.tokens,
          context, recipe.batch.documents);
  batch.cu_seqlens = {0};
  for (Index document = 0; document < batch.documents; ++document) {
    const PhiloxKey key{7, 0xBE7C, static_cast<std::uint32_t>(number * batch.documents + document)};
    const auto token = [&](Index i) {
      const double u = philox(key, static_cast<std::uint64_t>(i))[0] * 0x1p-32;
      return static_cast<std::int32_t>(std::pow(static_cast<double>(recipe.model.vocab_size), u)) - 1;
    };
    const auto prefix = prefixes == Prefixes::none ? 1 : static_cast<Index>(8 + philox(key, 1u << 30)[1] % 32);
    const Index first = document * context;
    for (Index i = 0; i < context; ++i) {
      batch.ids.push_back(token(i));
      batch.positions.push_back(static_cast<std::int32_t>(i));
      if (i + 1 < prefix) continue;
      batch.target_rows.push_back(static_cast<std::int32_t>(first + i));
      batch.targets.push_back(token(i + 1));
    }
    batch.prefix_lengths.push_back(static_cast<std::int32_t>(prefix));
    batch.cu_seqlens.push_back(static_cast<std::int32_t>(first + context));
  }
  batch.order.resize(batch.ids.size());
  std::iota(batch.order.begin(), batch.order.end(), 0);
  std::stable_sort(batch.order.begin(), batch.order.end(), [&](std::int32_t a, std::int32_t b) {
    return batch.ids[static_cast<std::size_t>(a)] < batch.ids[static_cast<std::size_t>(b)];
  });
  return batch;
}

/// The model and its batches; step s, from 1, trains on batch (s - 1) mod kBatches.
class Work {
 public:
  Work(Recipe recipe, Prefixes prefixes, Device device = Device::cpu, DType dtype = DType::f32)
      : recipe_(std::move(recipe)), step_(recipe_, device, dtype) {
    require(recipe_.batch.slots == 1 && recipe_.batch.micro_batches == 1,
            "batch.slots and batch.micro_batches must be 1");
    step_.decoder().initialise(static_cast<std::uint64_t>(recipe_.seed));
    for (Index i = 0; i < kBatches; ++i) batches_.push_back({make_batch(recipe_, i, prefixes)});
  }

  /// Before the first step, as the trainer does: a GPU's matrix library chooses its algorithms.
  void tune() { step_.tune(batches_[0][0]); }
  /// One step; its loss.
  double run() {
    start();
    return finish();
  }
  /// The same in two parts: what a GPU does next may be started before what it does is finished.
  void start() {
    step_.start(batches_[static_cast<std::size_t>(started_ % kBatches)], started_ + 1);
    ++started_;
  }
  double finish() {
    const StepResult result = step_.finish();
    require(result.updated, "step {}: {} is not finite", result.step, result.bad);
    return result.loss;
  }

  Index tokens() const { return recipe_.batch.tokens; }
  const Recipe& recipe() const { return recipe_; }
  TrainStep& step() { return step_; }
  const Batch& first_batch() const { return batches_[0][0]; }
  const Decoder& decoder() { return step_.decoder(); }
  std::vector<std::int32_t> first_tokens(Index count) const {
    return {batches_[0][0].ids.begin(), batches_[0][0].ids.begin() + count};
  }

  void write(const std::filesystem::path& folder) {
    make_folder(folder);
    std::vector<NamedTensor> tensors;
    for (const Parameter& parameter : step_.decoder().parameters().all()) {
      tensors.push_back({parameter.name, parameter.master.to(Device::cpu)});
    }
    write_tensors(folder / "weights.safetensors", tensors);
    const ModelConfig& model = recipe_.model;
    const OptimizerConfig& optimizer = recipe_.optimizer;
    require(model.block == BlockKind::parallel && model.norm == NormKind::rms && model.kv_heads == 1 && model.tied &&
                model.activation == ActivationKind::swiglu && !model.qk_norm && model.dropout == 0 &&
                optimizer.name == OptimizerKind::adamw,
            "the peer knows parallel blocks, RMSNorm, one key and value head, SwiGLU, a tied head and AdamW only");
    Json json = Json::object();
    for (const auto& [key, value] : {std::pair{"vocab_size", model.vocab_size},
                                     {"width", model.width},
                                     {"layers", model.layers},
                                     {"heads", model.heads},
                                     {"head_dim", model.head_dim},
                                     {"ff_width", model.ff_width},
                                     {"context", model.context}}) {
      json["model"][key] = value;
    }
    json["model"]["norm_eps"] = model.norm_eps;
    json["model"]["rope_base"] = model.rope_base;
    for (const auto& [key, value] : {std::pair{"beta1", optimizer.beta1},
                                     {"beta2", optimizer.beta2},
                                     {"eps", optimizer.eps},
                                     {"weight_decay", optimizer.weight_decay},
                                     {"clip_norm", optimizer.clip_norm}}) {
      json["optimizer"][key] = value;
    }
    const auto numbers = [](const std::vector<std::int32_t>& values) {
      Json array = Json::array();
      for (const std::int32_t value : values) array.push_back(value);
      return array;
    };
    for (Index i = 0; i < 1000; ++i) json["learning_rates"].push_back(step_.learning_rate(i + 1));
    for (const auto& batches : batches_) {
      Json one = Json::object();
      one["ids"] = numbers(batches[0].ids);
      one["prefix_lengths"] = numbers(batches[0].prefix_lengths);
      one["target_rows"] = numbers(batches[0].target_rows);
      one["targets"] = numbers(batches[0].targets);
      json["batches"].push_back(one);
    }
    write_file(folder / "work.json", json.dump());
  }

 private:
  Recipe recipe_;
  TrainStep step_;
  std::vector<std::vector<Batch>> batches_;
  Index started_ = 0;
};

struct TracedEvent {
  double start, end, inside = 0;  // microseconds; `inside`: of events within this one
  std::string name;
};

/// Seconds of each operation without the operations inside it.
inline std::map<std::string, double> own_seconds(const Json& trace) {
  std::vector<TracedEvent> events;
  for (const Json& json : trace.at("traceEvents").as_array()) {
    const double start = json.at("ts").as_number();
    events.push_back({start, start + json.at("dur").as_number(), 0, json.at("name").as_string()});
  }
  std::sort(events.begin(), events.end(), [](const TracedEvent& a, const TracedEvent& b) {
    return a.start != b.start ? a.start < b.start : a.end > b.end;
  });
  std::vector<TracedEvent*> open;
  for (TracedEvent& event : events) {
    while (!open.empty() && open.back()->end <= event.start) open.pop_back();
    if (!open.empty()) open.back()->inside += event.end - event.start;
    open.push_back(&event);
  }
  std::map<std::string, double> out;
  for (const TracedEvent& event : events) out[event.name] += (event.end - event.start - event.inside) * 1e-6;
  return out;
}

}  // namespace unfurl::train
