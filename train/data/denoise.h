// Plain text as a model sees it while it is pre-trained.
//
//   ul2        [mode] text with its spans left out <sep> the spans <eos>        (Tay et al., 2022, for a decoder)
//   prefix_lm  the first part of the text <sep> the rest <eos>                  cut where chance has it
//   causal     <sep> text <eos>
//
// With ul2 a text is several where they are short (loader.h).
//
// The part up to <sep> attends both ways, as in a pair (example.h); what follows is predicted. With ul2 each text gets
// one of the seven denoisers, all equally often. R and X leave out several spans: <extra_id_0>, <extra_id_1>, ... stand
// for them in the text, and before each of them behind <sep>. S leaves out one span, the end of the text, without any:
// its form is that of a pair.
//
// Counts that are not whole are rounded up or down by chance, so that their means are right. But a text has at least
// one span, and a span is no longer than all that is left out of the text.
#pragma once
#include <array>
#include <span>

#include "train/data/example.h"
#include "train/data/segment.h"
#include "train/recipe/recipe.h"

namespace unfurl::train {

struct Denoiser {
  std::int32_t mode;  // its piece
  double mean;        // length of a span, tokens; 0: one span, the end of the text
  double rate;        // share of the text that is left out
};

inline constexpr std::array<Denoiser, 7> kDenoisers = {{{Tokenizer::kModeR, 3, 0.15},
                                                        {Tokenizer::kModeR, 8, 0.15},
                                                        {Tokenizer::kModeX, 3, 0.5},
                                                        {Tokenizer::kModeX, 8, 0.5},
                                                        {Tokenizer::kModeX, 64, 0.15},
                                                        {Tokenizer::kModeX, 64, 0.5},
                                                        {Tokenizer::kModeS, 0, 0.25}}};

/// A text by one denoiser. `text` is not empty; more spans than there are `sentinels` are not made.
Example denoise(std::span<const std::int32_t> text, const Denoiser& denoiser, Index sentinels, Draws& draws);

/// A text by an objective other than pairs. More than document_tokens() of it are cut off.
Example document_example(std::span<const std::int32_t> text, Objective objective, Index context, Index sentinels,
                         Draws& draws);

/// The tokens of a text whose example has at most `context` rows, whatever is drawn.
Index document_tokens(Objective objective, Index context);

/// The sentinels that such texts may take: 0 but for ul2.
Index sentinels_needed(Objective objective, Index context);

}  // namespace unfurl::train
