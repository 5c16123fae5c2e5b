#include "train/generate/bans.h"

#include <algorithm>
#include <filesystem>
#include <set>

#include "core/files.h"
#include "core/lines.h"
#include "train/corpus/bad_lines.h"
#include "train/corpus/text.h"
#include "train/generate/characters.h"
#include "train/log.h"

namespace unfurl::train {
namespace {

struct Folded {
  char32_t code;
  std::size_t begin, end;  // bytes of the text
};

/// The text's folded characters, one for each run of spaces.
std::vector<Folded> fold_text(std::string_view text) {
  std::vector<Folded> out;
  for (std::size_t at = 0; at < text.size();) {
    const Character character = character_at(text, at);
    const char32_t code = fold(character.code);
    if (code == ' ' && !out.empty() && out.back().code == ' ') {
      out.back().end = at + character.length;
    } else {
      out.push_back({code, at, at + character.length});
    }
    at += character.length;
  }
  return out;
}

std::uint64_t edge(std::size_t node, char32_t code) { return std::uint64_t{node} << 32 | code; }

}  // namespace

Bans::Bans(std::vector<std::string> phrases) : nodes_(1) {
  for (std::string& phrase : phrases) {
    const std::string key = folded(phrase);
    if (key.empty()) continue;
    std::size_t node = 0;
    for (const Folded& character : fold_text(key)) {
      const auto [child, made] = next_.try_emplace(edge(node, character.code), nodes_.size());
      if (made) nodes_.push_back({});
      node = child->second;
    }
    if (nodes_[node].phrase) continue;
    nodes_[node].phrase = phrases_.size();
    phrases_.push_back(std::move(phrase));
  }
}

std::vector<std::string> Bans::read(const std::string& phrase_or_file) {
  std::error_code ignored;
  if (!std::filesystem::is_regular_file(phrase_or_file, ignored)) {
    const bool looks_like_file = phrase_or_file.ends_with(".txt") || phrase_or_file.find('/') != std::string::npos;
    if (looks_like_file) warn("--ban {}: there is no such file, so it is taken as a phrase", phrase_or_file);
    return {phrase_or_file};
  }
  const std::string text = read_file(phrase_or_file);
  std::vector<std::string> phrases;
  BadLines bad(phrase_or_file, "phrase", count_lines(text));
  for (const auto& [number, line] : Lines(text)) {
    const std::string_view phrase = trim(line);
    if (const std::string_view fault = fault_of_text(phrase); !fault.empty()) {
      bad.note(number, fault);
    } else if (!phrase.empty()) {
      phrases.emplace_back(phrase);
    }
  }
  if (bad.too_many()) bad.refuse();
  bad.warn();
  return phrases;
}

template <class Visit>
void Bans::matches(std::string_view text, bool complete, const Visit& visit) const {
  if (empty()) return;
  const std::vector<Folded> characters = fold_text(text);
  for (std::size_t i = 0; i < characters.size(); ++i) {
    if (i > 0 && is_word_character(characters[i].code) && is_word_character(characters[i - 1].code)) continue;
    std::size_t node = 0;
    for (std::size_t k = i; k < characters.size(); ++k) {
      const auto child = next_.find(edge(node, characters[k].code));
      if (child == next_.end()) break;
      node = child->second;
      if (!nodes_[node].phrase) continue;
      const bool last = k + 1 == characters.size();
      const bool goes_on = last ? !complete : is_word_character(characters[k + 1].code);
      if (is_word_character(characters[k].code) && goes_on) continue;
      visit(Match{characters[i].begin, characters[k].end, *nodes_[node].phrase});
    }
  }
}

std::optional<Bans::Match> Bans::find(std::string_view text, std::size_t from, bool complete) const {
  std::optional<Match> first;
  matches(text, complete, [&](const Match& match) {
    if (match.end > from && (!first || match.end < first->end)) first = match;
  });
  return first;
}

std::vector<std::string> Bans::found_in(std::string_view text) const {
  std::set<std::size_t> found;
  matches(text, true, [&](const Match& match) { found.insert(match.phrase); });
  std::vector<std::string> names;
  for (const std::size_t phrase : found) names.push_back(phrases_[phrase]);
  return names;
}

Bans Bans::without(const std::vector<std::string>& phrases) const {
  std::vector<std::string> rest;
  for (const std::string& phrase : phrases_) {
    if (std::find(phrases.begin(), phrases.end(), phrase) == phrases.end()) rest.push_back(phrase);
  }
  return Bans(std::move(rest));
}

}  // namespace unfurl::train
