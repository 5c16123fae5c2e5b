#include "train/generate/cut.h"

#include <algorithm>

#include "train/generate/characters.h"

namespace unfurl::train {
namespace {

bool is_separator(char c) { return c == ',' || c == ';' || c == ':' || c == '|' || c == '-' || c == '(' || c == '/'; }

/// The length of the text up to the end of its word number `words`, counted as count_words does.
std::size_t end_of_word(std::string_view text, Index words) {
  bool counted = false;
  for (std::size_t at = 0; at < text.size();) {
    const Character character = character_at(text, at);
    if (is_space(character.code)) {
      counted = false;
    } else if (!counted && is_visible_content(character.code)) {
      counted = true;
      if (--words < 0) {
        // The run may begin with punctuation: back to the space before it.
        while (at > 0 && !is_space(last_character(text.substr(0, at)).code))
          at -= last_character(text.substr(0, at)).length;
        return at;
      }
    }
    at += character.length;
  }
  return text.size();
}

/// The place of the last comma or the like that a space, or nothing, follows ("f/1.8" has none); npos without one.
std::size_t last_segment_end(std::string_view text) {
  for (std::size_t at = text.size(); at-- > 0;) {
    const bool ends = at + 1 == text.size() || is_space(character_at(text, at + 1).code);
    if (ends && std::string_view(",;|.").find(text[at]) != std::string_view::npos) return at;
  }
  return std::string_view::npos;
}

}  // namespace

std::size_t cut_spaces(std::string_view text, std::size_t keep) {
  while (text.size() > keep && is_space(last_character(text).code)) text.remove_suffix(last_character(text).length);
  return text.size();
}

std::size_t cut_separators(std::string_view text, std::size_t keep) {
  while (text.size() > keep && (is_separator(text.back()) || is_space(last_character(text).code))) {
    text.remove_suffix(last_character(text).length);
  }
  return text.size();
}

std::size_t cut_to_words(std::string_view text, std::size_t keep, Index max_words, bool whole) {
  std::string_view added = text.substr(keep);
  if (max_words > 0) {
    const std::size_t end = end_of_word(added, max_words);
    whole = whole || end < added.size();
    added = added.substr(0, end);
    text = text.substr(0, keep + end);
  }
  const Index words = count_words(added);
  const std::size_t segment = last_segment_end(added);
  if (segment != std::string_view::npos && 2 * count_words(added.substr(0, segment)) >= words) {
    // A full stop belongs to its sentence.
    return cut_separators(text.substr(0, keep + segment + (added[segment] == '.' ? 1 : 0)), keep);
  }
  if (!whole && words > 1) {
    std::size_t end = text.size();
    while (end > keep && !is_space(last_character(text.substr(0, end)).code)) {
      end -= last_character(text.substr(0, end)).length;
    }
    text = text.substr(0, end);
  }
  return cut_separators(text, keep);
}

}  // namespace unfurl::train
