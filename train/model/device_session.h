// Generation with a Decoder on a device that runs CUDA kernels: a token is one launch of a graph.
//
// Caches of keys and values, the rows' tokens, positions and lengths, and what draws need are in the device's memory
// from the start, so one graph for each number of rows serves every token of every request. Rows that draw by
// themselves (drawing_model.h) feed each token to the next step there. step() and logits() bring tokens and logits over
// the host instead, which is then waited for at each token: for requests whose next token depends on what the host
// makes of the last (bans).
#pragma once
#include <array>
#include <deque>
#include <map>
#include <memory>
#include <set>

#include "core/device.h"
#include "train/generate/drawing_model.h"
#include "train/model/blocks.h"

namespace unfurl::train {

/// Runs the decoder, which must outlive it, on its device and in its element type. Logits are f32. Weights are read
/// anew in every call, so a session may be kept while the model trains on (prefill again after each change).
class DeviceSession : public DrawingModel {
 public:
  explicit DeviceSession(const Decoder& decoder);
  ~DeviceSession() override;

  Index vocab_size() const override { return decoder_.config().vocab_size; }
  Index context() const override { return decoder_.config().context; }
  void prefill(std::span<const std::int32_t> own, Index prefix_length) override;
  void fork(Index rows, Index capacity) override;
  void step(std::span<const std::int32_t> tokens) override;
  kernels::Matrix<const float> logits() const override;
  void truncate(Index row, Index own_length) override;
  void keep(std::span<const Index> rows) override;

  void begin_draws(const Follows& follows, const kernels::Sampling& sampling, std::uint64_t seed,
                   std::span<const DrawStart> starts) override;
  void queue_draw() override;
  std::vector<Drawn> take_draw() override;

 private:
  struct Cache {
    Tensor shared_k, shared_v;  // [positions, kv_width]
    Tensor own_k, own_v;        // [kMaxRows * positions, kv_width]
  };
  struct Result {
    explicit Result(Device device);
    PinnedMemory memory;
    Event ready;
  };
  struct Upload {
    explicit Upload(Device device);
    PinnedMemory memory;
    Event copied;
  };

  Index rows() const { return static_cast<Index>(own_lengths_.size()); }
  kernels::DecodeState* state() const;
  /// A part of the state as a tensor.
  Tensor numbers(std::size_t offset, Index count) const;
  void upload_state(const kernels::DecodeState& state);
  Tensor hidden(const Tensor& tokens, const Attend& attend) const;
  void head(const Tensor& to, const Tensor& hidden) const;
  /// What graphs are made of.
  void queue_step(Index rows) const;
  void queue_drawing(Index rows, const Tensor& logits, Index stride) const;
  /// Runs a step and, where they `draw`, the draw after it: as it is the first time, then as a graph.
  void launch(bool draw);

  const Decoder& decoder_;
  const Device device_;
  std::vector<Cache> caches_;
  Tensor state_;          // a kernels::DecodeState
  Tensor shared_logits_;  // [1, vocab_size], of what follows the shared part
  Tensor logits_;         // [kMaxRows, vocab_size]
  Tensor masked_;         // the same, of draws
  Follows follows_;
  Tensor follows_there_;
  std::array<std::unique_ptr<Upload>, 2> uploads_;
  std::size_t next_upload_ = 0;
  std::map<std::pair<Index, bool>, Graph> graphs_;  // by rows, and whether they draw
  std::set<std::pair<Index, bool>> met_;

  Index shared_ = 0, capacity_ = 0;
  std::vector<std::int32_t> own_lengths_;
  bool stepped_ = false;
  mutable std::unique_ptr<PinnedMemory> logits_here_;
  mutable bool logits_are_here_ = false;

  bool drawing_ = false;
  Index draws_ = 0;
  std::deque<std::unique_ptr<Result>> results_, free_;
};

}  // namespace unfurl::train
