#include "train/generate/repeats.h"

#include <unordered_set>

#include "train/corpus/segments.h"
#include "train/corpus/text.h"
#include "train/generate/characters.h"

namespace unfurl::train {
namespace {

bool is_digit(char c) { return c >= '0' && c <= '9'; }

}  // namespace

std::string without_repeats(std::string_view before, std::string_view text) {
  std::unordered_set<std::string> seen;
  const auto own = split_segments(before);
  for (const std::string_view segment : own) seen.insert(folded(segment));
  const bool begun = !own.empty() && !trim(before).ends_with(',');  // the text's first part belongs to the last of them

  std::string out;
  bool comma = false;  // what is kept next needs one before it
  std::size_t begin = 0;
  for (std::size_t i = 0; i <= text.size(); ++i) {
    if (i < text.size()) {
      if (text[i] != ',') continue;
      const char left = i > 0 ? text[i - 1] : before.empty() ? ' ' : before.back();
      if (is_digit(left) && i + 1 < text.size() && is_digit(text[i + 1])) continue;
    }
    const std::string_view part = text.substr(begin, i - begin);
    bool keep = begin == 0 && begun;
    if (keep) {
      seen.insert(folded(std::string(own.back()) + std::string(part)));
    } else {
      const std::string key = folded(part);
      keep = !key.empty() && seen.insert(key).second;
    }
    if (keep) {
      if (comma) out += ',';
      out += part;
      comma = true;
    }
    begin = i + 1;
  }
  return out;
}

}  // namespace unfurl::train
