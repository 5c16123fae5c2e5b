#include "train/model/session.h"

#include <algorithm>
#include <cstring>

#include "core/autograd.h"
#include "core/dispatch.h"
#include "kernels/attention.h"
#include "kernels/embedding.h"

namespace unfurl::train {
namespace {

/// Rows decode in groups of this many: the product of few rows, whose result for a row does not depend on the others.
constexpr Index kGroup = 8;

void copy_rows(const Tensor& to, Index first, const Tensor& from) {
  for (Index r = 0; r < from.rows(); ++r) {
    std::memcpy(to.data<float>() + (first + r) * to.cols(), from.data<float>() + r * from.row_stride(),
                static_cast<std::size_t>(to.cols()) * sizeof(float));
  }
}

Tensor integers(const std::vector<std::int32_t>& values) {
  const auto count = static_cast<Index>(values.size());
  return Tensor::from(values, {count});
}

}  // namespace

DecoderSession::DecoderSession(const Decoder& decoder, DecodePrecision precision)
    : decoder_(decoder), head_(decoder.head(), precision), caches_(static_cast<std::size_t>(decoder.config().layers)) {
  const auto weight = [&](const Tensor& of) { return of.defined() ? DecodeWeight(of, precision) : DecodeWeight(); };
  for (Index layer = 0; layer < decoder.config().layers; ++layer) {
    const BlockWeights& block = decoder.block(layer);
    weights_.push_back({weight(block.input), weight(block.output), weight(block.ff_input), weight(block.ff_output)});
  }
}

Tensor DecoderSession::run(std::span<const std::int32_t> tokens, const Attend& attend) const {
  const auto rows = static_cast<Index>(tokens.size());
  const Index width = decoder_.config().width;
  const Tensor x = Tensor::empty({rows, width}, DType::f32);
  kernels::embedding_forward<kernels::CpuQueue, float>(cpu_queue(), x.matrix<float>(), tokens.data(),
                                                       decoder_.embedding().data<float>(), rows, width);
  const auto project = [this](std::size_t layer, Projection which, const Tensor& in) {
    return weights_[layer][static_cast<std::size_t>(which)].product(in);
  };
  return run_blocks(decoder_, x, project, attend);
}

void DecoderSession::prefill(std::span<const std::int32_t> own, Index prefix_length) {
  const ModelConfig& config = decoder_.config();
  const std::vector<std::int32_t> shared = decoder_.opened(own);
  prefix_length += config.soft_rows();
  const auto length = static_cast<Index>(shared.size());
  require(!own.empty() && length <= config.positions(), "prefill: {} tokens do not fit the context of {}", own.size(),
          config.context);
  const NoTapeScope nothing_recorded;
  const MemoryName memory("generation");
  std::vector<std::int32_t> at(shared.size());
  for (std::size_t i = 0; i < at.size(); ++i) at[i] = static_cast<std::int32_t>(i);
  const Tensor positions = integers(at);
  const AttentionLayout layout{integers({0, static_cast<std::int32_t>(length)}),
                               integers({static_cast<std::int32_t>(prefix_length)})};
  const Index a = decoder_.attention_width(), kv = decoder_.kv_width();
  const Tensor hidden = run(shared, [&](std::size_t layer, const Tensor& projected, const Tensor& destination) {
    const BlockWeights& weights = decoder_.block(static_cast<Index>(layer));
    Cache& cache = caches_[layer];
    const Tensor q = decoder_.rotated(projected.columns(0, a), weights.q_gain, positions, config.heads);
    cache.shared_k = decoder_.rotated(projected.columns(a, a + kv), weights.k_gain, positions, config.kv_heads);
    cache.shared_v = Tensor::empty({length, kv}, DType::f32);
    copy_rows(cache.shared_v, 0, projected.columns(a + kv, a + 2 * kv));
    return attention(q, cache.shared_k, cache.shared_v, layout, config.heads, config.kv_heads,
                     decoder_.attention_scale(), destination);
  });
  shared_ = length;
  own_lengths_.clear();
  shared_logits_ = Tensor::empty({1, config.vocab_size}, DType::f32);
  head_.product_into(shared_logits_, 0, hidden.span_of((length - 1) * config.width, {1, config.width}));
}

void DecoderSession::fork(Index rows, Index capacity) {
  require(shared_ > 0, "fork: nothing was prefilled");
  require(rows > 0 && capacity >= 0 && shared_ + capacity <= decoder_.config().positions(),
          "fork: {} rows of {} tokens do not fit", rows, capacity);
  const MemoryName memory("generation");
  for (Cache& cache : caches_) {
    cache.own_k = Tensor::empty({rows * capacity, decoder_.kv_width()}, DType::f32);
    cache.own_v = Tensor::empty({rows * capacity, decoder_.kv_width()}, DType::f32);
  }
  capacity_ = capacity;
  own_lengths_.assign(static_cast<std::size_t>(rows), 0);
  stepped_ = false;
}

void DecoderSession::step(std::span<const std::int32_t> tokens) {
  const auto rows = static_cast<Index>(own_lengths_.size());
  require(static_cast<Index>(tokens.size()) == rows, "step: {} tokens for {} rows", tokens.size(), rows);
  const NoTapeScope nothing_recorded;
  const MemoryName memory("generation");
  for (const std::int32_t length : own_lengths_) require(length < capacity_, "step: a row is full");
  if (!logits_.defined() || logits_.rows() < rows) logits_ = Tensor::empty({rows, vocab_size()}, DType::f32);
  stepped_ = true;
  for (Index first = 0; first < rows; first += kGroup) {
    const Index count = std::min(kGroup, rows - first);
    step_rows(first, tokens.subspan(static_cast<std::size_t>(first), static_cast<std::size_t>(count)));
  }
  for (std::int32_t& length : own_lengths_) ++length;
}

void DecoderSession::step_rows(Index first, std::span<const std::int32_t> tokens) {
  const ModelConfig& config = decoder_.config();
  const Index a = decoder_.attention_width(), kv = decoder_.kv_width(), rows = static_cast<Index>(tokens.size());
  const auto own = std::span(own_lengths_).subspan(static_cast<std::size_t>(first), tokens.size());
  std::vector<std::int32_t> at, lengths;
  for (const std::int32_t length : own) {
    at.push_back(static_cast<std::int32_t>(shared_) + length);
    lengths.push_back(length + 1);
  }
  const Tensor positions = integers(at);
  const kernels::DecodeShape shape{.rows = rows,
                                   .shared_length = shared_,
                                   .own_capacity = capacity_,
                                   .heads = config.heads,
                                   .kv_heads = config.kv_heads,
                                   .head_dim = config.head_dim,
                                   .scale = decoder_.attention_scale()};
  const Tensor hidden = run(tokens, [&](std::size_t layer, const Tensor& projected, const Tensor& destination) {
    const BlockWeights& weights = decoder_.block(static_cast<Index>(layer));
    Cache& cache = caches_[layer];
    const Tensor q = decoder_.rotated(projected.columns(0, a), weights.q_gain, positions, config.heads);
    const Tensor k = decoder_.rotated(projected.columns(a, a + kv), weights.k_gain, positions, config.kv_heads);
    const Tensor v = projected.columns(a + kv, a + 2 * kv);
    for (Index r = 0; r < rows; ++r) {
      const Index slot = ((first + r) * capacity_ + own[static_cast<std::size_t>(r)]) * kv;
      const auto bytes = static_cast<std::size_t>(kv) * sizeof(float);
      std::memcpy(cache.own_k.data<float>() + slot, k.data<float>() + r * k.row_stride(), bytes);
      std::memcpy(cache.own_v.data<float>() + slot, v.data<float>() + r * v.row_stride(), bytes);
    }
    const Tensor out = destination.defined() ? destination : Tensor::empty({rows, a}, DType::f32);
    const TraceScope trace("attention_decode");
    kernels::attention_decode<kernels::CpuQueue, float>(
        cpu_queue(), out.matrix<float>(), q.matrix<float>(), cache.shared_k.matrix<float>(),
        cache.shared_v.matrix<float>(), cache.own_k.data<float>() + first * capacity_ * kv,
        cache.own_v.data<float>() + first * capacity_ * kv, lengths.data(), shape);
    return out;
  });
  head_.product_into(logits_, first, hidden);
}

kernels::Matrix<const float> DecoderSession::logits() const {
  // Until the first step all rows are followed by the same logits.
  if (!stepped_) return {shared_logits_.data<float>(), 0};
  return {logits_.data<float>(), vocab_size()};
}

void DecoderSession::truncate(Index row, Index own_length) {
  require(row >= 0 && row < static_cast<Index>(own_lengths_.size()) && own_length >= 0 &&
              own_length <= own_lengths_[static_cast<std::size_t>(row)],
          "truncate: row {} cannot be cut to {}", row, own_length);
  own_lengths_[static_cast<std::size_t>(row)] = static_cast<std::int32_t>(own_length);
}

void DecoderSession::keep(std::span<const Index> rows) {
  const Index kv = decoder_.kv_width();
  for (std::size_t to = 0; to < rows.size(); ++to) {
    const auto from = static_cast<std::size_t>(rows[to]);
    require(from >= to && from < own_lengths_.size(), "keep: rows must ascend and be open");
    if (from == to) continue;
    own_lengths_[to] = own_lengths_[from];
    const auto bytes = static_cast<std::size_t>(own_lengths_[to] * kv) * sizeof(float);
    const Index target = static_cast<Index>(to) * capacity_ * kv, source = static_cast<Index>(from) * capacity_ * kv;
    for (Cache& cache : caches_) {
      std::memcpy(cache.own_k.data<float>() + target, cache.own_k.data<float>() + source, bytes);
      std::memcpy(cache.own_v.data<float>() + target, cache.own_v.data<float>() + source, bytes);
    }
    if (stepped_) {
      std::memcpy(logits_.data<float>() + static_cast<Index>(to) * vocab_size(),
                  logits_.data<float>() + static_cast<Index>(from) * vocab_size(),
                  static_cast<std::size_t>(vocab_size()) * sizeof(float));
    }
  }
  own_lengths_.resize(rows.size());
}

}  // namespace unfurl::train
