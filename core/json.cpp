#include "core/json.h"

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <unordered_set>

#include "core/error.h"

namespace unfurl {
namespace {

constexpr std::size_t kMaxDepth = 256;

/// Builds a Json from the parser's events.
class Builder : public nlohmann::json_sax<nlohmann::json> {
 public:
  explicit Builder(std::string_view text) : text_(text) {}

  Json result;
  std::string error;

  bool null() override { return add(Json()); }
  bool boolean(bool value) override { return add(Json(value)); }
  bool number_integer(std::int64_t value) override { return add(Json(value)); }
  bool number_unsigned(std::uint64_t value) override {
    if (value > static_cast<std::uint64_t>(INT64_MAX)) return add(Json(static_cast<double>(value)));
    return add(Json(static_cast<std::int64_t>(value)));
  }
  bool number_float(double value, const std::string&) override { return add(Json(value)); }
  bool string(std::string& value) override { return add(Json(std::move(value))); }
  bool binary(nlohmann::json::binary_t&) override { return false; }
  bool start_object(std::size_t) override { return open(Json::object()); }
  bool start_array(std::size_t) override { return open(Json::array()); }
  bool end_object() override { return close(); }
  bool end_array() override { return close(); }
  bool key(std::string& name) override {
    if (!names_.back().insert(name).second) {
      error = fmt::format("the key {} appears twice in an object", Json(name).dump());
      return false;
    }
    open_.back().as_object().emplace_back(std::move(name), Json());
    return true;
  }
  bool parse_error(std::size_t at, const std::string&, const nlohmann::json::exception& e) override {
    // nlohmann's text is "[json.exception.parse_error.101] parse error at line 1, column 2: syntax error ...", or
    // without a place.
    error = e.what();
    if (const auto place = error.find("line "); place != std::string::npos) {
      error = error.substr(place);
      return false;
    }
    if (const auto name = error.find("] "); name != std::string::npos) error = error.substr(name + 2);
    const std::string_view before = text_.substr(0, at);
    const auto line = 1 + std::count(before.begin(), before.end(), '\n');
    const auto start = before.rfind('\n');
    const auto column = before.size() - (start == std::string_view::npos ? 0 : start + 1);
    error = fmt::format("line {}, column {}: {}", line, column, error);
    return false;
  }

 private:
  bool add(Json value) {
    if (open_.empty()) {
      result = std::move(value);
    } else if (open_.back().is_array()) {
      open_.back().push_back(std::move(value));
    } else {
      open_.back().as_object().back().second = std::move(value);
    }
    return true;
  }
  bool open(Json container) {
    if (open_.size() >= kMaxDepth) {
      error = fmt::format("nested more than {} deep", kMaxDepth);
      return false;
    }
    open_.push_back(std::move(container));
    names_.emplace_back();
    return true;
  }
  bool close() {
    Json done = std::move(open_.back());
    open_.pop_back();
    names_.pop_back();
    return add(std::move(done));
  }

  std::string_view text_;
  std::vector<Json> open_;
  std::vector<std::unordered_set<std::string>> names_;  // for each open container, the keys it has
};

nlohmann::ordered_json convert(const Json& value) {
  if (value.is_bool()) return value.as_bool();
  if (value.is_integer()) return value.as_integer();
  if (value.is_number()) return value.as_number();
  if (value.is_string()) return value.as_string();
  if (value.is_array()) {
    auto out = nlohmann::ordered_json::array();
    for (const Json& element : value.as_array()) out.push_back(convert(element));
    return out;
  }
  if (value.is_object()) {
    auto out = nlohmann::ordered_json::object();
    for (const auto& [name, member] : value.as_object()) out[name] = convert(member);
    return out;
  }
  return nullptr;
}

}  // namespace

Json Json::parse(std::string_view text) {
  Builder builder(text);
  if (!nlohmann::json::sax_parse(text, &builder)) fail("{}", builder.error);
  return std::move(builder.result);
}

Json Json::parse_line(std::string_view line) {
  constexpr std::string_view kFirst = "line 1, ";
  Builder builder(line);
  if (nlohmann::json::sax_parse(line, &builder)) return std::move(builder.result);
  fail("{}", builder.error.substr(builder.error.starts_with(kFirst) ? kFirst.size() : 0));
}

std::string Json::dump(int indent) const {
  return convert(*this).dump(indent, ' ', false, nlohmann::ordered_json::error_handler_t::replace);
}

const char* Json::kind() const {
  static constexpr const char* kNames[] = {"null",     "a boolean", "a number", "a number",
                                           "a string", "an array",  "an object"};
  return kNames[value_.index()];
}

namespace {
template <class T, class Variant>
auto& get(Variant& value, const char* expected, const char* got) {
  auto* found = std::get_if<T>(&value);
  if (found == nullptr) fail("expected {}, got {}", expected, got);
  return *found;
}
}  // namespace

bool Json::as_bool() const { return get<bool>(value_, "a boolean", kind()); }
std::int64_t Json::as_integer() const { return get<std::int64_t>(value_, "an integer", kind()); }
double Json::as_number() const {
  if (is_integer()) return static_cast<double>(std::get<std::int64_t>(value_));
  return get<double>(value_, "a number", kind());
}
const std::string& Json::as_string() const { return get<std::string>(value_, "a string", kind()); }
const Json::Array& Json::as_array() const { return get<Array>(value_, "an array", kind()); }
const Json::Object& Json::as_object() const { return get<Object>(value_, "an object", kind()); }
Json::Array& Json::as_array() { return get<Array>(value_, "an array", kind()); }
Json::Object& Json::as_object() { return get<Object>(value_, "an object", kind()); }

const Json* Json::find(std::string_view name) const& {
  const auto* object = std::get_if<Object>(&value_);
  if (object == nullptr) return nullptr;
  for (const auto& [key, member] : *object) {
    if (key == name) return &member;
  }
  return nullptr;
}

const Json& Json::at(std::string_view name) const {
  const Json* member = find(name);
  if (member == nullptr) fail("\"{}\" is missing", name);
  return *member;
}

Json& Json::operator[](std::string_view name) {
  if (is_null()) value_ = Object{};
  Object& object = as_object();
  for (auto& [key, member] : object) {
    if (key == name) return member;
  }
  return object.emplace_back(std::string(name), Json()).second;
}

void Json::push_back(Json value) {
  if (is_null()) value_ = Array{};
  as_array().push_back(std::move(value));
}

}  // namespace unfurl
