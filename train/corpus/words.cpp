#include "train/corpus/words.h"

#include <map>
#include <string>
#include <unordered_map>

#include "core/error.h"
#include "train/corpus/text.h"

namespace unfurl::train {
namespace {

std::vector<WordSection> parse(std::string_view text) {
  std::vector<WordSection> sections;
  while (!text.empty()) {
    const std::size_t end = std::min(text.find('\n'), text.size());
    const std::string_view line = trim(text.substr(0, end));
    text.remove_prefix(std::min(end + 1, text.size()));
    if (line.empty() || line[0] == '#') continue;
    if (line[0] == '[') {
      sections.push_back({line.substr(1, line.size() - 2), {}});
      continue;
    }
    if (sections.empty()) sections.push_back({});
    sections.back().entries.push_back(line);
  }
  return sections;
}

}  // namespace

const std::vector<WordSection>& word_file(std::string_view file) {
  static const std::map<std::string_view, std::vector<WordSection>> files = [] {
    std::map<std::string_view, std::vector<WordSection>> parsed;
    for (const detail::EmbeddedFile* at = detail::kWordFiles; !at->name.empty(); ++at)
      parsed[at->name] = parse(at->text);
    return parsed;
  }();
  const auto found = files.find(file);
  require(found != files.end(), "word_file: no word list \"{}\" was built in", file);
  return found->second;
}

const std::vector<std::string_view>& words(std::string_view file, std::string_view section) {
  for (const WordSection& candidate : word_file(file)) {
    if (candidate.name == section) return candidate.entries;
  }
  fail("words: the word list \"{}\" has no section \"{}\"", file, section);
}

std::string_view class_of_noun(std::string_view noun) {
  static const std::unordered_map<std::string, std::string_view> classes = [] {
    std::unordered_map<std::string, std::string_view> made;
    for (const WordSection& section : word_file("subjects")) {
      for (const std::string_view entry : section.entries) {
        made.emplace(std::string(split_words(entry).back()), section.name);  // the first class that lists it
      }
    }
    return made;
  }();
  std::string key = lower(noun);
  auto found = classes.find(key);
  if (found == classes.end() && key.size() > 3 && key.back() == 's') {
    key.pop_back();
    found = classes.find(key);
  }
  return found == classes.end() ? std::string_view() : found->second;
}

}  // namespace unfurl::train
