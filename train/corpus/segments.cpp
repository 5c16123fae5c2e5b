#include "train/corpus/segments.h"

#include <fmt/format.h>

#include <algorithm>
#include <iterator>
#include <unordered_set>

#include "core/files.h"
#include "train/corpus/text.h"
#include "train/corpus/words.h"

namespace unfurl::train {
namespace {

template <std::size_t N>
bool listed(const std::string_view (&sorted)[N], std::string_view word) {
  return std::binary_search(std::begin(sorted), std::end(sorted), word);
}

// All lists are sorted: listed() searches by halves.
constexpr std::string_view kStopWords[] = {
    "a",      "about",   "above",  "across",  "after",  "against", "along", "among",   "an",      "and",     "are",
    "around", "as",      "at",     "be",      "before", "behind",  "below", "beneath", "beside",  "between", "beyond",
    "but",    "by",      "down",   "during",  "for",    "from",    "has",   "have",    "he",      "her",     "his",
    "if",     "in",      "inside", "into",    "is",     "it",      "its",   "like",    "my",      "near",    "next",
    "no",     "not",     "of",     "off",     "on",     "onto",    "or",    "our",     "out",     "outside", "over",
    "she",    "so",      "some",   "that",    "the",    "their",   "them",  "there",   "these",   "they",    "this",
    "those",  "through", "to",     "towards", "under",  "up",      "upon",  "very",    "was",     "were",    "what",
    "when",   "where",   "which",  "while",   "who",    "whose",   "with",  "within",  "without", "you",     "your"};

// Where a noun phrase ends.
constexpr std::string_view kBreaks[] = {
    "above",   "across",     "after",  "against", "along",    "among",      "and",     "are",     "around", "as",
    "at",      "before",     "behind", "below",   "beneath",  "beside",     "between", "beyond",  "but",    "by",
    "covered", "dressed",    "during", "for",     "from",     "has",        "having",  "holding", "in",     "inside",
    "into",    "is",         "like",   "made",    "near",     "of",         "off",     "on",      "onto",   "or",
    "outside", "over",       "shaped", "sitting", "standing", "surrounded", "that",    "through", "to",     "towards",
    "under",   "underneath", "up",     "upon",    "was",      "wearing",    "were",    "when",    "where",  "which",
    "while",   "who",        "whose",  "with",    "within",   "without"};

constexpr std::string_view kPlaces[] = {"above",   "across", "among",   "at",    "behind",     "below",
                                        "beneath", "beside", "between", "in",    "inside",     "near",
                                        "on",      "over",   "through", "under", "underneath", "within"};

// "a photo of", "close up portrait of", ...: what may stand before the "of" that leads in to the subject.
constexpr std::string_view kMedia[] = {
    "art",       "artwork", "close-up", "closeup",  "cover",      "depiction",    "design",     "drawing",
    "engraving", "etching", "footage",  "frame",    "headshot",   "illustration", "image",      "logo",
    "mosaic",    "mural",   "painting", "photo",    "photograph", "photography",  "picture",    "polaroid",
    "portrait",  "poster",  "print",    "render",   "rendering",  "scene",        "screenshot", "sculpture",
    "selfie",    "shot",    "sketch",   "snapshot", "statue",     "sticker",      "still",      "style",
    "tapestry",  "up",      "version",  "view",     "wallpaper",  "watercolor"};

// Words that make a later segment a flavor wherever it is found.
constexpr std::string_view kFlavorWords[] = {"4k",
                                             "8k",
                                             "acrylic",
                                             "aesthetic",
                                             "anime",
                                             "art",
                                             "artgerm",
                                             "artstation",
                                             "artwork",
                                             "award",
                                             "behance",
                                             "bokeh",
                                             "canon",
                                             "cartoon",
                                             "cgi",
                                             "cgsociety",
                                             "cinematic",
                                             "composition",
                                             "concept",
                                             "detail",
                                             "detailed",
                                             "details",
                                             "deviantart",
                                             "drawing",
                                             "engine",
                                             "exposure",
                                             "film",
                                             "focus",
                                             "fstop",
                                             "gouache",
                                             "hd",
                                             "hdr",
                                             "hyperdetailed",
                                             "hyperrealism",
                                             "hyperrealistic",
                                             "illumination",
                                             "illustration",
                                             "impressionism",
                                             "intricate",
                                             "iso",
                                             "kodak",
                                             "lens",
                                             "lighting",
                                             "masterpiece",
                                             "matte",
                                             "minimalist",
                                             "nikon",
                                             "octane",
                                             "painted",
                                             "painterly",
                                             "painting",
                                             "photo",
                                             "photograph",
                                             "photography",
                                             "photorealism",
                                             "photorealistic",
                                             "pixar",
                                             "pixiv",
                                             "portra",
                                             "quality",
                                             "rays",
                                             "realism",
                                             "realistic",
                                             "redshift",
                                             "render",
                                             "rendered",
                                             "rendering",
                                             "resolution",
                                             "rutkowski",
                                             "shading",
                                             "sharp",
                                             "sketch",
                                             "style",
                                             "stylized",
                                             "surrealism",
                                             "symmetrical",
                                             "texture",
                                             "tracing",
                                             "trending",
                                             "uhd",
                                             "unreal",
                                             "vfx",
                                             "vignette",
                                             "volumetric",
                                             "watercolor",
                                             "winning",
                                             "zbrush"};

static_assert(std::ranges::is_sorted(kStopWords) && std::ranges::is_sorted(kBreaks) &&
              std::ranges::is_sorted(kPlaces) && std::ranges::is_sorted(kMedia) &&
              std::ranges::is_sorted(kFlavorWords));

constexpr std::uint32_t kFlavorPrompts = 3, kNounPrompts = 2;

bool digit(char c) { return c >= '0' && c <= '9'; }

bool is_determiner(std::string_view word) {
  return word == "a" || word == "an" || word == "the" || word == "some" || word == "this" || word == "that" ||
         word == "one";
}

/// A verb form that starts a clause behind the noun: "cat sleeping on a chair".
bool starts_clause(std::string_view word) {
  return listed(kBreaks, word) || (word.size() >= 6 && word.ends_with("ing") && word != "evening" && word != "morning");
}

}  // namespace

std::vector<std::string_view> split_segments(std::string_view prompt) {
  std::vector<std::string_view> segments;
  std::size_t start = 0;
  for (std::size_t i = 0; i <= prompt.size(); ++i) {
    if (i < prompt.size()) {
      if (prompt[i] != ',') continue;
      if (i > 0 && i + 1 < prompt.size() && digit(prompt[i - 1]) && digit(prompt[i + 1])) continue;
    }
    const std::string_view segment = trim(prompt.substr(start, i - start));
    if (!segment.empty()) segments.push_back(segment);
    start = i + 1;
  }
  return segments;
}

bool is_stop_word(std::string_view word) { return listed(kStopWords, word); }

bool names_flavor(std::string_view segment) {
  const std::string text = lower(segment);
  if (text.starts_with("by ") || text.starts_with("in the style")) return true;
  const auto words = split_words(text);
  return std::any_of(words.begin(), words.end(),
                     [](std::string_view word) { return listed(kFlavorWords, bare(word)); });
}

bool opens_clause(std::string_view segment) {
  const auto words = split_words(segment);
  if (words.empty()) return false;
  const std::string first = lower(bare(words[0]));
  constexpr std::string_view kOpeners[] = {"are", "has", "have", "he",    "her",  "his", "is",  "it",
                                           "its", "she", "the",  "their", "they", "was", "were"};
  static_assert(std::ranges::is_sorted(kOpeners));
  // "glowing eyes" is a whole, "looking at the moon" is not.
  return listed(kBreaks, first) || (words.size() > 1 && listed(kOpeners, first)) ||
         (words.size() > 1 && first.ends_with("ing") && !names_flavor(segment) && is_stop_word(lower(words[1])));
}

std::vector<std::string> content_words(std::string_view text) {
  std::vector<std::string> words;
  std::unordered_set<std::string> seen;
  for (const std::string_view raw : split_words(text)) {
    std::string word = lower(bare(raw));
    if (word.empty() || is_stop_word(word)) continue;
    if (seen.insert(word).second) words.push_back(std::move(word));
  }
  return words;
}

std::size_t count_said(const std::vector<std::string>& content, std::string_view text) {
  const std::vector<std::string> words = plain_words(text);
  const std::unordered_set<std::string> have(words.begin(), words.end());
  return static_cast<std::size_t>(std::count_if(content.begin(), content.end(), [&](const std::string& word) {
    return std::ranges::all_of(plain_words(word), [&](const std::string& part) { return have.contains(part); });
  }));
}

void PromptStatistics::add(std::string_view prompt) {
  const auto segments = split_segments(prompt);
  std::vector<std::uint64_t> seen;
  for (std::size_t i = 1; i < segments.size(); ++i) seen.push_back(hash_bytes(lower(segments[i])));
  std::sort(seen.begin(), seen.end());
  seen.erase(std::unique(seen.begin(), seen.end()), seen.end());
  for (const std::uint64_t hash : seen) ++segments_[hash];
  if (segments.empty()) return;
  const auto phrase = noun_phrase(segments[0]);
  if (phrase.empty()) return;
  const auto before = static_cast<std::size_t>(phrase.front().data() - segments[0].data());
  const auto words = split_words(segments[0].substr(0, before));
  if (words.empty()) return;
  if (const std::string article = lower(words.back()); article == "a" || article == "an") {
    ++nouns_[hash_bytes(lower(phrase.back()))];
  }
}

bool PromptStatistics::is_common_noun(std::string_view word) const {
  if (!class_of_noun(word).empty()) return true;
  const auto found = nouns_.find(hash_bytes(lower(word)));
  return found != nouns_.end() && found->second >= kNounPrompts;
}

bool PromptStatistics::is_flavor(std::string_view segment) const {
  const std::string text = lower(segment);
  const auto found = segments_.find(hash_bytes(text));
  return (found != segments_.end() && found->second >= kFlavorPrompts) || names_flavor(text);
}

Parts split_prompt(std::string_view prompt, const PromptStatistics& statistics) {
  Parts parts;
  const auto segments = split_segments(prompt);
  if (segments.empty()) return parts;
  // A first segment counts as a leading flavor only where the segments say so throughout: one that is no flavor follows
  // before the last. "portrait of a girl, octane render, 8k" has none, so its content is the first segment.
  std::size_t subject = 0;
  const bool bare_flavor = statistics.is_flavor(segments[0]) && split_words(segments[0]).size() <= 3;
  if (bare_flavor) {
    while (subject < segments.size() && statistics.is_flavor(segments[subject])) ++subject;
    if (subject > 3 || subject == segments.size()) subject = 0;
  }
  std::size_t end = subject + 1;
  while (end < segments.size() && !statistics.is_flavor(segments[end])) ++end;
  parts.content.assign(segments.begin(), segments.begin() + static_cast<std::ptrdiff_t>(end));
  parts.flavors.assign(segments.begin() + static_cast<std::ptrdiff_t>(end), segments.end());
  parts.subject = segments[subject];
  parts.only_flavors = std::all_of(parts.flavors.begin(), parts.flavors.end(),
                                   [&](std::string_view segment) { return statistics.is_flavor(segment); });
  return parts;
}

std::vector<std::string_view> noun_phrase(std::string_view segment) {
  const auto words = split_words(segment);
  std::vector<std::string> plain;
  for (const std::string_view word : words) plain.push_back(lower(bare(word)));
  std::size_t start = 0;
  for (std::size_t i = 1; i < words.size() && i <= start + 8; ++i) {
    // "a close up photo of a fox": an "of" behind a medium leads in, and so does each further one.
    if (plain[i] == "of" && listed(kMedia, plain[i - 1])) start = i + 1;
  }
  while (start < words.size() && (is_determiner(plain[start]) || plain[start].empty())) ++start;
  std::vector<std::string_view> phrase;
  for (std::size_t i = start; i < words.size(); ++i) {
    if (plain[i].empty() || is_determiner(plain[i]) || (i > start && starts_clause(plain[i])) ||
        listed(kBreaks, plain[i]))
      break;
    phrase.push_back(bare(words[i]));
    if (bare(words[i]).data() + bare(words[i]).size() != words[i].data() + words[i].size()) break;  // "cat." ends it
  }
  return phrase;
}

std::string_view place_phrase(std::string_view segment) {
  const auto words = split_words(segment);
  for (std::size_t i = 1; i + 1 < words.size(); ++i) {
    if (!listed(kPlaces, lower(words[i]))) continue;
    const std::size_t noun = is_determiner(lower(words[i + 1])) ? i + 2 : i + 1;
    std::size_t end = i + 1;
    while (end < words.size() && end < i + 7 && (end <= noun || !starts_clause(lower(words[end])))) ++end;
    if (lower(bare(words[end - 1])) == "style") continue;
    const std::string_view last = bare(words[end - 1]);
    if (last.empty() || listed(kStopWords, lower(last))) continue;
    return {words[i].data(), static_cast<std::size_t>(last.data() + last.size() - words[i].data())};
  }
  return {};
}

std::string content_id(std::string_view content) {
  std::string key;
  for (const std::string& word : content_words(content)) key += word + ' ';
  if (key.empty()) key = lower(trim(content));
  return fmt::format("{:016x}", hash_bytes(key));
}

}  // namespace unfurl::train
