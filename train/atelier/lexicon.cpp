#include "train/atelier/lexicon.h"

#include <algorithm>
#include <cmath>

#include "core/files.h"
#include "train/corpus/segments.h"
#include "train/corpus/text.h"
#include "train/corpus/words.h"

namespace unfurl::train::atelier {
namespace {

constexpr std::size_t kLongestIdea = 6;  // words

// Adjectives that the word lists have only in front of certain nouns, or not at all.
constexpr std::string_view kColors[] = {"red",   "orange", "yellow", "green", "blue",   "purple",  "violet", "pink",
                                        "brown", "black",  "white",  "grey",  "gray",   "golden",  "silver", "teal",
                                        "small", "big",    "large",  "tall",  "little", "crimson", "dark",   "bright"};
// They say that there is a picture, and nothing about it.
constexpr std::string_view kNeutral[] = {"image", "picture", "scene",     "feeling",
                                         "made",  "photo",   "something", "someone"};

std::vector<std::string> lower_words(std::string_view text) {
  std::vector<std::string> out;
  for (const std::string_view word : split_words(text)) {
    std::string plain = lower(bare(word));
    if (!plain.empty()) out.push_back(std::move(plain));
  }
  return out;
}

std::string joined(const std::vector<std::string>& words, std::size_t from, std::size_t count) {
  std::string out;
  for (std::size_t i = from; i < from + count; ++i) {
    if (i > from) out += ' ';
    out += words[i];
  }
  return out;
}

std::vector<std::string_view> parts(std::string_view text, char mark) {
  std::vector<std::string_view> out;
  for (std::size_t start = 0; start <= text.size();) {
    const std::size_t end = std::min(text.find(mark, start), text.size());
    out.push_back(trim(text.substr(start, end - start)));
    start = end + 1;
  }
  return out;
}

std::vector<std::string> lines_of(const std::string& file) {
  const std::string text = read_file(file);
  std::vector<std::string> out;
  for (const std::string_view line : parts(text, '\n')) {
    if (!line.empty()) out.emplace_back(line);
  }
  return out;
}

}  // namespace

std::uint64_t Concept::id() const {
  return hash_bytes(std::string(1, static_cast<char>('0' + static_cast<int>(kind))) + text + '\n' + noun);
}

Lexicon::Lexicon(const WorldConfig& config) : text_(config.text) {
  const auto learn = [&](std::string_view phrase) {
    for (std::string& word : lower_words(phrase)) words_.insert(std::move(word));
  };
  for (const std::string_view word : kNeutral) neutral_.emplace(word);
  for (const std::string_view word : kColors) adjectives_.emplace(word);
  for (const std::string_view file :
       {"subjects", "adjectives", "materials", "actions", "places", "details", "abstract", "grounded", "general"}) {
    for (const WordSection& section : word_file(file)) {
      for (const std::string_view entry : section.entries) learn(entry);
    }
  }
  for (const char* const file : {"adjectives", "materials"}) {
    for (const WordSection& section : word_file(file)) {
      for (const std::string_view entry : section.entries) {
        for (std::string& word : lower_words(entry)) adjectives_.insert(std::move(word));
      }
    }
  }
  for (const WordSection& section : word_file("subjects")) {
    for (const std::string_view entry : section.entries) adjectives_.erase(lower_words(entry).back());
  }
  for (const WordSection& section : word_file("general")) {
    for (const std::string_view entry : section.entries) kinds_.emplace(lower_words(entry).back(), section.name);
  }
  for (const WordSection& section : word_file("abstract")) {
    for (const std::string_view entry : section.entries) {
      const auto sides = parts(entry, ':');
      std::vector<std::string> scenes;
      for (const std::string_view scene : parts(sides.back(), '|')) scenes.emplace_back(scene);
      for (const std::string_view name : parts(sides.front(), '|')) ideas_.emplace(plain(name), scenes);
    }
  }
  for (const WordSection& section : word_file("flavors")) {
    for (const std::string_view entry : section.entries) {
      std::string flavor = plain(entry);
      learn(flavor);
      if (section.name.starts_with("lead ") && flavor.ends_with(" of")) {
        std::string name = flavor.substr(0, flavor.size() - 3);
        flavor_set_.insert(name);
        leads_.emplace(std::move(flavor), std::move(name));
      } else {
        flavor_set_.insert(std::move(flavor));
      }
    }
  }
  for (const std::string& file : config.words) {
    for (const std::string& line : lines_of(file)) learn(line);
  }
  for (const std::string& file : config.flavors) {
    for (const std::string& line : lines_of(file)) {
      learn(line);
      if (std::string flavor = plain(line); !flavor.empty()) flavor_set_.insert(std::move(flavor));
    }
  }
  words_.insert(adjectives_.begin(), adjectives_.end());
  flavors_.assign(flavor_set_.begin(), flavor_set_.end());
  std::sort(flavors_.begin(), flavors_.end());
}

std::string Lexicon::plain(std::string_view phrase) {
  const std::vector<std::string> words = lower_words(phrase);
  return joined(words, 0, words.size());
}

bool Lexicon::is_flavor(std::string_view phrase) const { return flavor_set_.contains(plain(phrase)); }

bool Lexicon::knows(std::string_view word) const { return !known_form(lower(bare(word))).empty(); }

std::vector<std::string> Lexicon::scenes(const std::string& idea) const {
  const auto found = ideas_.find(idea);
  return found == ideas_.end() ? std::vector<std::string>() : found->second;
}

std::string Lexicon::kind_of(const std::string& noun) const {
  const auto found = kinds_.find(noun);
  return found != kinds_.end() ? found->second : std::string(class_of_noun(noun));
}

/// The word itself, or without its plural's ending, where that is known; else "".
std::string Lexicon::known_form(std::string word) const {
  if (words_.contains(word) || neutral_.contains(word) || is_stop_word(word)) return word;
  for (const std::string_view ending : {"s", "es", "'s"}) {
    if (word.size() < ending.size() + 3 || !word.ends_with(ending)) continue;
    std::string stem = word.substr(0, word.size() - ending.size());
    if (words_.contains(stem)) return stem;
  }
  return {};
}

/// The state of read().
struct Lexicon::Reader {
  const Lexicon& lexicon;
  std::int64_t tokens = 1;  // the beginning
  std::vector<Concept> concepts = {};
  struct Said {
    std::size_t place;
    double first, last;  // weights
  };
  std::unordered_map<std::uint64_t, Said> said = {};

  std::int64_t cost(const std::string& word) const {
    return lexicon.known_form(word).empty() ? static_cast<std::int64_t>((word.size() + 3) / 4) : 1;
  }

  void say(Concept::Kind kind, std::string text, std::string noun, std::int64_t at) {
    Concept made{.kind = kind, .text = std::move(text), .noun = std::move(noun), .weight = 0};
    const std::uint64_t id = made.id();
    const auto found = said.find(id);
    if (found == said.end()) {
      made.weight = std::exp(-static_cast<double>(at - 1) / lexicon.text_.salience_tokens);
      said.emplace(id, Said{concepts.size(), made.weight, made.weight});
      concepts.push_back(std::move(made));
    } else {
      found->second.last *= lexicon.text_.repeat;
      concepts[found->second.place].weight += found->second.last;
    }
  }

  /// The words from `from` on, which are no flavor; places are theirs among the text's tokens.
  void content(const std::vector<std::string>& words, const std::vector<std::int64_t>& places, std::size_t from) {
    std::vector<std::pair<std::string, std::int64_t>> waiting;  // adjectives
    for (std::size_t i = from; i < words.size();) {
      std::size_t idea = std::min(words.size() - i, kLongestIdea);
      while (idea > 0 && !lexicon.ideas_.contains(joined(words, i, idea))) --idea;
      if (idea > 0) {
        say(Concept::Kind::idea, joined(words, i, idea), {}, places[i]);
        i += idea;
        continue;
      }
      const std::string word = lexicon.known_form(words[i]);
      const std::int64_t at = places[i];
      if (word.empty()) {
        say(Concept::Kind::unknown, words[i], {}, at);
      } else if (!is_stop_word(word) && !lexicon.neutral_.contains(word)) {
        if (lexicon.adjectives_.contains(word)) {
          waiting.emplace_back(word, at);
        } else {
          say(Concept::Kind::word, word, {}, at);
          for (auto& [adjective, place] : waiting) say(Concept::Kind::bound, adjective, word, place);
          waiting.clear();
        }
      }
      ++i;
    }
    for (auto& [adjective, place] : waiting) say(Concept::Kind::word, adjective, {}, place);
  }

  /// False where the text is cut.
  bool segment(std::string_view text) {
    std::vector<std::string> words = lower_words(text);
    std::vector<std::int64_t> places;
    bool whole = true;
    for (std::size_t i = 0; i < words.size() && whole; ++i) {
      const std::int64_t wide = cost(words[i]);
      whole = tokens + wide + 1 <= lexicon.text_.tokens;  // its end is one
      if (!whole) {
        words.resize(i);
        break;
      }
      places.push_back(tokens);
      tokens += wide;
    }
    if (words.empty()) return whole;
    if (std::string all = joined(words, 0, words.size()); lexicon.flavor_set_.contains(all)) {
      say(Concept::Kind::flavor, std::move(all), {}, places[0]);
      return whole;
    }
    std::size_t lead = std::min(words.size() - 1, kLongestIdea);
    while (lead > 0 && !lexicon.leads_.contains(joined(words, 0, lead))) --lead;
    if (lead > 0) say(Concept::Kind::flavor, lexicon.leads_.at(joined(words, 0, lead)), {}, places[0]);
    content(words, places, lead);
    return whole;
  }
};

std::vector<Concept> Lexicon::read(std::string_view text) const {
  Reader reader{.lexicon = *this};
  for (const std::string_view part : split_segments(text)) {
    if (!reader.segment(part)) break;
    ++reader.tokens;  // the comma
    if (reader.tokens + 1 >= text_.tokens) break;
  }
  return std::move(reader.concepts);
}

}  // namespace unfurl::train::atelier
