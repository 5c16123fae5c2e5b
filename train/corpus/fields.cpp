#include "train/corpus/fields.h"

#include <algorithm>

#include "core/error.h"
#include "train/corpus/text.h"

namespace unfurl::train {
namespace {

std::string text_of(const Json& value, std::string_view name) {
  if (!value.is_string()) fail("{} must be a string, got {}", name, value.kind());
  return value.as_string();
}

}  // namespace

Json parse_object_line(std::string_view line) {
  if (trim(line).empty()) fail("empty line");
  if (!valid_utf8(line)) fail("invalid UTF-8");
  Json object;
  try {
    object = Json::parse_line(line);
  } catch (const Error& error) {
    // The parser quotes what it read last, which may be the whole line.
    const std::string_view why = error.what();
    std::size_t end = std::min<std::size_t>(why.size(), 160);
    while (end < why.size() && (why[end] & 0xC0) == 0x80) --end;
    fail("not JSON ({}{})", why.substr(0, end), end < why.size() ? "..." : "");
  }
  if (!object.is_object()) fail("not an object, but {}", object.kind());
  return object;
}

std::string required_text(const Json& object, std::string_view name) {
  const Json* found = object.find(name);
  if (found == nullptr) fail("{} is missing", name);
  std::string text = text_of(*found, name);
  if (trim(text).empty()) fail("{} is empty", name);
  return text;
}

std::string optional_text(const Json& object, std::string_view name) {
  const Json* found = object.find(name);
  return found == nullptr || found->is_null() ? std::string() : text_of(*found, name);
}

std::string optional_id(const Json& object) {
  const Json* id = object.find("id");
  return id != nullptr && id->is_integer() ? std::to_string(id->as_integer()) : optional_text(object, "id");
}

std::string required_id(const Json& object) {
  std::string id = optional_id(object);
  if (trim(id).empty()) fail("id is {}", object.find("id") == nullptr ? "missing" : "empty");
  return id;
}

bool is_simulated(const Json& object) {
  const Json* said = object.find("simulated");
  return said != nullptr && *said == Json(true);
}

}  // namespace unfurl::train
