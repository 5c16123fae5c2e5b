// A YAML document as a tree in which every value knows where it was written. Reading is yaml-cpp's, kept in one
// translation unit.
#pragma once
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

namespace unfurl::train {

struct Node {
  enum class Kind { null, scalar, list, map };
  Kind kind = Kind::null;
  std::string where;        // "base.yaml:12", or "--set train.steps=5"
  std::string text;         // of a scalar
  std::string key;          // in a map: its name
  std::vector<Node> items;  // of a list, or of a map in the order of the file

  static Node scalar(std::string text, std::string where = {});
  static Node list(std::string where = {});
  static Node map(std::string where = {});

  /// The member of a map, or null where there is none.
  const Node* find(std::string_view name) const;
  Node* find(std::string_view name);
  /// Puts a member into a map, over the one of that name if there is one.
  void put(std::string name, Node value);
  void erase(std::string_view name);
  /// "nothing", "\"text\"", "a list" or "a map", for messages.
  std::string described() const;
};

/// Parses one YAML document; `name` stands in messages as "name:line". Throws UserError for malformed text, a key given
/// twice, a key that is no scalar, or a document that its aliases blow up to more than 100,000 values.
Node parse_yaml(std::string_view text, const std::string& name);

/// Reads a file and what it `extends` (a path relative to the file that says so): maps merge, anything else replaces.
/// Throws UserError where a file is missing or the chain returns to itself.
Node load_document(const std::filesystem::path& path);

/// `over` laid over `base`: maps merge member by member, anything else replaces. Nothing (an empty value) over a map
/// changes nothing.
Node merged(Node base, const Node& over);

/// Applies one "a.b=value" of `--set`. A list item is named by its number from 0, or by its member `name`. The value is
/// plain text, or YAML where it starts with one of [ { " '. Throws UserError naming the option.
void set_value(Node& root, std::string_view assignment);

/// Applies all of them to the recipe read from `file`. Throws UserError as well for one that names a stage where the
/// recipe has none.
void set_values(Node& root, const std::vector<std::string>& assignments, const std::string& file);

/// True for a value that `--set` gave.
bool is_set(const Node& value);

/// YAML text that parse_yaml reads back to the same tree.
std::string to_yaml(const Node& node);

}  // namespace unfurl::train
