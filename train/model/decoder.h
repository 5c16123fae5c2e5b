// The model: one decoder-only transformer, many configurations.
//
// A parallel block (PaLM; Chowdhery et al., 2022) reads one norm for attention and feed-forward and adds both to the
// residual stream at once: their input projections are one matrix [q | k | v | gate | up] and their output projections
// another, over the columns [attention | feed-forward]. A serial block has a norm and two projections for each half.
//
// With method prompt_tuning or lora the model itself is frozen. A soft prompt takes the first soft_rows() rows of every
// document, at positions 0, 1, ... in front of the document's own, and belongs to its prefix; what ids stand there
// plays no part. The file names of what is trained are soft_prompt.weight, and NAME.lora_a.weight and
// NAME.lora_b.weight for each target NAME.weight.
#pragma once
#include <memory>
#include <span>
#include <vector>

#include "core/ops/attention.h"
#include "core/ops/low_rank_linear.h"
#include "core/parameters.h"
#include "train/recipe/recipe.h"

namespace unfurl::train {

/// One micro-batch as tensors, of i32 but for the weights.
struct ModelInputs {
  Tensor ids, positions;        // [tokens]
  Tensor order;                 // [tokens], the tokens sorted by id
  Tensor cu_seqlens;            // [documents + 1]
  Tensor prefix_lengths;        // [documents]
  Tensor target_rows, targets;  // [targets]: the rows whose next token is predicted, and those tokens
  Tensor weights;               // [targets], of the accumulator type: what each row's loss counts
  Index cudnn_longest = 0;      // above 0: cuDNN computes attention (core/ops/attention.h)
};

/// Which numbers dropout draws: the training step, and the number over the whole global batch of the micro-batch's
/// first token. Rate 0 drops nothing.
struct DropoutPlace {
  std::uint64_t seed = 0;
  std::uint32_t step = 0;
  std::uint64_t first_token = 0;
  double rate = 0;
  Tensor on_device = {};  // where defined: `step` and `first_token` are read from it (core/ops/dropout.h)
};

struct LossOptions {
  bool recompute = false;        // keep only what leads from block to block, and compute the rest again in backward
  bool root = false;             // backward starts from the loss (core/ops/head_cross_entropy.h)
  Tensor* row_losses = nullptr;  // becomes each target row's term
};

/// The weights of a block; which are defined depends on the block's kind, norm and activation.
struct BlockWeights {
  Tensor norm_gain, norm_bias;
  Tensor input;                       // parallel: [q | k | v | gate | up, width]; serial: [q | k | v, width]
  Tensor output;                      // [width, attention | feed-forward], or [width, attention]
  Tensor q_gain, k_gain;              // qk-norm: [head_dim]
  Tensor ff_norm_gain, ff_norm_bias;  // serial only, as are the next two
  Tensor ff_input, ff_output;
  std::vector<LowRank> input_added, output_added, ff_input_added, ff_output_added;  // lora
};

class Decoder {
 public:
  /// The weights are zero until initialise() or a checkpoint fills them. config.vocab_size must be set. Without
  /// `gradients` the soft prompt is behind the embedding in one table, for opened(). `masters`: of
  /// Parameters::allocate.
  Decoder(const ModelConfig& config, DType dtype, Device device, bool gradients, bool masters = true);

  /// Fills the weights: normal with config.init_std, output projections divided by sqrt(2 layers) where init_scaled;
  /// gains 1, biases 0; of lora, A with standard deviation 1 / sqrt(its columns), B 0. The same for every device and
  /// element type, up to rounding.
  void initialise(std::uint64_t seed);
  /// Fills the soft prompt with the embeddings of pieces from [first, first + count), drawn by seed; each once, where
  /// they are enough.
  void start_soft_prompt(Index first, Index count, std::uint64_t seed);

  const ModelConfig& config() const { return config_; }
  Parameters& parameters() { return parameters_; }
  const Parameters& parameters() const { return parameters_; }

  /// The final norm's output, [tokens, width].
  Tensor hidden(const ModelInputs& inputs, const DropoutPlace& dropout = {}, bool recompute = false) const;

  /// The sum over target rows of weight x negative log-likelihood, a scalar.
  Tensor loss(const ModelInputs& inputs, const DropoutPlace& dropout = {}, const LossOptions& options = {}) const;

  // What generation builds on. It takes no account of lora: merge it first (merge.h).

  /// The tokens behind those of the soft prompt, whose ids are rows of embedding() too.
  std::vector<std::int32_t> opened(std::span<const std::int32_t> tokens) const;
  const BlockWeights& block(Index layer) const { return blocks_[static_cast<std::size_t>(layer)]; }
  const Tensor& embedding() const { return embedding_; }
  const Tensor& head() const { return head_; }
  const Tensor& final_gain() const { return final_gain_; }
  const Tensor& final_bias() const { return final_bias_; }
  const Tensor& rope_table() const { return rope_table_; }
  Index attention_width() const { return config_.heads * config_.head_dim; }
  Index kv_width() const { return config_.kv_heads * config_.head_dim; }
  bool gated() const { return config_.activation != ActivationKind::gelu; }
  double attention_scale() const;

  /// (residual sum, norm of it); without a residual the sum is x itself.
  std::pair<Tensor, Tensor> norm(const Tensor& x, const Tensor& residual, const Tensor& gain, const Tensor& bias) const;
  /// q or k after qk-norm, where the model has that: `gain` is defined then.
  Tensor normed_heads(const Tensor& x, const Tensor& gain, Index heads) const;
  /// q or k after qk-norm and rotation.
  Tensor rotated(const Tensor& x, const Tensor& gain, const Tensor& positions, Index heads) const;
  /// The activation of the columns [gate | up] or [up] of a projection, into `destination` where that is defined.
  Tensor activation(const Tensor& projected, const Tensor& destination) const;

 private:
  std::vector<Tensor> run_block(std::size_t layer, const std::vector<Tensor>& stream, const ModelInputs& inputs,
                                const DropoutPlace& dropout) const;
  Tensor project(const Tensor& x, const Tensor& weight, const std::vector<LowRank>& added) const;
  Tensor drop(const Tensor& x, const DropoutPlace& dropout, std::uint32_t place) const;
  Tensor attend(const BlockWeights& weights, const Tensor& projected, const ModelInputs& inputs,
                const Tensor& destination) const;

  ModelConfig config_;
  Parameters parameters_;
  std::vector<BlockWeights> blocks_;
  Tensor embedding_, head_, final_gain_, final_bias_, rope_table_, soft_prompt_;
};

}  // namespace unfurl::train
