// Inversion, image to prompt, in the manner of CLIP-Interrogator: a caption, then flavors whose texts are near the
// image in the space of CLIP embeddings.
//
//   fast     the caption and the 32 nearest flavors
//   classic  the caption, the nearest medium, artist, trending and movement, and the 3 nearest flavors
//   chain    from the caption on, of the 2,048 nearest flavors the one that brings the prompt nearest to the image is
//            appended, and again: the first 8 in any case, later ones only if the prompt comes nearer; at most 32
//   best     the nearest of {caption, fast, classic, chain}, the first of equals
//
// All lists together are the flavors of fast and chain. A prompt also ends before the flavor that would make it longer
// than the image model reads.
//
// No text encoder is asked: the embedding of a prompt is taken to be the sum of the unit embeddings of its caption and
// its flavors, scaled to length 1; similarity is its dot product with the image's unit embedding.
#pragma once
#include <array>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "train/corpus/flavor_lists.h"
#include "train/corpus/top_flavors.h"

namespace unfurl::train {

struct InvertRules {
  Index keep = 2048;        // flavors that the chain chooses from
  Index fast = 32;          // flavors of the fast form
  Index classic = 3;        // of the list of flavors in the classic form
  Index unconditional = 8;  // first flavors of the chain
  Index most = 32;          // flavors of the chain
  Index max_tokens = 77;    // estimated_clip_tokens() of a prompt
};

/// In the order in which the best one is looked for.
inline constexpr std::array<std::string_view, 4> kForms = {"caption", "fast", "classic", "chain"};

struct InvertedForm {
  std::vector<Index> flavors;  // of the lists, in order
  double similarity = 0;
};

/// The four forms of one image.
using Inversion = std::array<InvertedForm, kForms.size()>;

/// What images are compared with: for a block of images, each list's best.
struct Ranking {
  std::array<std::vector<std::vector<RankedFlavor>>, kFlavorLists.size()> lists;  // [list][image][rank]
};
Ranking rank_flavors(kernels::ThreadPool& pool, const FlavorLists& lists, const float* images, Index count,
                     const InvertRules& rules);

/// image, caption: [lists.size], of length 1. `at` is the image's place in the ranking.
Inversion invert(kernels::ThreadPool& pool, const FlavorLists& lists, const Ranking& ranking, std::size_t at,
                 std::string_view caption_text, std::span<const float> image, std::span<const float> caption,
                 const InvertRules& rules);

/// The place of the greatest similarity.
std::size_t best_form(const Inversion& inversion);

/// "caption, flavor, flavor".
std::string prompt_of(std::string_view caption, const InvertedForm& form, const FlavorLists& lists);

/// About how many tokens CLIP's tokenizer makes of the text, its two marks for begin and end included: one for each
/// mark, each digit, and each begun eight letters of a word.
Index estimated_clip_tokens(std::string_view text);

}  // namespace unfurl::train
