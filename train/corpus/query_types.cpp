#include "train/corpus/query_types.h"

#include <algorithm>

#include "train/corpus/bad_lines.h"
#include "train/corpus/segments.h"
#include "train/corpus/text.h"

namespace unfurl::train {
namespace {

constexpr std::size_t kMostBytes = 400;

template <std::size_t N>
bool starts_with_any(std::string_view text, const std::string_view (&openings)[N]) {
  return std::ranges::any_of(openings, [&](std::string_view opening) { return text.starts_with(opening); });
}

constexpr std::string_view kRefusals[] = {"i'm sorry", "i am sorry",    "sorry,",      "i cannot",
                                          "i can't",   "i can not",     "i am unable", "i'm unable",
                                          "as an ai",  "unfortunately", "i won't"};
constexpr std::string_view kChatter[] = {"sure",       "certainly", "of course", "here is",     "here's", "here are",
                                         "okay",       "ok,",       "the query", "this prompt", "great",  "let me",
                                         "the prompt", "let's",     "note:",     "absolutely"};

std::string_view without_quotes(std::string_view text) {
  constexpr std::string_view kPairs[][2] = {
      {"\"", "\""}, {"'", "'"}, {"`", "`"}, {"**", "**"}, {"\xE2\x80\x9C", "\xE2\x80\x9D"}};
  for (const auto& [open, close] : kPairs) {
    if (text.size() > open.size() + close.size() && text.starts_with(open) && text.ends_with(close)) {
      return trim(text.substr(open.size(), text.size() - open.size() - close.size()));
    }
  }
  return text;
}

/// True where a word of the query, or what it begins with, is a word of the prompt.
bool related(std::string_view query, std::string_view prompt) {
  constexpr std::size_t kStem = 4;
  const std::vector<std::string> theirs = plain_words(prompt);
  return std::ranges::any_of(plain_words(query), [&](const std::string& word) {
    if (is_stop_word(word)) return false;
    return std::ranges::any_of(theirs, [&](const std::string& other) {
      const std::size_t common = std::min({word.size(), other.size(), kStem});
      return word == other || (common == kStem && word.substr(0, kStem) == other.substr(0, kStem));
    });
  });
}

std::string_view fault_of(const std::string& text, const QueryType& type, std::string_view prompt,
                          std::string_view previous) {
  const std::string plain = lower(text);
  if (plain_words(text).empty()) return "empty";
  if (is_refusal(text)) return "a refusal";
  const bool several = text.find('\n') != std::string::npos || text.find(". ") != std::string::npos;
  if (several || starts_with_any(plain, kChatter) || text.ends_with(':') || !fault_of_text(text).empty())
    return "prose";
  const std::size_t words = split_words(text).size(), before = split_words(previous).size();
  if (words > type.max_words || text.size() > kMostBytes) return "too long";
  if (words > before || (words == before && text.size() >= previous.size())) return "not shorter";
  if (type.says_content && !related(text, prompt)) return "unrelated";
  return "";
}

}  // namespace

std::string cleaned_answer(std::string_view answer) {
  std::string_view text = trim(answer);
  if (text.starts_with("<think>")) {
    const std::size_t end = text.find("</think>");
    text = end == std::string_view::npos ? std::string_view() : trim(text.substr(end + 8));
  }
  for (const std::string_view label : {"query:", "prompt:", "output:", "answer:"}) {
    if (lower(text.substr(0, label.size())) == label) text = trim(text.substr(label.size()));
  }
  text = without_quotes(text);
  if (text.ends_with('.') && !text.ends_with("..")) text.remove_suffix(1);
  return std::string(trim(text));
}

bool is_refusal(std::string_view answer) { return starts_with_any(lower(answer), kRefusals); }

const QueryType* find_query_type(std::string_view name) {
  const auto* const found = std::ranges::find(kQueryTypes, name, &QueryType::name);
  return found == kQueryTypes.end() ? nullptr : found;
}

CheckedQuery check_query(std::string_view answer, const QueryType& type, std::string_view prompt,
                         std::string_view previous) {
  CheckedQuery checked{cleaned_answer(answer), ""};
  checked.fault = fault_of(checked.text, type, prompt, previous);
  return checked;
}

}  // namespace unfurl::train
