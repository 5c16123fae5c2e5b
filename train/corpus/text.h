// Small operations on UTF-8 text that the corpus tools share. Letter case and character classes are ASCII's; bytes of
// other letters count as letters.
#pragma once
#include <string>
#include <string_view>
#include <vector>

namespace unfurl::train {

/// True for well-formed UTF-8 (no overlong forms, no surrogates, nothing above U+10FFFF).
bool valid_utf8(std::string_view text);

/// Without spaces, tabs and line ends on both sides.
std::string_view trim(std::string_view text);

/// The words between spaces, tabs and line ends.
std::vector<std::string_view> split_words(std::string_view text);

/// The word without punctuation and brackets at both ends.
std::string_view bare(std::string_view word);

/// ASCII letters in lower case.
std::string lower(std::string_view text);

/// The words without punctuation, ASCII letters in lower case.
std::vector<std::string> plain_words(std::string_view text);

/// The words with one space between them.
std::string join(const std::vector<std::string_view>& words, std::string_view between = " ");

/// True where one of `words` is `word`.
bool contains_word(const std::vector<std::string_view>& words, std::string_view word);

}  // namespace unfurl::train
