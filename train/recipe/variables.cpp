#include "train/recipe/variables.h"

#include <map>

#include "core/error.h"
#include "core/names.h"

namespace unfurl::train {
namespace {

void substitute(Node& node, const std::map<std::string, std::string>& variables,
                const std::vector<std::string>& names) {
  for (Node& item : node.items) substitute(item, variables, names);
  for (std::size_t at = 0; (at = node.text.find("${", at)) != std::string::npos;) {
    const std::size_t end = node.text.find('}', at);
    if (end == std::string::npos) user_error("{}: \"${{\" has no end in {}", node.where, node.described());
    const std::string name = node.text.substr(at + 2, end - at - 2);
    const auto found = variables.find(name);
    if (found == variables.end()) {
      user_error("{}: ${{{}}} is none of the variables{}", node.where, name, did_you_mean(name, names));
    }
    node.text.replace(at, end + 1 - at, found->second);
    at += found->second.size();
  }
}

}  // namespace

void substitute_variables(Node& root) {
  std::map<std::string, std::string> variables;
  std::vector<std::string> names;
  if (const Node* found = root.find("variables")) {
    if (found->kind != Node::Kind::map)
      user_error("{}: variables must be a map, got {}", found->where, found->described());
    for (const Node& variable : found->items) {
      if (variable.kind != Node::Kind::scalar) {
        user_error("{}: a variable is plain text, got {}", variable.where, variable.described());
      }
      Node value = variable;
      substitute(value, variables, names);
      variables[variable.key] = value.text;
      names.push_back(variable.key);
    }
    root.erase("variables");
  }
  substitute(root, variables, names);
}

}  // namespace unfurl::train
