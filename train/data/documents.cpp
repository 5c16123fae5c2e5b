#include "train/data/documents.h"

#include <fmt/format.h>

#include <unordered_set>

#include "core/error.h"
#include "core/files.h"
#include "train/corpus/text.h"

namespace unfurl::train {
namespace {

std::vector<Pair> read_text(const std::filesystem::path& path, DocumentsIn documents, BadLineRule rule) {
  const MappedFile file(path);
  BadLines bad(path, "line of text", count_lines(file.text()), rule);
  std::vector<Pair> out;
  std::string paragraph;
  const auto add = [&](std::string_view text) {
    if (trim(text).empty()) return;
    Pair& pair = out.emplace_back();
    pair.prompt = trim(text);
    pair.id = fmt::format("{:016x}", hash_bytes(pair.prompt));
  };
  std::size_t number = 0;
  for (std::string_view left = file.text(); !left.empty();) {
    const std::size_t end = std::min(left.find('\n'), left.size());
    std::string_view line = left.substr(0, end);
    left.remove_prefix(std::min(end + 1, left.size()));
    ++number;
    if (line.ends_with('\r')) line.remove_suffix(1);
    if (const std::string_view fault = fault_of_text(line); !fault.empty()) {
      bad.note(number, fault);
      continue;
    }
    if (documents == DocumentsIn::lines) {
      add(line);
    } else if (trim(line).empty()) {
      add(std::exchange(paragraph, {}));
    } else {
      if (!paragraph.empty()) paragraph += ' ';
      paragraph += trim(line);
    }
  }
  add(paragraph);
  if (bad.too_many()) bad.refuse();
  bad.warn();
  return out;
}

}  // namespace

std::vector<Pair> read_documents(const std::filesystem::path& path, DocumentsIn documents, BadLineRule rule) {
  const bool pairs = path.extension() == ".jsonl";
  std::vector<Pair> all = pairs ? read_pairs(path, rule) : read_text(path, documents, rule), out;
  std::unordered_set<std::string> met;
  for (Pair& pair : all) {
    if (!met.insert(pair.prompt).second) continue;
    pair.query.clear();
    pair.prefix.clear();
    pair.type.clear();
    out.push_back(std::move(pair));
  }
  if (out.empty()) user_error("{}: there is no text in it", path.string());
  return out;
}

std::vector<std::string> cut_document(std::string_view text, const Tokenizer& tokenizer, Index most) {
  const auto whole = static_cast<Index>(tokenizer.encode(text).size());
  if (whole <= most) return {std::string(text)};
  // Pieces do not go across the beginning of a word, so the words' counts add up.
  std::vector<std::pair<std::string_view, Index>> words;
  for (std::string_view left = text; !left.empty();) {
    const std::size_t end = std::min(left.find(' '), left.size());
    if (end > 0)
      words.emplace_back(left.substr(0, end), static_cast<Index>(tokenizer.encode(left.substr(0, end)).size()));
    left.remove_prefix(std::min(end + 1, left.size()));
  }
  const Index parts = (whole + most - 1) / most, aim = (whole + parts - 1) / parts;
  std::vector<std::string> out;
  Index length = 0;
  for (const auto& [word, tokens] : words) {
    if (out.empty() || length >= aim || length + tokens > most) {
      out.emplace_back(word);
      length = tokens;
    } else {
      out.back() += ' ';
      out.back() += word;
      length += tokens;
    }
  }
  return out;
}

}  // namespace unfurl::train
