// JSON values. Parsing and writing are nlohmann-json's, kept in one translation unit because its header is slow to
// compile; this is the small value type that the rest of the program sees.
#pragma once
#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

namespace unfurl {

class Json {
 public:
  using Array = std::vector<Json>;
  using Object = std::vector<std::pair<std::string, Json>>;  // members keep their order

  Json() = default;  // null
  Json(bool value) : value_(value) {}
  Json(int value) : value_(std::int64_t{value}) {}
  Json(std::int64_t value) : value_(value) {}
  Json(std::uint64_t value) : value_(static_cast<std::int64_t>(value)) {}
  Json(double value) : value_(value) {}
  Json(const char* value) : value_(std::string(value)) {}
  Json(std::string value) : value_(std::move(value)) {}
  Json(std::string_view value) : value_(std::string(value)) {}
  Json(Array value) : value_(std::move(value)) {}
  Json(Object value) : value_(std::move(value)) {}
  static Json array() { return Json(Array{}); }
  static Json object() { return Json(Object{}); }

  /// Throws Error("line L, column C: why") for anything but one well-formed JSON value in valid UTF-8; Error(why) where
  /// it is nested more than 256 deep or an object has a key twice.
  static Json parse(std::string_view text);
  /// The same of one line of a file, whose number the caller knows: Error("column C: why").
  static Json parse_line(std::string_view line);

  /// One line, or indented by `indent` spaces. Numbers round-trip; a number that is not finite is written as null.
  /// Bytes that are not UTF-8 are replaced by U+FFFD.
  std::string dump(int indent = -1) const;

  bool is_null() const { return std::holds_alternative<std::monostate>(value_); }
  bool is_bool() const { return std::holds_alternative<bool>(value_); }
  bool is_integer() const { return std::holds_alternative<std::int64_t>(value_); }
  bool is_number() const { return is_integer() || std::holds_alternative<double>(value_); }
  bool is_string() const { return std::holds_alternative<std::string>(value_); }
  bool is_array() const { return std::holds_alternative<Array>(value_); }
  bool is_object() const { return std::holds_alternative<Object>(value_); }

  // These throw Error where the value is of another kind ("expected a string, got a number").
  bool as_bool() const;
  std::int64_t as_integer() const;
  double as_number() const;
  const std::string& as_string() const;
  const Array& as_array() const;
  const Object& as_object() const;
  Array& as_array();
  Object& as_object();

  /// The member of that name, or null where there is none (or this is no object).
  const Json* find(std::string_view name) const&;
  const Json* find(std::string_view name) const&& = delete;  // it would point into what is gone
  /// The member of that name; throws Error naming it where it is missing.
  const Json& at(std::string_view name) const;
  /// The member of that name, made where it is missing; null becomes an object.
  Json& operator[](std::string_view name);
  /// Appends to an array; null becomes an array.
  void push_back(Json value);

  /// "null", "a boolean", "a number", "a string", "an array", "an object".
  const char* kind() const;

  bool operator==(const Json& other) const = default;

 private:
  std::variant<std::monostate, bool, std::int64_t, double, std::string, Array, Object> value_;
};

}  // namespace unfurl
