// What words a simulated world knows, and how it reads a text: as concepts with weights.
#pragma once
#include <cstdint>
#include <string>
#include <string_view>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "train/atelier/world.h"

namespace unfurl::train::atelier {

/// A thing that a text says.
struct Concept {
  enum class Kind : std::uint8_t {
    word,     // a known word that stands for itself
    bound,    // an adjective and the noun that it belongs to
    idea,     // an abstract phrase that stands for scenes
    flavor,   // a known flavor
    unknown,  // a string that means nothing to the world
  };
  Kind kind = Kind::word;
  std::string text;  // in lower case; of bound: the adjective
  std::string noun;  // of bound
  double weight = 0;

  std::uint64_t id() const;
};

class Lexicon {
 public:
  /// The words and flavors of the project's own lists, and those of the world's files.
  explicit Lexicon(const WorldConfig& config);

  /// The concepts of a text, each once, in the order of their first mention. A word weighs exp(-t / salience_tokens)
  /// for t tokens in front of it; its n-th mention adds repeat^(n-1) of the first. Nothing is read beyond the limit of
  /// tokens: begin, end and a comma are one each, a known word is one, another one for every four letters begun. An
  /// adjective belongs to the next noun of its segment; a segment that is a flavor, or starts with one as in "oil
  /// painting of a fox", is that.
  std::vector<Concept> read(std::string_view text) const;

  /// The phrase as flavors are named: words in lower case, without punctuation at their ends.
  static std::string plain(std::string_view phrase);
  /// All flavors, sorted.
  const std::vector<std::string>& flavors() const { return flavors_; }
  bool is_flavor(std::string_view phrase) const;
  bool knows(std::string_view word) const;
  /// The scenes that an idea stands for; empty for any other phrase.
  std::vector<std::string> scenes(const std::string& idea) const;
  /// The kind of thing that a noun is: "animals"; "" where it is none.
  std::string kind_of(const std::string& noun) const;

 private:
  struct Reader;
  std::string known_form(std::string word) const;
  std::unordered_set<std::string> words_, adjectives_, flavor_set_, neutral_;
  std::unordered_map<std::string, std::string> leads_;  // "oil painting of" -> "oil painting"
  std::unordered_map<std::string, std::vector<std::string>> ideas_;
  std::unordered_map<std::string, std::string> kinds_;  // of the nouns of queries like "an animal"
  std::vector<std::string> flavors_;
  WorldConfig::Text text_;
};

}  // namespace unfurl::train::atelier
