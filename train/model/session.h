// Generation with a Decoder: key and value caches, one prefill shared by rows that decode as a batch.
#pragma once
#include <array>

#include "train/generate/language_model.h"
#include "train/model/blocks.h"
#include "train/model/decode_weights.h"
#include "train/model/decoder.h"

namespace unfurl::train {

/// Runs the decoder, which must outlive it, on f32 on the CPU. With f32 weights they are read anew in every call, so a
/// session may be kept while the model trains on (prefill again after each change); int8 weights are those of the
/// session's start.
class DecoderSession : public LanguageModel {
 public:
  explicit DecoderSession(const Decoder& decoder, DecodePrecision precision = DecodePrecision::f32);

  Index vocab_size() const override { return decoder_.config().vocab_size; }
  Index context() const override { return decoder_.config().context; }
  void prefill(std::span<const std::int32_t> own, Index prefix_length) override;
  void fork(Index rows, Index capacity) override;
  void step(std::span<const std::int32_t> tokens) override;
  kernels::Matrix<const float> logits() const override;
  void truncate(Index row, Index own_length) override;
  void keep(std::span<const Index> rows) override;

 private:
  struct Cache {
    Tensor shared_k, shared_v;  // [shared, kv_width]
    Tensor own_k, own_v;        // [rows * capacity, kv_width]
  };
  using Weights = std::array<DecodeWeight, 4>;  // by Projection

  /// The final norm's output for these tokens, [tokens, width].
  Tensor run(std::span<const std::int32_t> tokens, const Attend& attend) const;
  void step_rows(Index first, std::span<const std::int32_t> tokens);

  const Decoder& decoder_;
  std::vector<Weights> weights_;  // of each block
  DecodeWeight head_;
  std::vector<Cache> caches_;
  std::vector<std::int32_t> own_lengths_;
  Index shared_ = 0, capacity_ = 0;
  Tensor shared_logits_;  // [1, vocab], of what follows the shared part
  Tensor logits_;         // [at least the open rows, vocab], once `stepped_`
  bool stepped_ = false;
};

}  // namespace unfurl::train
