#include "train/trainer/plan.h"

#include <algorithm>
#include <chrono>
#include <filesystem>

#include "core/dispatch.h"
#include "kernels/matmul.h"
#include "train/data/tokenizer.h"
#include "train/trainer/checkpoint.h"
#include "train/trainer/step.h"

namespace unfurl::train {
namespace {

/// Of the rate of a large matrix product, what a whole training step reaches; measured on palm-25m.
constexpr double kShareOfPeak = 0.75;
/// Of a GPU's dense peak, what a training step is taken to reach: an assumption.
constexpr double kShareOfGpu = 0.4;
/// What a process holds beside its tensors: code, libraries, the tokenizer, buffers of the matrix library.
constexpr std::size_t kProcessBaseline = std::size_t{60} << 20;

/// FLOP/s of a matrix product of 1024^3, the best of some.
double measure_matmul() {
  constexpr Index n = 1024;
  const Tensor a = Tensor::zeros({n, n}, DType::f32), b = Tensor::zeros({n, n}, DType::f32),
               c = Tensor::zeros({n, n}, DType::f32);
  for (Index i = 0; i < n * n; ++i) a.data<float>()[i] = b.data<float>()[i] = static_cast<float>(i % 7) - 3;
  double best = 1e9;
  for (int i = 0; i < 6; ++i) {
    const auto start = std::chrono::steady_clock::now();
    kernels::matmul<kernels::CpuQueue, float>(cpu_queue(), c.matrix<float>(), a.matrix<float>(), false,
                                              b.matrix<float>(), true, n, n, n, false);
    best = std::min(best, std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
  }
  return 2.0 * n * n * n / best;
}

/// Pieces of the tokenizer that the run will use; where none has been made yet, as many as it is to get.
Index vocabulary(const Recipe& recipe) {
  const std::filesystem::path path = recipe.tokenizer.path, start = recipe.start;
  if (!path.empty()) {
    return std::filesystem::exists(path) ? Tokenizer(path).vocab_size() : recipe.tokenizer.vocab_size;
  }
  if (start.empty() || !std::filesystem::exists(start)) return recipe.tokenizer.vocab_size;
  return Tokenizer(resolve_checkpoint(start) / "tokenizer.model").vocab_size();
}

}  // namespace

double dense_peak(const std::string& gpu) {
  constexpr std::pair<const char*, double> kKnown[] = {
      // the first that is part of the name counts
      {"H100 PCIe", 756e12}, {"H100 NVL", 835e12}, {"H200 NVL", 835e12}, {"H100", 989e12},
      {"H200", 989e12},      {"H800", 989e12},     {"A100", 312e12},     {"A800", 312e12}};
  for (const auto& [name, peak] : kKnown) {
    if (gpu.find(name) != std::string::npos) return peak;
  }
  return 0;
}

RunPlan plan_run(Recipe recipe, bool measure, int ranks) {
  if (recipe.model.vocab_size == 0) recipe.model.vocab_size = vocabulary(recipe);
  RunPlan plan;
  plan.placement = training_placement_of(recipe, true);
  Allocator& allocator = Allocator::of(Device::meta);
  allocator.reset_peak();
  const std::size_t before = allocator.statistics().live;
  {
    Communicator planned(ranks);
    TrainStep step(recipe, Device::meta, plan.placement.dtype, &planned);
    const Parameters& parameters = step.decoder().parameters();
    plan.parameters = parameters.count();
    plan.trained = plan.parameters - parameters.count(ParameterGroup::frozen);
    plan.buckets = step.ranks().bucket_count();
    plan.last_bucket = step.ranks().last_bucket();
    const std::vector<Batch> batches(static_cast<std::size_t>(recipe.batch.slots * recipe.batch.micro_batches),
                                     largest_batch(recipe));
    std::vector<Tensor> checkpoint;  // is copied before it is written, while training goes on
    if (plan.placement.device == Device::cpu && recipe.train.checkpoint_every > 0 &&
        recipe.train.checkpoint_every < recipe.train.steps) {
      const MemoryName memory("checkpoint");
      const auto copy = [&](const Tensor& like) {
        checkpoint.push_back(Tensor::empty(like.shape(), like.dtype(), Device::meta));
      };
      for (const NamedTensor& named : named_tensors(parameters)) copy(named.tensor);
      for (const StateTensor& state : step.optimizer().state()) copy(state.tensor);
    }
    step.run(batches, 1);
  }
  const MemoryStatistics memory = allocator.statistics();
  plan.allocator_peak = memory.peak - before;
  plan.allocator_peak_by_name = memory.at_peak_by_name;
  plan.process_peak = kProcessBaseline + (plan.placement.device == Device::cuda ? 0 : plan.allocator_peak);
  plan.tokens_per_step = recipe.batch.slots * recipe.batch.micro_batches * recipe.batch.tokens;
  plan.tokens = plan.tokens_per_step * recipe.train.steps;
  const ModelConfig& model = recipe.model;
  // Of a frozen weight no gradient is computed.
  const Index context = recipe.data.context + model.soft_rows();
  plan.flops_per_token = 4.0 * static_cast<double>(plan.parameters) + 2.0 * static_cast<double>(plan.trained) +
                         6.0 * static_cast<double>(model.layers * context * model.heads * model.head_dim);
  if (ranks > 1) return plan;
  if (plan.placement.device == Device::cpu && measure) {
    plan.flops_per_second = measure_matmul();
    plan.share = kShareOfPeak;
  } else if (plan.placement.device == Device::cuda && plan.placement.dtype == DType::bf16 &&
             why_unusable(Device::cuda).empty()) {
    plan.flops_per_second = dense_peak(properties_of(Device::cuda).name);
    plan.share = kShareOfGpu;
  }
  if (plan.flops_per_second > 0) {
    plan.seconds = plan.flops_per_token * static_cast<double>(plan.tokens) / (plan.flops_per_second * plan.share);
  }
  return plan;
}

}  // namespace unfurl::train
