#include "train/generate/characters.h"

#include <algorithm>
#include <array>

#include "train/corpus/text.h"

namespace unfurl::train {
namespace {

constexpr char32_t kReplacement = 0xFFFD;

/// Bytes of the character that starts with this byte; 0 for a byte that starts none.
std::size_t announced_length(unsigned char first) {
  return first < 0x80 ? 1 : first < 0xC2 ? 0 : first < 0xE0 ? 2 : first < 0xF0 ? 3 : first < 0xF5 ? 4 : 0;
}

bool in(char32_t code, char32_t first, char32_t last) { return code >= first && code <= last; }

/// Characters of scripts that are written without spaces between words.
bool is_ideograph(char32_t code) {
  return in(code, 0x0E00, 0x0EFF) || in(code, 0x2E80, 0x2FFF) || in(code, 0x3005, 0x3007) || in(code, 0x3021, 0x3029) ||
         in(code, 0x3040, 0x31FF) || in(code, 0x3400, 0x9FFF) || in(code, 0xF900, 0xFAFF) || in(code, 0xFF66, 0xFF9F) ||
         in(code, 0x20000, 0x3FFFF);
}

bool is_punctuation(char32_t code) {
  if (code < 0x80) {
    return !(in(code, '0', '9') || in(code, 'a', 'z') || in(code, 'A', 'Z') || code == '_');
  }
  if (code < 0xC0) return code != 0xAA && code != 0xB5 && code != 0xBA;
  return code == 0xD7 || code == 0xF7 || in(code, 0x2000, 0x206F) || in(code, 0x3000, 0x3004) ||
         in(code, 0x3008, 0x3020) || in(code, 0xFE30, 0xFE4F) || in(code, 0xFF00, 0xFF0F) || in(code, 0xFF1A, 0xFF20) ||
         in(code, 0xFF3B, 0xFF40) || in(code, 0xFF5B, 0xFF65) || code == kReplacement || code == 0xFEFF;
}

/// Arrows, mathematics, dingbats, emoji.
bool is_symbol(char32_t code) {
  return in(code, 0x20A0, 0x20CF) || in(code, 0x2190, 0x2BFF) || in(code, 0xFE00, 0xFE0F) || in(code, 0x1F000, 0x1FAFF);
}

/// The lower case of an upper-case letter where they come in pairs, even before odd.
char32_t pair_fold(char32_t code) { return code | 1; }

}  // namespace

Character character_at(std::string_view text, std::size_t at) {
  const auto first = static_cast<unsigned char>(text[at]);
  const std::size_t length = announced_length(first);
  if (length == 1) return {first, 1};
  if (length == 0 || length > text.size() - at || !valid_utf8(text.substr(at, length))) return {kReplacement, 1};
  char32_t code = first & (0xFFu >> (length + 1));
  for (std::size_t i = 1; i < length; ++i) code = (code << 6) | (static_cast<unsigned char>(text[at + i]) & 0x3F);
  return {code, length};
}

Character last_character(std::string_view text) {
  if (text.empty()) return {kReplacement, 0};
  for (std::size_t length = 1; length <= std::min<std::size_t>(4, text.size()); ++length) {
    const Character found = character_at(text, text.size() - length);
    if (found.length == length && (length > 1 || found.code != kReplacement)) return found;
  }
  return {kReplacement, 1};
}

bool is_space(char32_t code) {
  return code == ' ' || in(code, '\t', '\r') || code == 0x85 || code == 0xA0 || code == 0x1680 ||
         in(code, 0x2000, 0x200A) || code == 0x2028 || code == 0x2029 || code == 0x202F || code == 0x205F ||
         code == 0x3000;
}

bool is_visible_content(char32_t code) { return !is_space(code) && !is_punctuation(code); }

bool is_word_character(char32_t code) { return is_visible_content(code) && !is_ideograph(code) && !is_symbol(code); }

char32_t fold(char32_t code) {
  if (is_space(code)) return ' ';
  if (code < 0x80) return in(code, 'A', 'Z') ? code + 32 : code;
  if (code < 0x100) return in(code, 0xC0, 0xDE) && code != 0xD7 ? code + 32 : code;
  if (code < 0x180) {  // Latin Extended-A
    if (code == 0x130) return 'i';
    if (code == 0x178) return 0xFF;
    if (in(code, 0x139, 0x148) || in(code, 0x179, 0x17E)) return code + (code & 1);
    return code == 0x131 || code == 0x138 || code == 0x149 || code == 0x17F ? code : pair_fold(code);
  }
  if (in(code, 0x386, 0x3CE)) {  // Greek
    if (code == 0x386) return 0x3AC;
    if (in(code, 0x388, 0x38A)) return code + 37;
    if (code == 0x38C) return 0x3CC;
    if (in(code, 0x38E, 0x38F)) return code + 63;
    if (in(code, 0x391, 0x3AB)) return code + 32;
    return code == 0x3C2 ? 0x3C3 : code;
  }
  if (in(code, 0x400, 0x52F)) {  // Cyrillic
    if (code <= 0x40F) return code + 80;
    if (code <= 0x42F) return code + 32;
    if (in(code, 0x460, 0x481) || in(code, 0x48A, 0x4BF) || code >= 0x4D0) return pair_fold(code);
    if (in(code, 0x4C1, 0x4CE)) return code + (code & 1);
    return code == 0x4C0 ? 0x4CF : code;
  }
  if (in(code, 0x1E00, 0x1E95) || in(code, 0x1EA0, 0x1EFF)) return pair_fold(code);  // Latin Extended Additional
  if (in(code, 0x2018, 0x201B) || code == 0x2032) return '\'';
  if (in(code, 0x201C, 0x201F)) return '"';
  if (in(code, 0x2010, 0x2015) || code == 0x2212) return '-';
  if (in(code, 0xFF01, 0xFF5E)) return fold(code - 0xFEE0);
  return code;
}

std::string folded(std::string_view text) {
  std::string out;
  bool space = false;
  for (std::size_t at = 0; at < text.size();) {
    const Character character = character_at(text, at);
    at += character.length;
    const char32_t code = fold(character.code);
    if (code == ' ') {
      space = !out.empty();
      continue;
    }
    if (space) out += ' ';
    space = false;
    if (code < 0x80) {
      out += static_cast<char>(code);
    } else if (code < 0x800) {
      out += {static_cast<char>(0xC0 | (code >> 6)), static_cast<char>(0x80 | (code & 0x3F))};
    } else if (code < 0x10000) {
      out += {static_cast<char>(0xE0 | (code >> 12)), static_cast<char>(0x80 | ((code >> 6) & 0x3F)),
              static_cast<char>(0x80 | (code & 0x3F))};
    } else {
      out += {static_cast<char>(0xF0 | (code >> 18)), static_cast<char>(0x80 | ((code >> 12) & 0x3F)),
              static_cast<char>(0x80 | ((code >> 6) & 0x3F)), static_cast<char>(0x80 | (code & 0x3F))};
    }
  }
  return out;
}

std::size_t incomplete_tail(std::string_view text) {
  for (std::size_t length = 1; length <= std::min<std::size_t>(3, text.size()); ++length) {
    const auto first = static_cast<unsigned char>(text[text.size() - length]);
    if ((first & 0xC0) == 0x80) continue;  // a later byte of a character
    if (announced_length(first) <= length) return 0;
    if (length == 1) return 1;
    // Only the second byte's range depends on the first: any bytes of the right kind may complete the rest.
    std::string completed(text.substr(text.size() - length));
    completed.resize(announced_length(first), '\x80');
    return valid_utf8(completed) ? length : 0;
  }
  return 0;
}

bool valid_utf8_so_far(std::string_view text) {
  return valid_utf8(text.substr(0, text.size() - incomplete_tail(text)));
}

Index count_words(std::string_view text) {
  Index words = 0;
  bool counted = false;  // the run at hand
  for (std::size_t at = 0; at < text.size();) {
    const Character character = character_at(text, at);
    at += character.length;
    if (is_space(character.code)) {
      counted = false;
    } else if (!counted && is_visible_content(character.code)) {
      counted = true;
      ++words;
    }
  }
  return words;
}

}  // namespace unfurl::train
