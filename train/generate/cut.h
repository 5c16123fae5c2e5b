// Where a text may end when it has to be cut. Each function gives a length in bytes, never less than `keep`: the first
// `keep` bytes are the user's.
#pragma once
#include <cstddef>
#include <string_view>

#include "kernels/types.h"

namespace unfurl::train {

/// Without spaces at the end.
std::size_t cut_spaces(std::string_view text, std::size_t keep);

/// Without spaces, commas and other separators at the end.
std::size_t cut_separators(std::string_view text, std::size_t keep);

/// A clean end for a text that breaks off: at most `max_words` words behind `keep` (0: any number); after the last
/// segment (", ...") where that leaves at least half of them, else after the last word. Unless `whole`, the last word
/// may be cut in two and goes too, where there is another.
std::size_t cut_to_words(std::string_view text, std::size_t keep, Index max_words, bool whole);

}  // namespace unfurl::train
