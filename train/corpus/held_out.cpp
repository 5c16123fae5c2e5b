#include "train/corpus/held_out.h"

#include <algorithm>

#include "core/files.h"
#include "train/corpus/copy_pairs.h"
#include "train/corpus/grammar.h"
#include "train/corpus/segments.h"
#include "train/corpus/words.h"

namespace unfurl::train {
namespace {

constexpr std::string_view kContentFiles[] = {"subjects", "adjectives", "materials", "actions",
                                              "places",   "details",    "abstract",  "grounded"};
constexpr std::string_view kFixedFiles[] = {"flavors", "general"};

}  // namespace

HeldOutWords::HeldOutWords(double share, std::uint64_t seed) {
  std::unordered_set<std::string> fixed, seen;
  const auto fix = [&](std::string_view text) {
    for (std::string& word : content_words(text)) fixed.insert(std::move(word));
  };
  for (const std::string_view file : kFixedFiles) {
    for (const WordSection& section : word_file(file)) {
      for (const std::string_view entry : section.entries) fix(entry);
    }
  }
  fix(copy_form_text());
  for (const std::string_view phrase : kGrammarPhrases) fix(phrase);

  for (const std::string_view file : kContentFiles) {
    for (const WordSection& section : word_file(file)) {
      for (const std::string_view entry : section.entries) {
        for (std::string& word : content_words(entry)) {
          if (fixed.contains(word) || !seen.insert(word).second) continue;
          ++of_;
          if (static_cast<double>(hash_bytes(word, seed) >> 11) * 0x1p-53 < share) words_.insert(std::move(word));
        }
      }
    }
  }
  for (const std::string_view file : kContentFiles) {
    for (const WordSection& section : word_file(file)) {
      const auto& entries = section.entries;
      if (std::any_of(entries.begin(), entries.end(), [&](std::string_view entry) { return !in(entry); })) continue;
      for (const std::string& word : content_words(entries.front())) words_.erase(word);
    }
  }
}

bool HeldOutWords::in(std::string_view text) const {
  if (words_.empty()) return false;
  const auto found = content_words(text);
  return std::any_of(found.begin(), found.end(), [&](const std::string& word) { return words_.contains(word); });
}

}  // namespace unfurl::train
