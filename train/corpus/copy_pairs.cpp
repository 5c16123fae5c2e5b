#include "train/corpus/copy_pairs.h"

#include <algorithm>
#include <utility>

#include "train/corpus/segments.h"
#include "train/corpus/text.h"

namespace unfurl::train {
namespace {

constexpr std::string_view kOnsets[] = {"b",  "br", "c",  "ch", "cl", "d", "dr", "f",  "fl", "g", "gr", "h",
                                        "j",  "k",  "kr", "l",  "m",  "n", "p",  "pl", "qu", "r", "s",  "sh",
                                        "sk", "st", "t",  "th", "tr", "v", "w",  "x",  "y",  "z", "zh", ""};
constexpr std::string_view kVowels[] = {"a", "e",  "i",  "o",  "u",  "a",  "e",  "i",
                                        "o", "ai", "ea", "ee", "io", "oo", "ou", "y"};
constexpr std::string_view kCodas[] = {"",  "",  "",   "",   "l",  "n",  "r", "s",  "t",
                                       "m", "k", "nd", "rk", "sh", "th", "x", "lm", "ng"};

// "W" is a word. Queries of people are mostly noun phrases; a third of these have no small words at all.
constexpr std::string_view kForms[] = {
    "W",
    "W W",
    "W W",
    "W W W",
    "W W W",
    "W W W W",
    "W W W W W",
    "W W W W W W W",
    "a W",
    "a W W",
    "the W of W",
    "a W W in a W",
    "W with W W",
    "a W and a W",
    "W W on the W",
    "the W W of the W W",
    "a W W with a W W",
    "W W at W",
    "portrait of a W W",
    "a W made of W",
    "W W under a W W",
    "two W by a W",
};

std::string capitalised(std::string word, Draw& draw) {
  const auto upper = [](char c) { return c >= 'a' && c <= 'z' ? static_cast<char>(c - 'a' + 'A') : c; };
  const double kind = draw.bits() * 0x1p-32;
  if (kind < 0.10) {
    word[0] = upper(word[0]);
  } else if (kind < 0.14) {
    std::transform(word.begin(), word.end(), word.begin(), upper);
  } else if (kind < 0.16) {
    for (std::size_t i = 1; i < word.size(); i += 2) word[i] = upper(word[i]);
  }
  return word;
}

std::string digits(Draw& draw) {
  std::string number = std::to_string(draw.chance(0.5) ? draw.between(1400, 2099) : draw.below(1000));
  if (draw.chance(0.25)) number += static_cast<char>('a' + draw.below(26));
  if (draw.chance(0.15)) number.insert(number.begin(), static_cast<char>('A' + draw.below(26)));
  return number;
}

}  // namespace

std::string copy_form_text() {
  std::string text;
  for (const std::string_view form : kForms) text += std::string(form) + ' ';
  std::replace(text.begin(), text.end(), 'W', ' ');
  return text;
}

std::string nonsense_word(Draw& draw) {
  std::string word;
  const std::size_t syllables = draw.chance(0.2) ? 4 : draw.between(2, 3);
  for (std::size_t i = 0; i < syllables; ++i) {
    word += draw.pick(kOnsets);
    word += draw.pick(kVowels);
    if (i + 1 == syllables || draw.chance(0.15)) word += draw.pick(kCodas);
  }
  return word;
}

void CopyVocabulary::add(std::string_view text) {
  for (std::string& word : content_words(text)) {
    if (word.find(',') != std::string::npos || word.size() > 24) continue;
    if (std::none_of(word.begin(), word.end(), [](char c) { return c >= 'a' && c <= 'z'; })) continue;
    if (known_.insert(word).second) words_.push_back(std::move(word));
  }
}

std::string CopyVocabulary::word(Draw& draw) const {
  const double kind = draw.bits() * 0x1p-32;
  if (kind < 0.07) return digits(draw);
  if (kind < 0.30 || words_.empty()) {
    std::string made = nonsense_word(draw);
    while (forbidden_ && forbidden_(made)) made = nonsense_word(draw);
    return capitalised(std::move(made), draw);
  }
  return capitalised(draw.pick(words_), draw);
}

std::string CopyVocabulary::query(Draw& draw) const {
  std::string out;
  for (const char c : draw.pick(kForms)) {
    if (c == 'W') {
      out += word(draw);
    } else {
      out += c;
    }
  }
  return out;
}

Pair copy_pair(std::string query, std::vector<std::string> flavors, std::string id) {
  Pair pair;
  pair.prompt = query;
  for (const std::string& flavor : flavors) pair.prompt += ", " + flavor;
  pair.content = content_words(query);
  pair.query = std::move(query);
  pair.prefix = "FLV";
  pair.id = std::move(id);
  pair.type = "copy";
  pair.flavors = std::move(flavors);
  return pair;
}

}  // namespace unfurl::train
