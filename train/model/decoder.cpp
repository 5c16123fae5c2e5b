#include "train/model/decoder.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "core/autograd.h"
#include "core/copy.h"
#include "core/dispatch.h"
#include "core/ops/add.h"
#include "core/ops/dropout.h"
#include "core/ops/embedding.h"
#include "core/ops/gather_rows.h"
#include "core/ops/glu.h"
#include "core/ops/head_cross_entropy.h"
#include "core/ops/layer_norm.h"
#include "core/ops/linear.h"
#include "core/ops/rms_norm.h"
#include "core/ops/rope.h"
#include "core/ops/soft_prompt.h"
#include "core/random.h"

namespace unfurl::train {
namespace {

/// [q | k | v] and, in a parallel block, [gate | up] behind them, as rows of one matrix.
std::vector<ParameterPart> projection_parts(const std::string& prefix,
                                            const std::vector<std::pair<const char*, Index>>& sizes, int dimension) {
  std::vector<ParameterPart> parts;
  Index at = 0;
  for (const auto& [name, size] : sizes) {
    parts.push_back({prefix + name + ".weight", dimension, at, at + size});
    at += size;
  }
  return parts;
}

/// Normal numbers by Box-Muller; element i depends on (key, i) alone.
double normal(const PhiloxKey& key, Index i) {
  const auto bits = philox(key, static_cast<std::uint64_t>(i) / 2);
  const double radius = std::sqrt(-2 * std::log((static_cast<double>(bits[0]) + 1) * 0x1p-32));
  const double angle = 6.283185307179586 * (static_cast<double>(bits[1]) * 0x1p-32);
  return radius * (i % 2 == 0 ? std::cos(angle) : std::sin(angle));
}

template <class T>
void fill_normal(const Tensor& tensor, const PhiloxKey& key, double std) {
  constexpr Index kBlock = 1 << 14;
  T* data = tensor.data<T>();
  const Index count = tensor.numel();
  cpu_queue().pool().parallel_for((count + kBlock - 1) / kBlock, [&](Index block) {
    for (Index i = block * kBlock; i < std::min(count, (block + 1) * kBlock); ++i) {
      data[i] = static_cast<T>(std * normal(key, i));
    }
  });
}

/// A matrix that lora adds to: where it stands in a joint projection's columns of x and of y.
struct Target {
  const char* target;  // in lora.targets
  const char* name;    // of the part
  Index in_width, out_width, in, out;
  std::vector<LowRank> BlockWeights::*list;
};

std::vector<Target> lora_targets(const ModelConfig& config, Index attention, Index kv, bool gated) {
  const Index d = config.width, ff = config.ff_width;
  const bool parallel = config.block == BlockKind::parallel;
  const auto up_list = parallel ? &BlockWeights::input_added : &BlockWeights::ff_input_added;
  const Index up = (parallel ? attention + 2 * kv : 0) + (gated ? ff : 0);
  return {{"q", "q", d, attention, 0, 0, &BlockWeights::input_added},
          {"k", "k", d, kv, 0, attention, &BlockWeights::input_added},
          {"v", "v", d, kv, 0, attention + kv, &BlockWeights::input_added},
          {"gate", "gate", d, ff, 0, up - ff, up_list},
          {"up", "up", d, ff, 0, up, up_list},
          {"o", "attention_output", attention, d, 0, 0, &BlockWeights::output_added},
          {"down", "down", ff, d, parallel ? attention : 0, 0,
           parallel ? &BlockWeights::output_added : &BlockWeights::ff_output_added}};
}

template <class T>
void fill_ones(const Tensor& tensor) {
  std::fill_n(tensor.data<T>(), tensor.numel(), T{1});
}

}  // namespace

Decoder::Decoder(const ModelConfig& config, DType dtype, Device device, bool gradients, bool masters)
    : config_(config) {
  require(config.vocab_size > 0, "Decoder: vocab_size is not set");
  const Index d = config.width, ff = config.ff_width, attention = attention_width(), kv = kv_width();
  const bool parallel = config.block == BlockKind::parallel;
  const TuningConfig& tuning = config.tuning;
  const bool trains_all = tuning.method == Method::full;
  const ParameterGroup decayed = trains_all ? ParameterGroup::decayed : ParameterGroup::frozen;
  const ParameterGroup undecayed = trains_all ? ParameterGroup::undecayed : ParameterGroup::frozen;
  const Index soft = config.soft_rows();
  const bool joint_prompt = soft > 0 && !gradients;

  const auto declare_norm = [&](const std::string& name, std::array<std::size_t, 2>& numbers) {
    numbers[0] = parameters_.declare(name + ".weight", {d}, undecayed);
    if (config.norm == NormKind::layer) numbers[1] = parameters_.declare(name + ".bias", {d}, undecayed);
  };
  const std::vector<std::pair<const char*, Index>> qkv = {{"q", attention}, {"k", kv}, {"v", kv}};
  std::vector<std::pair<const char*, Index>> up = {{"up", ff}};
  if (gated()) up.insert(up.begin(), {"gate", ff});

  struct Numbers {
    std::array<std::size_t, 2> norm{}, ff_norm{}, qk{};
    std::size_t input = 0, output = 0, ff_input = 0, ff_output = 0;
  };
  std::vector<Numbers> numbers(static_cast<std::size_t>(config.layers));
  const Index entries = config.vocab_size + (joint_prompt ? soft : 0);
  std::vector<ParameterPart> embedding_parts;
  if (joint_prompt) {
    embedding_parts = {{"embedding.weight", 0, 0, config.vocab_size},
                       {"soft_prompt.weight", 0, config.vocab_size, entries}};
  }
  const std::size_t embedding = parameters_.declare("embedding.weight", {entries, d}, decayed, embedding_parts);
  for (std::size_t layer = 0; layer < numbers.size(); ++layer) {
    Numbers& n = numbers[layer];
    const std::string prefix = "layers." + std::to_string(layer) + ".";
    declare_norm(prefix + "norm", n.norm);
    if (config.qk_norm) {
      n.qk[0] = parameters_.declare(prefix + "q_norm.weight", {config.head_dim}, undecayed);
      n.qk[1] = parameters_.declare(prefix + "k_norm.weight", {config.head_dim}, undecayed);
    }
    const Index up_width = gated() ? 2 * ff : ff;
    if (parallel) {
      auto sizes = qkv;
      sizes.insert(sizes.end(), up.begin(), up.end());
      n.input = parameters_.declare(prefix + "input.weight", {attention + 2 * kv + up_width, d}, decayed,
                                    projection_parts(prefix, sizes, 0));
      n.output = parameters_.declare(prefix + "output.weight", {d, attention + ff}, decayed,
                                     projection_parts(prefix, {{"attention_output", attention}, {"down", ff}}, 1));
    } else {
      n.input = parameters_.declare(prefix + "qkv.weight", {attention + 2 * kv, d}, decayed,
                                    projection_parts(prefix, qkv, 0));
      n.output = parameters_.declare(prefix + "attention_output.weight", {d, attention}, decayed);
      declare_norm(prefix + "ff_norm", n.ff_norm);
      n.ff_input =
          parameters_.declare(prefix + "ff_input.weight", {up_width, d}, decayed, projection_parts(prefix, up, 0));
      n.ff_output = parameters_.declare(prefix + "down.weight", {d, ff}, decayed);
    }
  }
  std::array<std::size_t, 2> final_norm{};
  declare_norm("final_norm", final_norm);
  const std::size_t head =
      config.tied ? embedding : parameters_.declare("head.weight", {config.vocab_size, d}, decayed);

  // Behind the model's own, whose initial weights so are the same for every method.
  const std::size_t soft_prompt =
      soft > 0 && !joint_prompt ? parameters_.declare("soft_prompt.weight", {soft, d}, ParameterGroup::decayed) : 0;
  std::vector<std::pair<Target, std::array<std::size_t, 2>>> added;  // layer by layer
  for (Index layer = 0; tuning.method == Method::lora && layer < config.layers; ++layer) {
    for (const Target& target : lora_targets(config, attention, kv, gated())) {
      if (std::ranges::find(tuning.lora.targets, target.target) == tuning.lora.targets.end()) continue;
      const std::string name = "layers." + std::to_string(layer) + "." + target.name;
      const Index rank = tuning.lora.rank;
      added.push_back(
          {target,
           {parameters_.declare(name + ".lora_a.weight", {rank, target.in_width}, ParameterGroup::decayed),
            parameters_.declare(name + ".lora_b.weight", {target.out_width, rank}, ParameterGroup::decayed)}});
    }
  }

  parameters_.allocate(dtype, device, gradients, masters);
  const auto tensor = [&](std::size_t number) { return parameters_[number]; };
  const auto bias = [&](std::size_t number) { return config.norm == NormKind::layer ? tensor(number) : Tensor(); };
  for (const Numbers& n : numbers) {
    BlockWeights weights;
    weights.norm_gain = tensor(n.norm[0]);
    weights.norm_bias = bias(n.norm[1]);
    weights.input = tensor(n.input);
    weights.output = tensor(n.output);
    if (config.qk_norm) {
      weights.q_gain = tensor(n.qk[0]);
      weights.k_gain = tensor(n.qk[1]);
    }
    if (!parallel) {
      weights.ff_norm_gain = tensor(n.ff_norm[0]);
      weights.ff_norm_bias = bias(n.ff_norm[1]);
      weights.ff_input = tensor(n.ff_input);
      weights.ff_output = tensor(n.ff_output);
    }
    blocks_.push_back(weights);
  }
  for (std::size_t i = 0; i < added.size(); ++i) {
    const auto& [target, weights] = added[i];
    BlockWeights& block = blocks_[i / (added.size() / blocks_.size())];
    (block.*target.list).push_back({tensor(weights[0]), tensor(weights[1]), target.in, target.out});
  }
  embedding_ = tensor(embedding);
  head_ = tensor(head);
  if (joint_prompt) {
    soft_prompt_ = embedding_.span_of(config.vocab_size * d, {soft, d});
    if (config.tied) head_ = embedding_.span_of(0, {config.vocab_size, d});
  } else if (soft > 0) {
    soft_prompt_ = tensor(soft_prompt);
  }
  final_gain_ = tensor(final_norm[0]);
  final_bias_ = bias(final_norm[1]);
  const MemoryName memory("parameters");
  rope_table_ = unfurl::rope_table(config.positions(), config.head_dim, config.rope_base, dtype, device);
}

void Decoder::initialise(std::uint64_t seed) {
  const WholeMasters whole(parameters_);
  const auto& all = parameters_.all();
  for (std::size_t i = 0; i < all.size(); ++i) {
    const Parameter& parameter = all[i];
    const Device device = parameter.master.device();
    if (device == Device::meta) continue;
    const bool is_double = parameter.master.dtype() == DType::f64;
    const std::string& name = parameter.name;
    // On the host for every device: a model starts from the same weights everywhere.
    const Tensor weights =
        device == Device::cpu ? parameter.master : Tensor::zeros(parameter.shape, parameter.master.dtype());
    if (parameter.shape.rank() == 1) {
      if (!name.ends_with(".bias")) is_double ? fill_ones<double>(weights) : fill_ones<float>(weights);
    } else {
      const bool output = name.ends_with(".output.weight") || name.ends_with(".attention_output.weight") ||
                          name.ends_with(".down.weight");
      const double divisor = output && config_.init_scaled ? std::sqrt(2.0 * static_cast<double>(config_.layers)) : 1;
      double std = config_.init_std / divisor;
      if (name.ends_with(".lora_a.weight")) std = 1 / std::sqrt(static_cast<double>(parameter.shape[-1]));
      if (name.ends_with(".lora_b.weight")) std = 0;
      const PhiloxKey key = philox_key(seed, Purpose::initialise, static_cast<std::uint32_t>(i));
      is_double ? fill_normal<double>(weights, key, std) : fill_normal<float>(weights, key, std);
    }
    if (device != Device::cpu) copy_into(parameter.master, weights);
  }
  parameters_.round_values();
}

void Decoder::start_soft_prompt(Index first, Index count, std::uint64_t seed) {
  require(soft_prompt_.defined() && first >= 0 && count > 0 && first + count <= config_.vocab_size,
          "start_soft_prompt: there are no pieces [{}, {}), or no prompt", first, first + count);
  std::vector<std::pair<std::uint32_t, Index>> drawn;
  for (Index i = 0; i < count; ++i) {
    drawn.emplace_back(philox(philox_key(seed, Purpose::soft_prompt), static_cast<std::uint64_t>(i))[0], first + i);
  }
  std::sort(drawn.begin(), drawn.end());
  const auto master = [this](const std::string& name) {
    const auto found = std::ranges::find(parameters_.all(), name, &Parameter::name);
    require(found != parameters_.all().end(), "start_soft_prompt: the model is not one that is trained");
    return found->master;
  };
  const Tensor prompt = master("soft_prompt.weight"), table = master("embedding.weight");
  const Index d = config_.width;
  for (Index i = 0; i < prompt.rows(); ++i) {
    const Index piece = drawn[static_cast<std::size_t>(i % count)].second;
    copy_into(prompt.span_of(i * d, {1, d}), table.span_of(piece * d, {1, d}));
  }
  parameters_.round_values();
}

std::vector<std::int32_t> Decoder::opened(std::span<const std::int32_t> tokens) const {
  const Index soft = config_.soft_rows();
  require(soft == 0 || embedding_.rows() == config_.vocab_size + soft, "Decoder: this one is to be trained");
  std::vector<std::int32_t> out;
  for (Index i = 0; i < soft; ++i) out.push_back(static_cast<std::int32_t>(config_.vocab_size + i));
  out.insert(out.end(), tokens.begin(), tokens.end());
  return out;
}

double Decoder::attention_scale() const { return 1 / std::sqrt(static_cast<double>(config_.head_dim)); }

std::pair<Tensor, Tensor> Decoder::norm(const Tensor& x, const Tensor& residual, const Tensor& gain,
                                        const Tensor& bias) const {
  const double eps = config_.norm_eps;
  if (config_.norm == NormKind::rms) {
    if (!residual.defined()) return {x, rms_norm(x, gain, eps)};
    return add_rms_norm(x, residual, gain, eps);
  }
  if (!residual.defined()) return {x, layer_norm(x, gain, bias, eps)};
  return add_layer_norm(x, residual, gain, bias, eps);
}

Tensor Decoder::normed_heads(const Tensor& x, const Tensor& gain, Index heads) const {
  if (!gain.defined()) return x;
  const Tensor by_head = copy(x).reshape({x.rows() * heads, config_.head_dim});
  return rms_norm(by_head, gain, config_.norm_eps).reshape(x.shape());
}

Tensor Decoder::rotated(const Tensor& x, const Tensor& gain, const Tensor& positions, Index heads) const {
  return rope(normed_heads(x, gain, heads), positions, rope_table_, heads);
}

Tensor Decoder::activation(const Tensor& projected, const Tensor& destination) const {
  if (!gated()) return gelu(projected, destination);
  const Index ff = config_.ff_width;
  const auto kind =
      config_.activation == ActivationKind::swiglu ? kernels::Activation::silu : kernels::Activation::gelu;
  return glu(projected.columns(0, ff), projected.columns(ff, 2 * ff), kind, destination);
}

Tensor Decoder::attend(const BlockWeights& weights, const Tensor& projected, const ModelInputs& inputs,
                       const Tensor& destination) const {
  const Index a = attention_width(), kv = kv_width();
  Tensor q, k;
  if (weights.q_gain.defined()) {
    q = rotated(projected.columns(0, a), weights.q_gain, inputs.positions, config_.heads);
    k = rotated(projected.columns(a, a + kv), weights.k_gain, inputs.positions, config_.kv_heads);
  } else {
    // They lie side by side and turn alike: one kernel takes both from the joint projection, one their gradients back.
    const Tensor both = rotated(projected.columns(0, a + kv), {}, inputs.positions, config_.heads + config_.kv_heads);
    q = both.columns(0, a);
    k = both.columns(a, a + kv);
  }
  return attention(q, k, projected.columns(a + kv, a + 2 * kv),
                   {inputs.cu_seqlens, inputs.prefix_lengths, inputs.cudnn_longest}, config_.heads, config_.kv_heads,
                   attention_scale(), destination);
}

Tensor Decoder::project(const Tensor& x, const Tensor& weight, const std::vector<LowRank>& added) const {
  if (added.empty()) return linear(x, weight);
  const LoraConfig& lora = config_.tuning.lora;
  return low_rank_linear(x, weight, added, lora.alpha / static_cast<double>(lora.rank));
}

Tensor Decoder::drop(const Tensor& x, const DropoutPlace& dropout, std::uint32_t place) const {
  if (dropout.rate == 0) return x;
  const PhiloxKey key = philox_key(dropout.seed, Purpose::dropout, dropout.step, place);
  if (dropout.on_device.defined()) return unfurl::dropout(x, dropout.rate, key, dropout.on_device);
  return unfurl::dropout(x, dropout.rate, key, dropout.first_token * static_cast<std::uint64_t>(config_.width));
}

/// {residual stream, norm of it} -> the same for the next block (or the final norm).
std::vector<Tensor> Decoder::run_block(std::size_t layer, const std::vector<Tensor>& stream, const ModelInputs& inputs,
                                       const DropoutPlace& dropout) const {
  const BlockWeights& weights = blocks_[layer];
  const bool last = layer + 1 == blocks_.size();
  const Tensor& next_gain = last ? final_gain_ : blocks_[layer + 1].norm_gain;
  const Tensor& next_bias = last ? final_bias_ : blocks_[layer + 1].norm_bias;
  const Index a = attention_width(), kv = kv_width(), rows = stream[0].rows();
  const auto place = static_cast<std::uint32_t>(2 * layer + 1);
  const Tensor projected = project(stream[1], weights.input, weights.input_added);
  if (config_.block == BlockKind::parallel) {
    const Tensor joint = Tensor::empty({rows, a + config_.ff_width}, projected.dtype(), projected.device());
    attend(weights, projected, inputs, joint.columns(0, a));
    activation(projected.columns(a + 2 * kv, projected.cols()), joint.columns(a, joint.cols()));
    const Tensor y = drop(project(joint, weights.output, weights.output_added), dropout, place);
    const auto [sum, normed] = norm(stream[0], y, next_gain, next_bias);
    return {sum, normed};
  }
  const Tensor attended = attend(weights, projected, inputs, {});
  const Tensor y = drop(project(attended, weights.output, weights.output_added), dropout, place);
  const auto [middle, ff_in] = norm(stream[0], y, weights.ff_norm_gain, weights.ff_norm_bias);
  const Tensor up = project(ff_in, weights.ff_input, weights.ff_input_added);
  const Tensor z = drop(project(activation(up, {}), weights.ff_output, weights.ff_output_added), dropout, place + 1);
  const auto [sum, normed] = norm(middle, z, next_gain, next_bias);
  return {sum, normed};
}

Tensor Decoder::hidden(const ModelInputs& inputs, const DropoutPlace& dropout, bool recompute) const {
  const MemoryName memory("activations");
  Tensor embedded = unfurl::embedding(inputs.ids, inputs.order, embedding_);
  if (soft_prompt_.defined()) embedded = soft_prompt(embedded, soft_prompt_, inputs.cu_seqlens);
  const Tensor x = drop(embedded, dropout, 0);
  const auto [first, normed] = norm(x, {}, blocks_[0].norm_gain, blocks_[0].norm_bias);
  std::vector<Tensor> stream = {first, normed};
  for (std::size_t layer = 0; layer < blocks_.size(); ++layer) {
    if (recompute) {
      stream = checkpoint([this, layer, inputs,
                           dropout](const std::vector<Tensor>& in) { return run_block(layer, in, inputs, dropout); },
                          stream);
    } else {
      stream = run_block(layer, stream, inputs, dropout);
    }
  }
  return stream[1];
}

Tensor Decoder::loss(const ModelInputs& inputs, const DropoutPlace& dropout, const LossOptions& options) const {
  const Tensor rows = gather_rows(hidden(inputs, dropout, options.recompute), inputs.target_rows);
  const MemoryName memory("head");
  // A GPU needs more rows at a time to be busy.
  const Index chunk_rows = runs_cuda(head_.device()) || head_.dtype() == DType::bf16 ? 4096 : 512;
  return head_cross_entropy(rows, head_, inputs.targets, inputs.weights, chunk_rows, options.row_losses, options.root);
}

}  // namespace unfurl::train
