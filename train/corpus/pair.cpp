#include "train/corpus/pair.h"

#include <algorithm>
#include <utility>

#include "core/error.h"
#include "train/corpus/fields.h"
#include "train/corpus/prefix.h"
#include "train/corpus/text.h"

namespace unfurl::train {
namespace {

Json array_of(const std::vector<std::string>& texts) {
  Json array = Json::array();
  for (const std::string& text : texts) array.push_back(text);
  return array;
}

std::vector<std::string> optional_texts(const Json& object, std::string_view name) {
  std::vector<std::string> texts;
  const Json* found = object.find(name);

  if (found == nullptr || found->is_null()) return texts;
  if (!found->is_array()) fail("{} must be an array of strings, got {}", name, found->kind());
  for (const Json& element : found->as_array()) {
    if (!element.is_string()) fail("{} must be an array of strings, got {} in it", name, element.kind());
    texts.push_back(element.as_string());
  }
  return texts;
}

}  // namespace

Json to_json(const Pair& pair) {
  Json::Object object{{"query", pair.query}, {"prompt", pair.prompt}};
  if (!pair.prefix.empty()) object.emplace_back("prefix", pair.prefix);
  if (!pair.id.empty()) object.emplace_back("id", pair.id);
  if (!pair.type.empty()) object.emplace_back("type", pair.type);
  if (!pair.content.empty()) object.emplace_back("content", array_of(pair.content));
  if (!pair.flavors.empty()) object.emplace_back("flavors", array_of(pair.flavors));
  if (!pair.source.empty()) object.emplace_back("source", pair.source);
  if (pair.simulated) object.emplace_back("simulated", true);
  return object;
}

Pair parse_pair(std::string_view line) {
  const Json object = parse_object_line(line);
  Pair pair;
  pair.query = required_text(object, "query");
  pair.prompt = required_text(object, "prompt");
  pair.prefix = optional_text(object, "prefix");
  if (!pair.prefix.empty()) require_prefix(pair.prefix);
  pair.id = optional_id(object);
  pair.type = optional_text(object, "type");
  pair.content = optional_texts(object, "content");
  pair.flavors = optional_texts(object, "flavors");
  const Json* source = object.find("source");
  if (source != nullptr && source->is_string() && is_source(source->as_string())) pair.source = source->as_string();
  pair.simulated = is_simulated(object);
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
