#include "train/corpus/pair.h"

#include <algorithm>
#include <utility>

#include "core/error.h"
#include "train/corpus/prefix.h"
#include "train/corpus/text.h"

namespace unfurl::train {
namespace {

Json array_of(const std::vector<std::string>& texts) {
  Json array = Json::array();
  for (const std::string& text : texts) array.push_back(text);
  return array;
}

/// The member, or null where it is missing or JSON's null.
const Json* member(const Json& object, std::string_view name) {
  const Json* found = object.find(name);
  return found != nullptr && found->is_null() ? nullptr : found;
}

std::string text_of(const Json& value, std::string_view name) {
  if (!value.is_string()) fail("{} must be a string, got {}", name, value.kind());
  return value.as_string();
}

std::string required_text(const Json& object, std::string_view name) {
  const Json* found = object.find(name);
  if (found == nullptr) fail("{} is missing", name);
  std::string text = text_of(*found, name);
  if (trim(text).empty()) fail("{} is empty", name);
  return text;
}

std::string optional_text(const Json& object, std::string_view name) {
  const Json* found = member(object, name);
  return found == nullptr ? std::string() : text_of(*found, name);
}

std::vector<std::string> optional_texts(const Json& object, std::string_view name) {
  std::vector<std::string> texts;
  const Json* found = member(object, name);
  if (found == nullptr) return texts;
  if (!found->is_array()) fail("{} must be an array of strings, got {}", name, found->kind());
  for (const Json& element : found->as_array()) {
    if (!element.is_string()) fail("{} must be an array of strings, got {} in it", name, element.kind());
    texts.push_back(element.as_string());
  }
  return texts;
}

Json parse_line(std::string_view line) {
  try {
    return Json::parse_line(line);
  } catch (const Error& error) {
    // The parser quotes what it read last, which may be the whole line.
    const std::string_view why = error.what();
    std::size_t end = std::min<std::size_t>(why.size(), 160);
    while (end < why.size() && (why[end] & 0xC0) == 0x80) --end;
    fail("not JSON ({}{})", why.substr(0, end), end < why.size() ? "..." : "");
  }
}

}  // namespace

Json to_json(const Pair& pair) {
  Json::Object object{{"query", pair.query}, {"prompt", pair.prompt}};
  if (!pair.prefix.empty()) object.emplace_back("prefix", pair.prefix);
  if (!pair.id.empty()) object.emplace_back("id", pair.id);
  if (!pair.type.empty()) object.emplace_back("type", pair.type);
  if (!pair.content.empty()) object.emplace_back("content", array_of(pair.content));
  if (!pair.flavors.empty()) object.emplace_back("flavors", array_of(pair.flavors));
  return object;
}

Pair parse_pair(std::string_view line) {
  if (trim(line).empty()) fail("empty line");
  if (!valid_utf8(line)) fail("invalid UTF-8");
  const Json object = parse_line(line);
  if (!object.is_object()) fail("not an object, but {}", object.kind());
  Pair pair;
  pair.query = required_text(object, "query");
  pair.prompt = required_text(object, "prompt");
  pair.prefix = optional_text(object, "prefix");
  if (!pair.prefix.empty()) require_prefix(pair.prefix);
  const Json* id = object.find("id");
  pair.id = id != nullptr && id->is_integer() ? std::to_string(id->as_integer()) : optional_text(object, "id");
  pair.type = optional_text(object, "type");
  pair.content = optional_texts(object, "content");
  pair.flavors = optional_texts(object, "flavors");
  return pair;
}

PairReader::PairReader(const std::filesystem::path& path, BadLineRule rule)
    : file_(path), lines_(count_lines(file_.text())), bad_(path, "pair", lines_, rule) {
  const std::string_view text = file_.text();
  if (trim(text.substr(0, 1 << 16)).empty() && trim(text).empty()) {
    user_error("{} is empty: it must hold one pair a line, {{\"query\": ..., \"prompt\": ...}}", path.string());
  }
}

bool PairReader::read_line(std::string_view& line) {
  const std::string_view text = file_.text();
  if (offset_ >= text.size()) return false;
  const std::size_t end = std::min(text.find('\n', offset_), text.size());
  line = text.substr(offset_, end - offset_);
  offset_ = end + 1;
  ++line_;
  return true;
}

bool PairReader::next(Pair& pair) {
  std::string_view line;
  while (read_line(line)) {
    try {
      pair = parse_pair(line);
      return true;
    } catch (const Error& error) {
      bad_.note(line_, error.what());
    }
    if (bad_.too_many()) give_up();
  }
  if (!std::exchange(warned_, true)) bad_.warn();
  return false;
}

void PairReader::give_up() {
  // The rest is read only to count: a message that stops at the limit would understate the trouble.
  for (std::string_view line; read_line(line);) {
    try {
      parse_pair(line);
    } catch (const Error& error) {
      bad_.note(line_, error.what());
    }
  }
  bad_.refuse();
}

std::vector<Pair> read_pairs(const std::filesystem::path& path, BadLineRule rule) {
  PairReader reader(path, rule);
  std::vector<Pair> pairs;
  for (Pair pair; reader.next(pair);) pairs.push_back(std::move(pair));
  return pairs;
}

void PairWriter::write(const Pair& pair) {
  file_.write(to_json(pair).dump());
  file_.write("\n");
  ++count_;
}

}  // namespace unfurl::train
