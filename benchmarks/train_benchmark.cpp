// Training speed of a recipe's model on this machine, on batches that a peer can be given too.
//
//   train_benchmark export FOLDER [RECIPE]         FOLDER/weights.safetensors and FOLDER/work.json: what a peer needs
//   train_benchmark losses STEPS [RECIPE]          the loss of each step, one a line
//   train_benchmark speed STEPS [RECIPE]           tokens/s over STEPS steps after two more to warm up, and tokens per
//                                                second of processor time
//   train_benchmark decode STEPS [RECIPE]          the same of greedy decoding, batch 1, after a prefix of 24 tokens,
//   train_benchmark decode-f32 STEPS [RECIPE]      with weights of 8 bits, as `unfurl expand` has them, or of 32
//   train_benchmark profile STEPS [RECIPE]         where their time goes, by operation, and the share of matrix
//   products
//
// Documents are as long as the recipe's context, so that nobody loses time to padding; their tokens follow Zipf's law,
// and a prefix of 8 to 39 tokens sees both ways and is not predicted. RECIPE defaults to benchmarks/train_cpu.yaml.
#include <fmt/format.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <ctime>
#include <filesystem>
#include <map>
#include <numeric>
#include <string>
#include <vector>

#include "core/error.h"
#include "core/files.h"
#include "core/json.h"
#include "core/trace.h"
#include "kernels/philox.h"
#include "kernels/thread_pool.h"
#include "train/model/session.h"
#include "train/recipe/recipe.h"
#include "train/trainer/checkpoint.h"
#include "train/trainer/step.h"

namespace unfurl::train {
namespace {

constexpr Index kBatches = 20, kWarmUp = 2, kPrefix = 24;

double seconds_since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

/// Batch `number`, full: documents of `context` rows.
Batch make_batch(const Recipe& recipe, Index number) {
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
    const auto prefix = static_cast<Index>(8 + philox(key, 1u << 30)[1] % 32);
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
  explicit Work(const std::string& path) : recipe_(load_recipe(path)), step_(recipe_, Device::cpu) {
    require(recipe_.batch.slots == 1 && recipe_.batch.micro_batches == 1,
            "{}: batch.slots and batch.micro_batches must be 1", path);
    step_.decoder().initialise(static_cast<std::uint64_t>(recipe_.seed));
    for (Index i = 0; i < kBatches; ++i) batches_.push_back({make_batch(recipe_, i)});
  }

  double run() {
    const StepResult result = step_.run(batches_[static_cast<std::size_t>(done_ % kBatches)], done_ + 1);
    require(result.updated, "step {}: {} is not finite", done_ + 1, result.bad);
    ++done_;
    return result.loss;
  }

  Index tokens() const { return recipe_.batch.tokens; }
  const Decoder& decoder() { return step_.decoder(); }
  std::vector<std::int32_t> first_tokens(Index count) const {
    return {batches_[0][0].ids.begin(), batches_[0][0].ids.begin() + count};
  }

  void write(const std::filesystem::path& folder) {
    make_folder(folder);
    std::vector<NamedTensor> tensors;
    for (const Parameter& parameter : step_.decoder().parameters().all()) {
      tensors.push_back({parameter.name, parameter.value});
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
  Index done_ = 0;
};

/// Calls body() and prints tokens/s, and tokens per second of processor time.
template <class Body>
void print_rates(Index tokens, const Body& body) {
  const auto start = std::chrono::steady_clock::now();
  const std::clock_t used = std::clock();
  body();
  const auto count = static_cast<double>(tokens);
  fmt::print("{:.1f} {:.1f}\n", count / seconds_since(start),
             count * CLOCKS_PER_SEC / static_cast<double>(std::clock() - used));
}

void decode(Work& work, Index steps, DecodePrecision precision) {
  DecoderSession session(work.decoder(), precision);
  const std::vector<std::int32_t> prefix = work.first_tokens(kPrefix);
  session.prefill(prefix, kPrefix);
  const auto greedy = [&] {
    session.fork(1, steps);
    std::int32_t token = prefix.back();
    for (Index i = 0; i < steps; ++i) {
      session.step({&token, 1});
      const float* logits = session.logits().data;
      token = static_cast<std::int32_t>(std::max_element(logits, logits + session.vocab_size()) - logits);
    }
  };
  greedy();
  print_rates(steps, greedy);
}

struct Event {
  double start, end, inside = 0;  // microseconds; `inside`: of events within this one
  std::string name;
};

/// Seconds of each operation without the operations inside it.
std::map<std::string, double> own_seconds(const Json& trace) {
  std::vector<Event> events;
  for (const Json& json : trace.at("traceEvents").as_array()) {
    const double start = json.at("ts").as_number();
    events.push_back({start, start + json.at("dur").as_number(), 0, json.at("name").as_string()});
  }
  std::sort(events.begin(), events.end(),
            [](const Event& a, const Event& b) { return a.start != b.start ? a.start < b.start : a.end > b.end; });
  std::vector<Event*> open;
  for (Event& event : events) {
    while (!open.empty() && open.back()->end <= event.start) open.pop_back();
    if (!open.empty()) open.back()->inside += event.end - event.start;
    open.push_back(&event);
  }
  std::map<std::string, double> out;
  for (const Event& event : events) out[event.name] += (event.end - event.start - event.inside) * 1e-6;
  return out;
}

bool is_product(const std::string& name) {
  return name.starts_with("linear") || name == "head: logits" || name == "head: dhidden" || name == "head: dweight";
}

void profile(Work& work, Index steps) {
  const auto path = std::filesystem::temp_directory_path() / fmt::format("unfurl-trace-{}.json", ::getpid());
  rusage before{}, after{};
  getrusage(RUSAGE_SELF, &before);
  Trace::start();
  const auto start = std::chrono::steady_clock::now();
  for (Index i = 0; i < steps; ++i) work.run();
  const double seconds = seconds_since(start);
  Trace::write(path);
  getrusage(RUSAGE_SELF, &after);
  const auto by_name = own_seconds(Json::parse(read_file(path)));
  std::filesystem::remove(path);
  std::vector<std::pair<double, std::string>> rows;
  double products = 0;
  for (const auto& [name, own] : by_name) {
    rows.emplace_back(own, name);
    if (is_product(name)) products += own;
  }
  std::sort(rows.rbegin(), rows.rend());
  for (const auto& [own, name] : rows) {
    fmt::print("{:6.2f} % {:9.3f} ms  {}\n", 100 * own / seconds, 1e3 * own / static_cast<double>(steps), name);
  }
  fmt::print("gemm_share {:.1f} %, step {:.1f} ms, page faults a step {}\n", 100 * products / seconds,
             1e3 * seconds / static_cast<double>(steps), (after.ru_minflt - before.ru_minflt) / steps);
}

int run(const std::vector<std::string>& arguments) {
  if (arguments.size() < 2 || arguments.size() > 3) {
    fmt::print(
        stderr,
        "usage: train_benchmark (export FOLDER | losses N | speed N | decode N | decode-f32 N | profile N) [RECIPE]\n");
    return 2;
  }
  const std::string& mode = arguments[0];
  Work work(arguments.size() == 3 ? arguments[2] : "benchmarks/train_cpu.yaml");
  if (mode == "export") {
    work.write(arguments[1]);
    return 0;
  }
  const Index steps = std::stoll(arguments[1]);
  if (mode == "losses") {
    for (Index i = 0; i < steps; ++i) fmt::print("{:.9g}\n", work.run());
    return 0;
  }
  if (mode == "decode" || mode == "decode-f32") {
    decode(work, steps, mode == "decode" ? DecodePrecision::int8 : DecodePrecision::f32);
    return 0;
  }
  for (Index i = 0; i < kWarmUp; ++i) work.run();
  if (mode == "profile") {
    profile(work, steps);
    return 0;
  }
  require(mode == "speed", "train_benchmark: unknown mode \"{}\"", mode);
  print_rates(steps * work.tokens(), [&] {
    for (Index i = 0; i < steps; ++i) work.run();
  });
  return 0;
}

}  // namespace
}  // namespace unfurl::train

int main(int count, char** arguments) {
  try {
    return unfurl::train::run(std::vector<std::string>(arguments + 1, arguments + count));
  } catch (const std::exception& error) {
    fmt::print(stderr, "error: {}\n", error.what());
    return 1;
  }
}
