#include "train/corpus/mine_flavors.h"

#include <algorithm>
#include <unordered_set>
#include <utility>

#include "train/corpus/normalize.h"
#include "train/corpus/segments.h"
#include "train/corpus/text.h"
#include "train/corpus/words.h"

namespace unfurl::train {
namespace {

constexpr std::size_t kComposedWords = 3;

bool digit(char c) { return c >= '0' && c <= '9'; }

/// Pieces of a segment at the ends of sentences: ". ", "; ", " | "; "8.5" and "mr.fox" stay whole.
std::vector<std::string_view> sentences(std::string_view segment) {
  std::vector<std::string_view> pieces;
  std::size_t start = 0;
  for (std::size_t i = 0; i < segment.size(); ++i) {
    const bool mark = std::string_view(".;|!?").find(segment[i]) != std::string_view::npos;
    if (!mark || (i + 1 < segment.size() && segment[i + 1] != ' ')) continue;
    pieces.push_back(segment.substr(start, i - start));
    start = i + 1;
  }
  pieces.push_back(segment.substr(start));
  return pieces;
}

/// What stands before the artists' names: "art by", "a painting by", "in the style of".
std::string_view behind_credit(std::string_view form) {
  for (const std::string_view opening : {"in the style of ", "style of ", "inspired by ", "by "}) {
    if (form.starts_with(opening)) return form.substr(opening.size());
  }
  const std::size_t by = form.find(" by ");
  if (by == std::string_view::npos) return {};
  // "digital painting by ...", but not "a table by the window".
  const std::string_view before = form.substr(0, by), last = split_words(before).back();
  const bool credit = names_flavor(before) || last == "directed" || last == "designed" || last == "made" ||
                      last == "drawn" || last == "created" || last == "illustrated" || last == "inspired";
  return credit && split_words(before).size() <= 4 ? form.substr(by + 4) : std::string_view();
}

/// Without the word that ends a list: "a, b, and c", "a, b, with sharp focus".
std::string without_conjunction(std::string form) {
  for (const std::string_view word : {"and ", "with "}) {
    if (form.starts_with(word) && (word == "and " || names_flavor(form))) return form.substr(word.size());
  }
  return form;
}

std::vector<std::string> names_in(std::string_view text) {
  std::vector<std::string> names;
  std::string name;
  for (const std::string_view word : split_words(text)) {
    if (word == "and" || word == "&" || word == "by") {
      if (!name.empty()) names.push_back(std::exchange(name, {}));
    } else {
      name += (name.empty() ? "" : " ") + std::string(word);
    }
  }
  if (!name.empty()) names.push_back(name);
  return names;
}

/// True for the last words of the flavors that the grammar knows: "light", "palette", "hour".
bool ends_a_flavor(std::string_view word) {
  static const std::unordered_set<std::string_view> words = [] {
    std::unordered_set<std::string_view> made;
    for (const WordSection& section : word_file("flavors")) {
      for (const std::string_view entry : section.entries) made.insert(split_words(entry).back());
    }
    made.erase("of");  // of what leads in: "oil painting of"
    return made;
  }();
  return words.contains(word);
}

/// Why a segment is content and no flavor; "" where nothing says so.
const char* content_fault(const std::string& form, std::int64_t first, std::int64_t later) {
  if (first > later) return "content: stands first in most prompts";
  if (opens_clause(form)) return "content: goes on with a sentence";
  if (!names_flavor(form)) {
    const auto words = noun_phrase(form);  // "depth of field" is about a depth
    if (!words.empty() && !class_of_noun(words.back()).empty() && !ends_a_flavor(words.back()))
      return "content: names a thing";
  }
  return "";
}

}  // namespace

std::string flavor_form(std::string_view segment) {
  std::string text = lower(normalize_spacing(segment));
  for (;;) {
    const std::size_t before = text.size();
    text = std::string(bare(trim(text)));
    // A weight: "fog:1.2".
    const std::size_t colon = text.rfind(':');
    if (colon != std::string::npos && colon > 0 && colon + 1 < text.size() &&
        std::all_of(text.begin() + static_cast<std::ptrdiff_t>(colon) + 1, text.end(),
                    [](char c) { return digit(c) || c == '.'; })) {
      text.resize(colon);
    }
    if (text.size() == before) break;
  }
  return join(split_words(text));
}

PromptFlavors flavors_of_prompt(std::string_view prompt) {
  PromptFlavors made;
  const std::string plain = normalize_spacing(prompt);
  bool is_first = true;
  const auto add = [&](std::string form) {
    if (!form.empty() && std::ranges::find(made.later, form) == made.later.end()) made.later.push_back(std::move(form));
  };
  for (const std::string_view segment : split_segments(plain)) {
    for (const std::string_view piece : sentences(segment)) {
      std::string form = flavor_form(piece);
      if (form.empty()) continue;
      if (std::exchange(is_first, false)) {
        made.first = std::move(form);
        continue;
      }
      form = without_conjunction(std::move(form));
      const std::string_view artists = behind_credit(form);
      if (artists.empty()) {
        add(std::move(form));
      } else {
        for (const std::string& name : names_in(artists)) add(flavor_form(name));
      }
    }
  }
  return made;
}

void FlavorMiner::add(std::string_view prompt) {
  ++prompts_;
  const PromptFlavors flavors = flavors_of_prompt(prompt);
  if (!flavors.first.empty()) ++segments_[flavors.first].first;
  for (const std::string& form : flavors.later) ++segments_[form].later;
}

FlavorMiner::Result FlavorMiner::mine(const MiningRules& rules) const {
  Result result;
  std::map<std::string, std::int64_t> most;  // uses of the example
  const auto drop = [&](const char* why, const std::string& form, std::int64_t uses) {
    ++result.dropped[why];
    std::int64_t& best = most[why];
    std::string& example = result.an_example[why];
    if (uses > best || (uses == best && (example.empty() || form < example))) best = uses, example = form;
  };
  std::unordered_set<std::string_view> known;  // words of flavors that are not rare
  std::vector<std::pair<const std::string*, std::int64_t>> rare;
  for (const auto& [form, uses] : segments_) {
    if (uses.later == 0) continue;
    const auto words = split_words(form);
    if (static_cast<std::int64_t>(words.size()) > rules.max_words) {
      drop("longer than --max-words", form, uses.later);
    } else if (valid_utf8(form) && form.find_first_not_of("0123456789 .:-") == std::string::npos) {
      drop("no words", form, uses.later);
    } else if (const char* why = content_fault(form, uses.first, uses.later); *why != '\0') {
      drop(why, form, uses.later);
    } else if (uses.later < rules.min_count) {
      rare.emplace_back(&form, uses.later);
    } else {
      result.flavors.push_back({form, uses.later});
      known.insert(words.begin(), words.end());
    }
  }
  for (const auto& [form, uses] : rare) {
    const auto words = split_words(*form);
    const bool composed =
        rules.compose && words.size() <= kComposedWords &&
        std::ranges::all_of(words, [&](std::string_view word) { return known.contains(word) || is_stop_word(word); });
    if (composed) {
      result.flavors.push_back({*form, uses});
    } else {
      drop("rare", *form, uses);
    }
  }
  std::ranges::sort(result.flavors, [](const MinedFlavor& a, const MinedFlavor& b) {
    return a.prompts != b.prompts ? a.prompts > b.prompts : a.text < b.text;
  });
  return result;
}

double FlavorScore::precision() const {
  return mined == 0 ? 0 : static_cast<double>(found) / static_cast<double>(mined);
}

double FlavorScore::recall() const {
  return occurring == 0 ? 0 : static_cast<double>(found) / static_cast<double>(occurring);
}

}  // namespace unfurl::train
