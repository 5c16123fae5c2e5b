#include "train/image_side/protocol.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "core/error.h"
#include "core/json.h"
#include "train/corpus/text.h"

namespace unfurl::train {
namespace {

Json to_json(const std::vector<float>& values) {
  Json::Array out;
  out.reserve(values.size());
  // The shortest decimals that give the float back; as a double it would be written with twice the digits.
  for (const float value : values) out.emplace_back(std::strtod(fmt::format("{}", value).c_str(), nullptr));
  return Json(std::move(out));
}

Json parse_object(std::string_view line, const char* what) {
  Json json;
  try {
    json = Json::parse_line(line);
  } catch (const Error&) {
    fail("{} is not JSON: {}", what, in_quotes(line));
  }
  if (!json.is_object()) fail("{} is not a JSON object: {}", what, in_quotes(line));
  return json;
}

const std::string& text_of(const Json& json, const char* key, const char* what) {
  const Json* const member = json.find(key);
  if (member == nullptr || !member->is_string()) fail("{} has no text \"{}\"", what, key);
  return member->as_string();
}

std::vector<float> embedding(const Json& json, const char* key, std::int64_t size) {
  const Json* const member = json.find(key);
  if (member == nullptr || !member->is_array()) fail("has no {}", key);
  const Json::Array& values = member->as_array();
  if (values.size() != static_cast<std::size_t>(size)) {
    fail("has {} numbers in {}, and its hello says {}", values.size(), key, size);
  }
  std::vector<float> out;
  out.reserve(values.size());
  for (const Json& value : values) {
    const float number = value.is_number() ? static_cast<float>(value.as_number()) : NAN;
    if (!std::isfinite(number)) fail("has {} in {}, which is no finite number", value.dump(), key);
    out.push_back(number);
  }
  if (std::ranges::all_of(out, [](float number) { return number == 0; })) fail("has nothing but zeros in {}", key);
  return out;
}

void read_answer(const Json& json, std::int64_t size, ImageAnswer& answer) {
  if (const Json* const error = json.find("error"); error != nullptr && !error->is_null()) {
    fail("says {}", error->is_string() ? in_quotes(error->as_string(), 200) : error->dump());
  }
  answer.image = embedding(json, "image_embedding", size);
  answer.query = embedding(json, "query_embedding", size);
  answer.prompt = embedding(json, "prompt_embedding", size);
  if (const Json* const score = json.find("aesthetic"); score != nullptr && !score->is_null()) {
    if (!score->is_number() || !std::isfinite(score->as_number())) fail("has an aesthetic that is no finite number");
    answer.aesthetic = score->as_number();
  }
  if (const Json* const file = json.find("image"); file != nullptr && !file->is_null()) {
    if (!file->is_string()) fail("has an image that is {}, not a file's name", file->kind());
    answer.image_file = file->as_string();
  }
}

/// Python's json writes NaN and Infinity, which JSON has not: as texts, they are told from garbage.
std::string with_quoted_nan(std::string_view line) {
  std::string out;
  bool inside = false;
  for (std::size_t i = 0; i < line.size();) {
    if (inside && line[i] == '\\' && i + 1 < line.size()) {
      out.append(line, i, 2);
      i += 2;
      continue;
    }
    if (line[i] == '"') inside = !inside;
    std::string_view found;
    for (const std::string_view word : {"NaN", "-Infinity", "Infinity"}) {
      if (!inside && found.empty() && line.substr(i).starts_with(word)) found = word;
    }
    if (found.empty()) {
      out += line[i++];
    } else {
      out += fmt::format("\"{}\"", found);
      i += found.size();
    }
  }
  return out;
}

}  // namespace

std::string in_quotes(std::string_view text, std::size_t most) {
  std::string shown(text.substr(0, most));
  while (!shown.empty() && text.size() > most && (static_cast<unsigned char>(shown.back()) & 0x80) != 0) {
    shown.pop_back();  // not in the middle of a character
  }
  for (char& c : shown) {
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7F) c = ' ';
  }
  if (!valid_utf8(shown)) {
    for (char& c : shown) {
      if ((static_cast<unsigned char>(c) & 0x80) != 0) c = '?';
    }
  }
  return '"' + shown + (text.size() > most ? "..." : "") + '"';
}

std::string to_line(const ImageSideHello& hello) {
  return Json(Json::Object{{"name", hello.name},
                           {"version", hello.version},
                           {"simulated", hello.simulated},
                           {"embedding_size", hello.embedding_size}})
             .dump() +
         '\n';
}

std::string to_line(const ImageRequest& request) {
  return Json(Json::Object{
                  {"id", request.id}, {"query", request.query}, {"prompt", request.prompt}, {"seed", request.seed}})
             .dump() +
         '\n';
}

std::string to_line(const ImageAnswer& answer, bool simulated) {
  Json::Object line{{"id", answer.id},
                    {"image_embedding", to_json(answer.image)},
                    {"query_embedding", to_json(answer.query)},
                    {"prompt_embedding", to_json(answer.prompt)}};
  if (simulated) line.emplace_back("simulated", true);
  if (answer.aesthetic) line.emplace_back("aesthetic", *answer.aesthetic);
  if (!answer.image_file.empty()) line.emplace_back("image", answer.image_file);
  return Json(std::move(line)).dump() + '\n';
}

std::string error_line(std::string_view id, std::string_view why) {
  return Json(Json::Object{{"id", id}, {"error", why}}).dump() + '\n';
}

ImageSideHello parse_hello(std::string_view line) {
  const char* const what = "its first line";
  const Json json = parse_object(line, what);
  ImageSideHello hello{.name = text_of(json, "name", what), .version = text_of(json, "version", what)};
  const Json* const simulated = json.find("simulated");
  if (simulated == nullptr || !simulated->is_bool()) fail("{} does not say \"simulated\": true or false", what);
  hello.simulated = simulated->as_bool();
  const Json* const size = json.find("embedding_size");
  if (size == nullptr || !size->is_integer() || size->as_integer() < 1 || size->as_integer() > 65536) {
    fail("{} has no \"embedding_size\" from 1 to 65536", what);
  }
  hello.embedding_size = size->as_integer();
  return hello;
}

ImageRequest parse_request(std::string_view line) {
  const char* const what = "a request";
  const Json json = parse_object(line, what);
  ImageRequest request{
      .id = text_of(json, "id", what), .query = text_of(json, "query", what), .prompt = text_of(json, "prompt", what)};
  const Json* const seed = json.find("seed");
  if (seed == nullptr || !seed->is_integer() || seed->as_integer() < 0) {
    fail("{} has no \"seed\" of 0 or more", what);
  }
  request.seed = static_cast<std::uint64_t>(seed->as_integer());
  return request;
}

ParsedAnswer parse_answer(std::string_view line, std::int64_t embedding_size) {
  Json json;
  try {
    json = Json::parse_line(line);
  } catch (const Error&) {
    json = parse_object(with_quoted_nan(line), "an answer");
  }
  if (!json.is_object()) fail("an answer is not a JSON object: {}", in_quotes(line));
  ParsedAnswer parsed;
  parsed.answer.id = text_of(json, "id", "an answer");
  try {
    read_answer(json, embedding_size, parsed.answer);
  } catch (const Error& error) {
    parsed.error = error.what();
  }
  return parsed;
}

}  // namespace unfurl::train
