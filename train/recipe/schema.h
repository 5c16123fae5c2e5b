// Binds the members of plain structs to the keys of a recipe. Each struct says once, in
//
//   void describe(Schema& schema, OptimizerConfig& config) {
//     schema.field("learning_rate", config.learning_rate, "the peak learning rate", positive());
//     ...
//   }
//
// what its keys are called, what they may hold and what they mean; reading, writing and documentation follow from it.
// An enumeration E is read and written by name: std::vector<std::string> names(E) lists its names in order from 0.
#pragma once
#include <concepts>
#include <cstdint>
#include <functional>
#include <limits>
#include <string>
#include <type_traits>
#include <vector>

#include "train/recipe/document.h"

namespace unfurl::train {

/// The numbers that a field may hold.
struct Limits {
  double least = -std::numeric_limits<double>::infinity();
  double most = std::numeric_limits<double>::infinity();
  bool above_least = false;  // `least` itself is out
};
inline Limits at_least(double least) { return {.least = least}; }
inline Limits positive() { return {.least = 0, .above_least = true}; }
inline Limits between(double least, double most) { return {.least = least, .most = most}; }

class Schema;

struct Field {
  std::string name, type, help;
  std::function<void(const Node&)> read;  // throws UserError starting with the place
  std::function<Node()> write;
  std::function<Schema()> group;               // of a group
  std::function<std::vector<Schema>()> items;  // of a list of groups: one an item
  std::function<Schema()> sample;              // of a list of groups: a default item
  std::vector<std::string>* paths = nullptr;   // of a list of paths
  std::string* path = nullptr;                 // of a path
  bool required = false;                       // a path that must not be empty
};

class Schema {
 public:
  /// `name` stands in messages: "optimizer"; empty for the whole recipe.
  explicit Schema(std::string name = {}) : name_(std::move(name)) {}

  void field(const char* name, bool& value, const char* help);
  void field(const char* name, std::string& value, const char* help);
  void field(const char* name, std::vector<std::string>& value, const char* help);
  void field(const char* name, double& value, const char* help, Limits limits = {});
  void field(const char* name, std::int64_t& value, const char* help, Limits limits = {});
  template <class E>
  requires std::is_enum_v<E>
  void field(const char* name, E& value, const char* help) {
    choice(
        name, names(E{}), [&value] { return static_cast<std::size_t>(value); },
        [&value](std::size_t index) { value = static_cast<E>(index); }, help);
  }
  /// A file or folder, relative to the working folder; "$NAME" in a pipeline is the folder of that stage.
  void path(const char* name, std::string& value, const char* help);
  /// One that read() throws for where it is not there after it.
  void required_path(const char* name, std::string& value, const char* help);
  void paths(const char* name, std::vector<std::string>& value, const char* help);
  /// A struct with keys of its own.
  template <class T>
  void group(const char* name, T& value, const char* help) {
    add_group(name, help, [inner_name = inner_name(name), &value] {
      Schema inner(inner_name);
      describe(inner, value);
      return inner;
    });
  }
  /// A list of structs.
  template <class T>
  void list(const char* name, std::vector<T>& values, const char* help) {
    const std::string inner = inner_name(name);
    const auto schema_of = [inner](T& value, std::size_t index) {
      Schema item(inner + '.' + std::to_string(index));
      describe(item, value);
      return item;
    };
    Field& added = add_list(
        name, help, [&values](std::size_t count) { values.assign(count, T{}); },
        [&values, schema_of] {
          std::vector<Schema> out;
          for (std::size_t i = 0; i < values.size(); ++i) out.push_back(schema_of(values[i], i));
          return out;
        });
    added.sample = [schema_of] {
      static T standard;
      return schema_of(standard, 0);
    };
  }

  const std::string& name() const { return name_; }
  const std::vector<Field>& fields() const { return fields_; }

  /// Reads the members that `node` gives and leaves the others. Throws UserError ("file:line: ...") for an unknown key,
  /// a wrong type or a value out of range.
  void read(const Node& node) const;
  /// Every member, in the order of the declarations.
  Node write() const;
  /// YAML of every key with its present value, and as comments its type and meaning.
  std::string documented() const;
  /// Calls `visit` with each path below.
  void each_path(const std::function<void(std::string&)>& visit) const;

 private:
  std::string inner_name(const char* name) const { return name_.empty() ? name : name_ + '.' + name; }
  Field& add(const char* name, std::string type, const char* help);
  void add_group(const char* name, const char* help, std::function<Schema()> schema);
  Field& add_list(const char* name, const char* help, std::function<void(std::size_t)> resize,
                  std::function<std::vector<Schema>()> schemas);
  void choice(const char* name, std::vector<std::string> choices, std::function<std::size_t()> get,
              std::function<void(std::size_t)> set, const char* help);

  std::string name_;
  std::vector<Field> fields_;
};

/// The name of an enumerator.
template <class E>
requires std::is_enum_v<E> std::string to_string(E value) { return names(value)[static_cast<std::size_t>(value)]; }

}  // namespace unfurl::train
