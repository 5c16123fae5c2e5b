// The decode loop: rows of one shared part, each drawing token after token until it ends.
//
// Token `position` of (sample, attempt) is drawn with a Philox number addressed by (seed, position, sample, attempt),
// so a sample does not depend on how many others are drawn beside it.
//
// Never drawn: control pieces (but <eos>), pieces with control characters (line ends, ...), pieces that would make the
// text no UTF-8, and, as the first, a piece that would make the opening's last word longer. A token that completes a
// banned phrase sends the row back to the token that the phrase began with, which is then drawn anew without it.
// Segments that are drawn again and empty ones are left out at the end (repeats.h).
//
// A model that can draw by itself (drawing_model.h) does so where nothing is banned: draws are queued ahead of what is
// read here, and what a row drew after its end is dropped. With bans it steps from token to token, its logits masked
// and drawn from here, as any model.
#pragma once
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "kernels/sampling.h"
#include "train/generate/bans.h"
#include "train/generate/codec.h"
#include "train/generate/drawing_model.h"

namespace unfurl::train {

/// Why a text ends where it does.
enum class Stop {
  end,         // the model ended it
  max_tokens,  // the rest are cuts, at the end of a word or segment
  max_words,
  context,
  banned,        // nothing that is not banned may follow
  not_expanded,  // the query as it is
};
/// "end", "max_tokens", ...
const char* stop_name(Stop stop);

/// What the pieces of a tokenizer stand for, looked up once.
class PieceTable {
 public:
  /// `vocab_size` is the model's: at least the codec's.
  PieceTable(const Codec& codec, Index vocab_size);

  Index vocab_size() const { return static_cast<Index>(pieces_.size()); }
  std::int32_t eos() const { return eos_; }

  /// What may be drawn after what, for a model that draws by itself: the same as by the masks below and the text.
  const Follows& follows() const { return follows_; }
  /// The state of a row before its first token: the text is whole, or `closed`; `ends`: <eos> may be drawn at once.
  std::uint8_t first_state(bool closed, bool ends) const { return first_states_[closed ? 1 : 0][ends ? 1 : 0]; }
  const std::string& bytes(std::int32_t piece) const { return pieces_[static_cast<std::size_t>(piece)]; }

  /// [vocab_size]: 0 for pieces that may follow text that ends with a whole character, -infinity for the others (<eos>
  /// is one of these). `closed`: also -infinity for pieces that begin with a letter, a digit or what joins words ("-",
  /// "'").
  const float* mask(bool closed) const { return closed ? closed_mask_.data() : mask_.data(); }
  /// Pieces that may go on with a character cut in two.
  const std::vector<std::int32_t>& continuing() const { return continuing_; }

 private:
  std::vector<std::string> pieces_;
  std::vector<float> mask_, closed_mask_;
  void make_follows();

  std::vector<std::int32_t> continuing_;
  std::int32_t eos_;
  Follows follows_;
  std::uint8_t first_states_[2][2] = {};
};

struct DecodeSettings {
  std::uint64_t seed = 0;
  kernels::Sampling sampling;
  Index max_tokens = 0;  // at least 1
  bool max_tokens_is_context = false;
  Index max_words = 0;  // of the continuation; 0: any number
  std::string opening;  // what the text goes on from: it is not generated
  std::string read;     // the opening as the model read it, whose segments are not said again
  bool closed = false;  // the opening's last word is whole
  const Bans* bans = nullptr;
  Index ahead = 2;  // draws queued before the earliest is read, of a model that draws by itself; changes no result
};

/// One continuation to draw.
struct Draw {
  Index sample = 0;
  Index attempt = 0;  // of this sample; from the second on, a row may not end at once
};

struct Continuation {
  std::string text;  // without the opening, and without what it repeats; valid UTF-8, no spaces at the end
  Stop stop = Stop::end;
  Index tokens = 0;            // drawn, with <eos>
  double log_probability = 0;  // of those tokens, natural, among all that may be drawn
};

/// Draws at most kMaxRows continuations of what the model was given by prefill. Throws Error where the logits are not
/// finite numbers.
std::vector<Continuation> decode(LanguageModel& model, const PieceTable& pieces, const DecodeSettings& settings,
                                 std::span<const Draw> draws);

}  // namespace unfurl::train
