// Characters of UTF-8 text, as far as generation looks at them: words, letter case, characters that are cut in two.
#pragma once
#include <cstddef>
#include <string>
#include <string_view>

#include "kernels/types.h"

namespace unfurl::train {

struct Character {
  char32_t code = 0;
  std::size_t length = 0;  // bytes
};

/// The character that starts at text[at]; a byte that starts none is U+FFFD, one byte long.
Character character_at(std::string_view text, std::size_t at);

/// The character that ends at text.size(); U+FFFD of length 0 for an empty text.
Character last_character(std::string_view text);

/// Spaces, tabs, line ends and the spaces of Unicode.
bool is_space(char32_t code);

/// Letters, digits and '_' of scripts that put spaces between words. Ideographs and kana are not among them: each
/// stands for itself.
bool is_word_character(char32_t code);

/// Letters, digits, ideographs, emoji: all that is neither space nor punctuation.
bool is_visible_content(char32_t code);

/// Lower case for Latin, Greek and Cyrillic letters; the plain form of typographic quotes, dashes and full-width forms;
/// ' ' for every space.
char32_t fold(char32_t code);

/// The text folded, with one space for each run of spaces and none at either end, in UTF-8.
std::string folded(std::string_view text);

/// The length in bytes of what ends the text and is only the beginning of a character: 0 to 3.
std::size_t incomplete_tail(std::string_view text);

/// True where `text` is UTF-8, or would be if what follows completes its last character.
bool valid_utf8_so_far(std::string_view text);

/// How many words the text has: runs between spaces with something in them that is not punctuation.
Index count_words(std::string_view text);

}  // namespace unfurl::train
