// A model that draws its tokens itself, on the device on which it runs: the host only reads what was drawn, later.
//
//   model.prefill(...); model.fork(rows, capacity);
//   model.begin_draws(follows, sampling, seed, starts);
//   model.queue_draw(); ...                       // ahead of what is read
//   while (...) { model.queue_draw(); model.take_draw(); }
//
// A row's tokens depend on the shared tokens, its start, the seed and the settings alone: not on the other rows, nor on
// how far ahead draws are queued.
#pragma once
#include <cstdint>
#include <span>
#include <vector>

#include "kernels/decode_step.h"
#include "train/generate/language_model.h"

namespace unfurl::train {

/// Which piece may be drawn after which: an automaton over pieces.
struct Follows {
  Index vocab_size = 0;
  /// [states, vocab_size]: the state after a piece, or kernels::kNeverFollows where it may not be drawn.
  std::vector<std::uint8_t> next;
};

/// How a row begins: its state in Follows, and the index of its random numbers.
struct DrawStart {
  std::uint8_t state = 0;
  std::uint64_t index = 0;
};

struct Drawn {
  std::int32_t token = 0;     // or kernels::kNothingFollows, kernels::kNotFinite: what comes after has no meaning
  float log_probability = 0;  // among all that may be drawn
};

class DrawingModel : public LanguageModel {
 public:
  DrawingModel* drawing() override { return this; }

  /// Directly after fork(): every row is going to draw its tokens, number n with the Philox number of (seed,
  /// Purpose::sample, n, its index). What was drawn before and not taken is forgotten. Until the next fork() there is
  /// no step(), truncate() or keep().
  virtual void begin_draws(const Follows& follows, const kernels::Sampling& sampling, std::uint64_t seed,
                           std::span<const DrawStart> starts) = 0;

  /// Queues the next draw of every row, at most `capacity` of fork() times. Does not wait for the device.
  virtual void queue_draw() = 0;

  /// Waits for the earliest draw that was queued and not taken yet: the token of each row.
  virtual std::vector<Drawn> take_draw() = 0;
};

}  // namespace unfurl::train
