// What generation asks of a model: one prefill of a part that all samples share, then rows that decode as a batch.
//
//   model.prefill(shared, prefix_length);
//   model.fork(rows, capacity);                    // logits(): what follows the last shared token, the same in each
//   row while (...) { model.step(tokens); ... }        // logits(): what follows each row's last token
//
// A row's logits depend on the shared tokens and on its own tokens alone: not on how many rows there are, nor on what
// the others hold. (So sample i of 4 is sample i of 8.) One thread at a time may use a model.
#pragma once
#include <cstdint>
#include <span>

#include "kernels/types.h"

namespace unfurl::train {

/// Rows that decode at once: as many as kernels::matmul's path for few rows takes, so that the bits of a row are the
/// same in any company.
inline constexpr Index kMaxRows = 8;

class DrawingModel;

class LanguageModel {
 public:
  virtual ~LanguageModel() = default;

  /// The model itself where it can draw tokens without the host (drawing_model.h), else null.
  virtual DrawingModel* drawing() { return nullptr; }

  virtual Index vocab_size() const = 0;

  /// The most tokens that the shared part and a row's own part may have together.
  virtual Index context() const = 0;

  /// Starts over with the shared part: at least one token, of which the first `prefix_length` attend both ways, the
  /// rest causally. No rows are open afterwards.
  virtual void prefill(std::span<const std::int32_t> shared, Index prefix_length) = 0;

  /// Opens `rows` sequences (at most kMaxRows) that continue the shared part and are empty yet, with room for
  /// `capacity` tokens each; those that were open are forgotten. May be called again and again after one prefill.
  virtual void fork(Index rows, Index capacity) = 0;

  /// Appends tokens[r] to row r, for every open row.
  virtual void step(std::span<const std::int32_t> tokens) = 0;

  /// [open rows, vocab_size]: the logits of each row's next token. Valid until the next prefill, fork, step or keep.
  /// Rows may lie on top of each other (stride 0) after fork. A row that was truncated has none before the next step.
  virtual kernels::Matrix<const float> logits() const = 0;

  /// Forgets all but the first `own_length` of a row's own tokens, so that the next step goes on from there. Rows may
  /// have different lengths.
  virtual void truncate(Index row, Index own_length) = 0;

  /// Keeps these rows (ascending) and closes the others; row rows[i] becomes row i, its logits with it.
  virtual void keep(std::span<const Index> rows) = 0;
};

}  // namespace unfurl::train
