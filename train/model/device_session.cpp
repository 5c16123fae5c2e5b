#include "train/model/device_session.h"

#include <cstddef>
#include <cstring>

#include "core/autograd.h"
#include "core/copy.h"
#include "core/dispatch.h"
#include "core/ops/linear.h"
#include "core/product.h"
#include "core/random.h"
#include "kernels/attention.h"
#include "kernels/embedding.h"

namespace unfurl::train {
namespace {

using kernels::DecodeState;

static_assert(sizeof(DecodeState) % sizeof(std::int32_t) == 0 && kMaxRows == kernels::kFewRows);

// What the host reads of a draw is at the end.
constexpr std::size_t kResultAt = offsetof(DecodeState, drawn), kResultBytes = sizeof(DecodeState) - kResultAt;
static_assert(offsetof(DecodeState, log_probability) == kResultAt + kMaxRows * sizeof(std::int32_t));

Tensor uninitialised(Index rows, Index cols, DType dtype, Device device) {
  return Tensor::empty({rows, cols}, dtype, device);
}

}  // namespace

DeviceSession::Result::Result(Device device) : memory(device, kResultBytes) {}
DeviceSession::Upload::Upload(Device device) : memory(device, sizeof(DecodeState)) {}

DeviceSession::DeviceSession(const Decoder& decoder) : decoder_(decoder), device_(decoder.embedding().device()) {
  require(runs_cuda(device_), "DeviceSession: the model is on {}, which runs no CUDA kernels", name_of(device_));
  const MemoryName memory("generation");
  const ModelConfig& config = decoder.config();
  const DType dtype = decoder.embedding().dtype();
  const Index kv = decoder.kv_width();
  for (Index layer = 0; layer < config.layers; ++layer) {
    const auto cache = [&](Index rows) { return uninitialised(rows, kv, dtype, device_); };
    caches_.push_back({cache(config.positions()), cache(config.positions()), cache(kMaxRows * config.positions()),
                       cache(kMaxRows * config.positions())});
  }
  state_ = Tensor::zeros({static_cast<Index>(sizeof(DecodeState) / sizeof(std::int32_t))}, DType::i32, device_);
  shared_logits_ = uninitialised(1, config.vocab_size, DType::f32, device_);
  logits_ = uninitialised(kMaxRows, config.vocab_size, DType::f32, device_);
  masked_ = uninitialised(kMaxRows, config.vocab_size, DType::f32, device_);
  for (auto& upload : uploads_) upload = std::make_unique<Upload>(device_);
  logits_here_ =
      std::make_unique<PinnedMemory>(device_, static_cast<std::size_t>(kMaxRows * config.vocab_size) * sizeof(float));
}

DeviceSession::~DeviceSession() {
  try {
    synchronize(device_);            // copies into results are still to come
  } catch (const std::exception&) {  // the device is lost, and nothing comes
  }
}

DecodeState* DeviceSession::state() const { return reinterpret_cast<DecodeState*>(state_.data<std::int32_t>()); }

Tensor DeviceSession::numbers(std::size_t offset, Index count) const {
  return state_.span_of(static_cast<Index>(offset / sizeof(std::int32_t)), {count});
}

void DeviceSession::upload_state(const DecodeState& state) {
  Upload& upload = *uploads_[next_upload_++ % uploads_.size()];
  upload.copied.wait();
  std::memcpy(upload.memory.data(), &state, sizeof(state));
  on_device(device_,
            [&](const auto& queue) { queue.copy(state_.data<std::int32_t>(), upload.memory.data(), sizeof(state)); });
  upload.copied = Event(device_);
}

Tensor DeviceSession::hidden(const Tensor& tokens, const Attend& attend) const {
  const Index count = tokens.numel(), width = decoder_.config().width;
  const Tensor& table = decoder_.embedding();
  const Tensor x = Tensor::empty({count, width}, table.dtype(), device_);
  dispatch("embedding", x, [&]<class T>(const auto& queue) {
    kernels::embedding_forward(queue, x.matrix<T>(), tokens.data<const std::int32_t>(), table.data<const T>(), count,
                               width);
  });
  const auto project = [this](std::size_t layer, Projection which, const Tensor& in) {
    const BlockWeights& block = decoder_.block(static_cast<Index>(layer));
    const Tensor* const weights[] = {&block.input, &block.output, &block.ff_input, &block.ff_output};
    return linear(in, *weights[static_cast<std::size_t>(which)]);
  };
  return run_blocks(decoder_, x, project, attend);
}

void DeviceSession::head(const Tensor& to, const Tensor& hidden) const {
  const Tensor& weight = decoder_.head();
  dispatch("head", hidden, [&]<class T>(const auto& queue) {
    if constexpr (!std::is_same_v<T, double>) {
      product(queue, to.matrix<float>(), hidden.matrix<const T>(), false, weight.matrix<const T>(), true, hidden.rows(),
              weight.rows(), weight.cols(), false);
    }
  });
}

void DeviceSession::prefill(std::span<const std::int32_t> own, Index prefix_length) {
  const ModelConfig& config = decoder_.config();
  const std::vector<std::int32_t> shared = decoder_.opened(own);
  prefix_length += config.soft_rows();
  const auto length = static_cast<Index>(shared.size());
  require(!own.empty() && length <= config.positions(), "prefill: {} tokens do not fit the context of {}", own.size(),
          config.context);
  for (const std::int32_t token : own) {
    require(token >= 0 && token < config.vocab_size, "prefill: there is no token {}", token);
  }
  const NoTapeScope nothing_recorded;
  const MemoryName memory("generation");
  std::vector<std::int32_t> at(shared.size());
  for (std::size_t i = 0; i < at.size(); ++i) at[i] = static_cast<std::int32_t>(i);
  const auto there = [&](const std::vector<std::int32_t>& values) {
    return Tensor::from(values, {static_cast<Index>(values.size())}, device_);
  };
  const Tensor positions = there(at);
  const AttentionLayout layout{there({0, static_cast<std::int32_t>(length)}),
                               there({static_cast<std::int32_t>(prefix_length)})};
  const Index a = decoder_.attention_width(), kv = decoder_.kv_width();
  const auto attend = [&](std::size_t layer, const Tensor& projected, const Tensor& destination) {
    const BlockWeights& weights = decoder_.block(static_cast<Index>(layer));
    const Tensor k = caches_[layer].shared_k.span_of(0, {length, kv});
    const Tensor v = caches_[layer].shared_v.span_of(0, {length, kv});
    const Tensor q = decoder_.rotated(projected.columns(0, a), weights.q_gain, positions, config.heads);
    copy_into(k, decoder_.rotated(projected.columns(a, a + kv), weights.k_gain, positions, config.kv_heads));
    copy_into(v, projected.columns(a + kv, a + 2 * kv));
    return attention(q, k, v, layout, config.heads, config.kv_heads, decoder_.attention_scale(), destination);
  };
  const Tensor last = hidden(there({shared.begin(), shared.end()}), attend);
  head(shared_logits_, last.span_of((length - 1) * config.width, {1, config.width}));
  shared_ = length;
  own_lengths_.clear();
  logits_are_here_ = drawing_ = stepped_ = false;
}

void DeviceSession::fork(Index rows, Index capacity) {
  require(shared_ > 0, "fork: nothing was prefilled");
  require(rows > 0 && rows <= kMaxRows && capacity >= 0 && shared_ + capacity <= decoder_.config().positions(),
          "fork: {} rows of {} tokens do not fit", rows, capacity);
  capacity_ = capacity;
  own_lengths_.assign(static_cast<std::size_t>(rows), 0);
  logits_are_here_ = drawing_ = stepped_ = false;
}

void DeviceSession::queue_step(Index rows) const {
  const ModelConfig& config = decoder_.config();
  const Index a = decoder_.attention_width(), kv = decoder_.kv_width();
  const kernels::DecodeRows shape{rows, config.positions(), config.heads, config.kv_heads, config.head_dim};
  const kernels::DecodeShape keys{.rows = rows,
                                  .shared_length = config.positions(),
                                  .own_capacity = config.positions(),
                                  .heads = config.heads,
                                  .kv_heads = config.kv_heads,
                                  .head_dim = config.head_dim,
                                  .scale = decoder_.attention_scale(),
                                  .shared_length_at = &state()->shared_length,
                                  .most_keys = config.positions()};
  const auto attend = [&](std::size_t layer, const Tensor& projected, const Tensor& destination) {
    const BlockWeights& weights = decoder_.block(static_cast<Index>(layer));
    const Cache& cache = caches_[layer];
    const Tensor q = decoder_.normed_heads(projected.columns(0, a), weights.q_gain, config.heads);
    const Tensor k = decoder_.normed_heads(projected.columns(a, a + kv), weights.k_gain, config.kv_heads);
    const Tensor v = projected.columns(a + kv, a + 2 * kv);
    const Tensor out = destination.defined() ? destination : Tensor::empty({rows, a}, q.dtype(), device_);
    dispatch("attention_decode", q, [&]<class T>(const auto& queue) {
      if constexpr (!std::is_same_v<std::remove_cvref_t<decltype(queue)>, kernels::CpuQueue>) {
        T* const own_k = cache.own_k.data<T>();
        T* const own_v = cache.own_v.data<T>();
        kernels::rotate_and_append(queue, q.matrix<T>(), own_k, own_v, q.matrix<const T>(), k.matrix<const T>(),
                                   v.matrix<const T>(), decoder_.rope_table().data<const float>(), state(), shape);
        kernels::attention_decode(queue, out.matrix<T>(), q.matrix<const T>(), cache.shared_k.matrix<const T>(),
                                  cache.shared_v.matrix<const T>(), static_cast<const T*>(own_k),
                                  static_cast<const T*>(own_v), static_cast<const std::int32_t*>(state()->lengths),
                                  keys);
      }
    });
    return out;
  };
  head(logits_, hidden(numbers(offsetof(DecodeState, tokens), rows), attend));
}

void DeviceSession::queue_drawing(Index rows, const Tensor& logits, Index stride) const {
  on_device(device_, [&](const auto& queue) {
    kernels::draw_tokens(queue, state(), masked_.data<float>(), {logits.data<const float>(), stride},
                         reinterpret_cast<const std::uint8_t*>(follows_there_.data<std::int32_t>()), rows,
                         vocab_size());
  });
}

void DeviceSession::launch(bool draw) {
  const NoTapeScope nothing_recorded;
  const MemoryName memory("generation");
  const Index count = rows();
  const auto work = [&] {
    queue_step(count);
    if (draw) queue_drawing(count, logits_, vocab_size());
  };
  const std::pair key{count, draw};
  if (met_.insert(key).second) {  // finds all memory that the graph needs
    const Allocator::GraphMemoryScope scope(Allocator::of(device_));
    work();
    return;
  }
  Graph& graph = graphs_[key];
  if (graph.empty()) graph = Graph(device_, work);
  graph.launch();
}

void DeviceSession::step(std::span<const std::int32_t> tokens) {
  require(static_cast<Index>(tokens.size()) == rows(), "step: {} tokens for {} rows", tokens.size(), rows());
  require(!drawing_, "step: the rows draw by themselves");
  DecodeState next;
  next.shared_length = static_cast<std::int32_t>(shared_);
  for (std::size_t r = 0; r < tokens.size(); ++r) {
    require(own_lengths_[r] < capacity_, "step: a row is full");
    require(tokens[r] >= 0 && tokens[r] < vocab_size(), "step: there is no token {}", tokens[r]);
    next.tokens[r] = tokens[r];
    next.positions[r] = static_cast<std::int32_t>(shared_) + own_lengths_[r];
    next.lengths[r] = ++own_lengths_[r];
  }
  upload_state(next);
  launch(false);
  stepped_ = true;
  logits_are_here_ = false;
}

kernels::Matrix<const float> DeviceSession::logits() const {
  const auto* here = reinterpret_cast<const float*>(logits_here_->data());
  if (!logits_are_here_) {
    const Index count = stepped_ ? rows() : 1;
    on_device(device_, [&](const auto& queue) {
      queue.copy(logits_here_->data(), (stepped_ ? logits_ : shared_logits_).template data<float>(),
                 static_cast<std::size_t>(count * vocab_size()) * sizeof(float));
      queue.synchronize();
    });
    logits_are_here_ = true;
  }
  return {here, stepped_ ? vocab_size() : 0};
}

void DeviceSession::truncate(Index row, Index own_length) {
  require(row >= 0 && row < rows() && own_length >= 0 && own_length <= own_lengths_[static_cast<std::size_t>(row)],
          "truncate: row {} cannot be cut to {}", row, own_length);
  require(!drawing_, "truncate: the rows draw by themselves");
  own_lengths_[static_cast<std::size_t>(row)] = static_cast<std::int32_t>(own_length);
}

void DeviceSession::keep(std::span<const Index> rows) {
  require(!drawing_, "keep: the rows draw by themselves");
  for (std::size_t to = 0; to < rows.size(); ++to) {
    const auto from = static_cast<std::size_t>(rows[to]);
    require(from >= to && from < own_lengths_.size(), "keep: rows must ascend and be open");
    if (from == to) continue;
    own_lengths_[to] = own_lengths_[from];
    const auto row = [&](const Tensor& of, std::size_t r, Index height) {
      return of.span_of(static_cast<Index>(r) * height * of.cols(), {own_lengths_[from], of.cols()});
    };
    for (const Cache& cache : caches_) {
      copy_into(row(cache.own_k, to, decoder_.config().positions()),
                row(cache.own_k, from, decoder_.config().positions()));
      copy_into(row(cache.own_v, to, decoder_.config().positions()),
                row(cache.own_v, from, decoder_.config().positions()));
    }
    if (stepped_) {
      copy_into(logits_.span_of(static_cast<Index>(to) * vocab_size(), {vocab_size()}),
                logits_.span_of(static_cast<Index>(from) * vocab_size(), {vocab_size()}));
    }
  }
  own_lengths_.resize(rows.size());
  if (stepped_) logits_are_here_ = false;
}

void DeviceSession::begin_draws(const Follows& follows, const kernels::Sampling& sampling, std::uint64_t seed,
                                std::span<const DrawStart> starts) {
  require(static_cast<Index>(starts.size()) == rows() && !stepped_, "begin_draws: {} starts for {} rows", starts.size(),
          rows());
  const auto states = static_cast<Index>(follows.next.size()) / vocab_size();
  require(follows.vocab_size == vocab_size() && states > 0 && states < kernels::kNeverFollows,
          "begin_draws: a table of {} states for {} of {} pieces", states, follows.vocab_size, vocab_size());
  if (follows.next != follows_.next) {
    std::vector<std::int32_t> packed((follows.next.size() + 3) / 4);
    std::memcpy(packed.data(), follows.next.data(), follows.next.size());
    const auto count = static_cast<Index>(packed.size());
    if (!follows_there_.defined() || follows_there_.numel() != count) {
      const MemoryName memory("generation");
      std::erase_if(graphs_, [](const auto& graph) { return graph.first.second; });  // bound to the table's place
      follows_there_ = Tensor::empty({count}, DType::i32, device_);
    }
    follows_there_.write(packed.data());
    follows_ = follows;
  }
  DecodeState next;
  next.shared_length = static_cast<std::int32_t>(shared_);
  next.key = philox_key(seed, Purpose::sample);
  next.sampling = sampling;
  for (std::size_t r = 0; r < starts.size(); ++r) {
    require(starts[r].state < states, "begin_draws: there is no state {}", starts[r].state);
    next.positions[r] = static_cast<std::int32_t>(shared_) - 1;
    next.follow[r] = starts[r].state;
    next.index[r] = starts[r].index;
  }
  upload_state(next);
  for (auto& result : results_) free_.push_back(std::move(result));
  results_.clear();
  drawing_ = true;
  draws_ = 0;
}

void DeviceSession::queue_draw() {
  require(drawing_ && draws_ < capacity_, "queue_draw: after {} draws of {}", draws_, drawing_ ? capacity_ : 0);
  if (draws_++ == 0) {
    queue_drawing(rows(), shared_logits_, 0);
  } else {
    launch(true);
  }
  if (free_.empty()) free_.push_back(std::make_unique<Result>(device_));
  std::unique_ptr<Result> result = std::move(free_.front());
  free_.pop_front();
  on_device(device_, [&](const auto& queue) { queue.copy(result->memory.data(), state()->drawn, kResultBytes); });
  result->ready = Event(device_);
  results_.push_back(std::move(result));
}

std::vector<Drawn> DeviceSession::take_draw() {
  require(!results_.empty(), "take_draw: no draw is under way");
  std::unique_ptr<Result> result = std::move(results_.front());
  results_.pop_front();
  result->ready.wait();
  std::vector<Drawn> out(own_lengths_.size());
  for (std::size_t r = 0; r < out.size(); ++r) {
    std::memcpy(&out[r].token, result->memory.data() + r * sizeof(std::int32_t), sizeof(std::int32_t));
    std::memcpy(&out[r].log_probability, result->memory.data() + (kMaxRows + r) * sizeof(std::int32_t), sizeof(float));
  }
  free_.push_back(std::move(result));
  return out;
}

}  // namespace unfurl::train
