// A prompt's parts: comma-separated segments, of which the first ones say what is seen (content) and the later ones how
// (flavors).
#pragma once
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace unfurl::train {

/// The trimmed, non-empty segments between commas; a comma between digits ("1,000") does not split.
std::vector<std::string_view> split_segments(std::string_view prompt);

/// Articles, prepositions, pronouns and the like, in lower case.
bool is_stop_word(std::string_view word);

/// True where a word names a medium, a technique, an artist ("by ...") or a quality ("highly detailed").
bool names_flavor(std::string_view segment);

/// True where the segment goes on with what stood before it: "wearing a red coat", "in the rain", "her eyes closed".
bool opens_clause(std::string_view segment);

/// The words that carry content, in lower case, stripped of punctuation at both ends, without stop words; in order,
/// each once.
std::vector<std::string> content_words(std::string_view text);

/// How many of these content words the text has; "wide-eyed" where it has "wide" and "eyed".
std::size_t count_said(const std::vector<std::string>& content, std::string_view text);

/// What a collection of prompts says about its words: which segments are flavors (they stand behind the first in
/// several prompts) and which words name a thing (they follow an article).
class PromptStatistics {
 public:
  /// Counts the prompt's segments behind the first, each once, and the noun of the first.
  void add(std::string_view prompt);
  /// True where at least three prompts used the segment, or where its words name a medium, a technique, an artist ("by
  /// ...") or a quality ("highly detailed").
  bool is_flavor(std::string_view segment) const;
  /// True where the word lists know the noun or two prompts used it behind "a" or "an": "tower", but not "obama".
  bool is_common_noun(std::string_view word) const;

 private:
  std::unordered_map<std::uint64_t, std::uint32_t> segments_, nouns_;  // prompts, by hash of the text in lower case
};

struct Parts {
  std::vector<std::string_view> content;  // at least one segment where the prompt is not blank
  std::vector<std::string_view> flavors;  // the segments behind the content
  std::string_view subject;               // the content segment that is no flavor, else the first segment
  bool only_flavors = false;              // every segment of `flavors` is known as a flavor
};

/// Content is the first segment and those that follow up to the first known flavor. Where a prompt starts with flavors
/// ("pencil drawing, portrait of a girl, soft light"), they count as content up to the first segment that is none.
Parts split_prompt(std::string_view prompt, const PromptStatistics& statistics);

/// The content segment's core without what leads in ("a photo of a"): "young princess" for "a detailed portrait of a
/// young princess wearing a crown". Empty where nothing is left.
std::vector<std::string_view> noun_phrase(std::string_view segment);

/// The first phrase of place in the segment, from its preposition to the segment's end or the next clause: "in a dark
/// cavern"; empty where there is none.
std::string_view place_phrase(std::string_view segment);

/// 16 hex digits: hash of the text's words in lower case without punctuation and stop words.
std::string content_id(std::string_view content);

}  // namespace unfurl::train
