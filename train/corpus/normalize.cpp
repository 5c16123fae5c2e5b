#include "train/corpus/normalize.h"

#include <vector>

#include "train/corpus/text.h"

namespace unfurl::train {
namespace {

bool digit(char c) { return c >= '0' && c <= '9'; }
bool letter(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || static_cast<unsigned char>(c) >= 0x80;
}

bool all_digits(std::string_view word) {
  for (const char c : word) {
    if (!digit(c)) return false;
  }
  return !word.empty();
}

bool is_one_of(std::string_view word, std::string_view letters) {
  return word.size() == 1 && letters.find(word[0]) != std::string_view::npos;
}

/// Wide commas become ", ", no-break spaces spaces.
std::string plain_separators(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  for (std::size_t i = 0; i < text.size();) {
    const auto starts = [&](std::string_view what) { return text.substr(i, what.size()) == what; };
    if (starts("\xEF\xBC\x8C")) {  // U+FF0C, fullwidth comma
      out += ", ";
      i += 3;
    } else if (starts("\xC2\xA0")) {  // U+00A0, no-break space
      out += ' ';
      i += 2;
    } else {
      out += text[i++];
    }
  }
  return out;
}

/// A word before which no space belongs: ")", ",", "!!", ".".
bool closes(std::string_view word) { return word.find_first_not_of(")]},.!?;:") == std::string_view::npos; }

/// "sci - fi", "19 - year", "h - 640", but not "5 - 6".
bool hyphenates(char before, char after) {
  return (letter(before) && (letter(after) || digit(after))) || (digit(before) && letter(after));
}

/// True where the space between two neighbouring words is an artefact. `joined` is what was built so far.
bool artefact(std::string_view joined, const std::vector<std::string_view>& words, std::size_t next) {
  const std::string_view before = words[next - 1], word = words[next];
  const bool more = next + 1 < words.size();
  if (before.size() == 1 && all_digits(before) && digit(word[0]) && (word.size() == 1 || !digit(word[1]))) return true;
  if (all_digits(before) && is_one_of(trim(word.substr(0, word.find_first_of(",.;:!?)"))), "kKdDsS")) return true;
  if (word == "-") return more && hyphenates(joined.back(), words[next + 1][0]);
  if (before == "-") return next >= 2 && joined.size() >= 2 && hyphenates(joined[joined.size() - 2], word[0]);
  if (word == "'") return more && letter(joined.back()) && words[next + 1].size() <= 2 && letter(words[next + 1][0]);
  if (before == "'")
    return joined.size() >= 2 && letter(joined[joined.size() - 2]) && word.size() <= 2 && letter(word[0]);
  if (is_one_of(before, "([{#")) return true;
  return closes(word);
}

/// "a ,b,, c" -> "a, b, c": one comma and one space between segments; "1,000" stays.
std::string plain_commas(std::string_view text) {
  std::string out;
  out.reserve(text.size() + 8);
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] != ',') {
      out += text[i];
      continue;
    }
    if (i > 0 && i + 1 < text.size() && digit(text[i - 1]) && digit(text[i + 1])) {
      out += ',';
      continue;
    }
    while (!out.empty() && (out.back() == ' ' || out.back() == ',')) out.pop_back();
    while (i + 1 < text.size() && (text[i + 1] == ' ' || text[i + 1] == ',')) ++i;
    if (!out.empty() && i + 1 < text.size()) out += ", ";
  }
  return out;
}

}  // namespace

std::string normalize_spacing(std::string_view text) {
  const std::string plain = plain_commas(plain_separators(text));
  const std::vector<std::string_view> words = split_words(plain);
  std::string out;
  out.reserve(plain.size());
  for (std::size_t i = 0; i < words.size(); ++i) {
    if (i > 0 && !artefact(out, words, i)) out += ' ';
    out += words[i];
  }
  return plain_commas(out);
}

}  // namespace unfurl::train
