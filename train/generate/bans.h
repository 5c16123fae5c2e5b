// Phrases that are never generated.
//
// A phrase is banned as a whole and at word boundaries: "art" bans "art", "Art," and "pixel-art", not "artist" or
// "smart". Letter case, typographic quotes and dashes, and how many spaces stand between words do not count
// (characters.h, fold). An edge of a phrase that is no letter or digit needs no boundary: "--ar" bans "cat--ar".
// Ideographs are words of their own.
#pragma once
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace unfurl::train {

class Bans {
 public:
  Bans() = default;
  /// Phrases of nothing but spaces are left out.
  explicit Bans(std::vector<std::string> phrases);

  /// One ban of the command line: a file with one phrase a line where `phrase_or_file` names one, else a phrase. Throws
  /// UserError where too many lines of the file are no text.
  static std::vector<std::string> read(const std::string& phrase_or_file);

  bool empty() const { return phrases_.empty(); }
  const std::vector<std::string>& phrases() const { return phrases_; }

  struct Match {
    std::size_t begin = 0, end = 0;  // bytes of the text
    std::size_t phrase = 0;          // number in phrases()
  };

  /// The banned phrase in `text` that ends first among those that end after byte `from`. Where the text is not
  /// `complete`, a phrase at its very end is not one yet if a longer word could come of it.
  std::optional<Match> find(std::string_view text, std::size_t from, bool complete) const;

  /// The banned phrases that the text contains, each once.
  std::vector<std::string> found_in(std::string_view text) const;

  /// The bans without those phrases.
  Bans without(const std::vector<std::string>& phrases) const;

 private:
  /// Calls visit(match) for every banned phrase in the text.
  template <class Visit>
  void matches(std::string_view text, bool complete, const Visit& visit) const;

  struct Node {
    std::optional<std::size_t> phrase;  // that ends here
  };
  std::vector<std::string> phrases_;
  std::vector<Node> nodes_;                              // a trie; node 0 is the root
  std::unordered_map<std::uint64_t, std::size_t> next_;  // (node << 32 | character) -> node
};

}  // namespace unfurl::train
