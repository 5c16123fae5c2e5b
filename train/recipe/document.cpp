#include "train/recipe/document.h"

#include <yaml-cpp/depthguard.h>
#include <yaml-cpp/yaml.h>

#include <algorithm>
#include <charconv>

#include "core/error.h"
#include "core/files.h"
#include "core/json.h"

namespace unfurl::train {
namespace {

constexpr int kMostValues = 100'000;

class Converter {
 public:
  explicit Converter(const std::string& name) : name_(name) {}

  Node convert(const YAML::Node& from) {
    Node out;
    out.where = place(from.Mark());
    if (++values_ > kMostValues) user_error("{}: more than {} values", out.where, kMostValues);
    if (from.IsScalar()) {
      out.kind = Node::Kind::scalar;
      out.text = from.Scalar();
    } else if (from.IsSequence()) {
      out.kind = Node::Kind::list;
      for (const YAML::Node& item : from) out.items.push_back(convert(item));
    } else if (from.IsMap()) {
      out.kind = Node::Kind::map;
      for (const auto& member : from) {
        const std::string where = place(member.first.Mark());
        if (!member.first.IsScalar()) user_error("{}: a key must be a name", where);
        std::string key = member.first.Scalar();
        if (out.find(key) != nullptr) user_error("{}: \"{}\" is given twice", where, key);
        Node value = convert(member.second);
        value.where = where;  // the key's line: a map's own mark may be that of its first member, a line below
        out.put(std::move(key), std::move(value));
      }
    }
    return out;
  }

 private:
  std::string place(const YAML::Mark& mark) const { return fmt::format("{}:{}", name_, mark.line + 1); }
  const std::string& name_;
  int values_ = 0;
};

Node load(const std::filesystem::path& path, std::vector<std::filesystem::path>& chain) {
  Node node = parse_yaml(read_file(path), path.string());
  if (node.kind == Node::Kind::null) node = Node::map(fmt::format("{}:1", path.string()));
  if (node.kind != Node::Kind::map) user_error("{}: a recipe is a map of keys, got {}", node.where, node.described());
  const Node* extends = node.find("extends");
  if (extends == nullptr) return node;
  if (extends->kind != Node::Kind::scalar) {
    user_error("{}: extends must be the path of a recipe, got {}", extends->where, extends->described());
  }
  const std::filesystem::path parent = path.parent_path() / extends->text;
  std::error_code ignored;
  const auto same_file = [&](const auto& seen) { return std::filesystem::equivalent(seen, parent, ignored); };
  if (std::ranges::any_of(chain, same_file)) {
    user_error("{}: extends \"{}\", which extends this file again", extends->where, extends->text);
  }
  if (!std::filesystem::is_regular_file(parent, ignored)) {
    user_error("{}: extends \"{}\": there is no file {}", extends->where, extends->text, parent.string());
  }
  chain.push_back(parent);
  node.erase("extends");
  return merged(load(parent, chain), node);
}

bool is_plain(std::string_view text) {
  if (text.empty() || text == "null" || text == "Null" || text == "NULL") return false;
  const auto ordinary = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' || c == '.' ||
           c == '/' || c == '$' || c == '+' || c == '-';
  };
  return text.front() != '-' ? std::ranges::all_of(text, ordinary)
                             : text.size() > 1 && text[1] != '-' && std::ranges::all_of(text, ordinary);
}

void emit(std::string& out, const Node& node, std::size_t indent);

/// What follows "key:" or "-": on the same line, or below and deeper.
void emit_value(std::string& out, const Node& node, std::size_t indent) {
  if (node.kind == Node::Kind::scalar) {
    out += ' ' + (is_plain(node.text) ? node.text : Json(node.text).dump()) + '\n';
  } else if (node.kind == Node::Kind::null) {
    out += '\n';
  } else if (node.items.empty()) {
    out += node.kind == Node::Kind::list ? " []\n" : " {}\n";
  } else {
    out += '\n';
    emit(out, node, indent);
  }
}

void emit(std::string& out, const Node& node, std::size_t indent) {
  const std::string margin(indent, ' ');
  for (const Node& item : node.items) {
    if (node.kind == Node::Kind::map) {
      out += margin + (is_plain(item.key) ? item.key : Json(item.key).dump()) + ':';
    } else {
      out += margin + '-';
    }
    emit_value(out, item, indent + 2);
  }
}

}  // namespace

Node Node::scalar(std::string text, std::string where) {
  Node node;
  node.kind = Kind::scalar;
  node.text = std::move(text);
  node.where = std::move(where);
  return node;
}

Node Node::list(std::string where) {
  Node node;
  node.kind = Kind::list;
  node.where = std::move(where);
  return node;
}

Node Node::map(std::string where) {
  Node node;
  node.kind = Kind::map;
  node.where = std::move(where);
  return node;
}

const Node* Node::find(std::string_view name) const {
  if (kind != Kind::map) return nullptr;
  const auto at = std::ranges::find(items, name, &Node::key);
  return at == items.end() ? nullptr : &*at;
}

Node* Node::find(std::string_view name) { return const_cast<Node*>(std::as_const(*this).find(name)); }

void Node::put(std::string name, Node value) {
  value.key = std::move(name);
  if (Node* found = find(value.key)) {
    *found = std::move(value);
  } else {
    items.push_back(std::move(value));
  }
}

void Node::erase(std::string_view name) {
  if (kind == Kind::map) std::erase_if(items, [&](const Node& item) { return item.key == name; });
}

std::string Node::described() const {
  switch (kind) {
    case Kind::null:
      return "nothing";
    case Kind::scalar:
      return text.size() <= 60 ? fmt::format("\"{}\"", text) : "a long text";
    case Kind::list:
      return "a list";
    default:
      return "a map";
  }
}

Node parse_yaml(std::string_view text, const std::string& name) {
  try {
    const std::vector<YAML::Node> documents = YAML::LoadAll(std::string(text));
    if (documents.size() > 1)
      user_error("{}: more than one YAML document; a recipe is one, without \"---\" inside", name);
    return documents.empty() ? Node() : Converter(name).convert(documents.front());
  } catch (const YAML::DeepRecursion& e) {
    user_error("{}:{}: nested too deep", name, e.mark.line + 1);
  } catch (const YAML::Exception& e) {
    if (e.mark.is_null()) user_error("{}: {}", name, e.msg);
    user_error("{}:{}: {}", name, e.mark.line + 1, e.msg);
  }
}

Node load_document(const std::filesystem::path& path) {
  std::vector<std::filesystem::path> chain = {path};
  return load(path, chain);
}

Node merged(Node base, const Node& over) {
  if (base.kind != Node::Kind::map) return over;
  if (over.kind == Node::Kind::null) return base;
  if (over.kind != Node::Kind::map) return over;
  for (const Node& member : over.items) {
    Node* below = base.find(member.key);
    base.put(member.key, below == nullptr ? member : merged(*below, member));
  }
  base.where = over.where;
  return base;
}

void set_value(Node& root, std::string_view assignment) {
  const std::string where = fmt::format("--set {}", assignment);
  const std::size_t equals = assignment.find('=');
  if (equals == std::string_view::npos || equals == 0) user_error("{}: expected KEY=VALUE", where);
  const std::string_view path = assignment.substr(0, equals), text = assignment.substr(equals + 1);

  Node value = Node::scalar(std::string(text), where);
  if (!text.empty() && std::string_view("[{\"'").find(text.front()) != std::string_view::npos) {
    value = parse_yaml(text, where);
  }

  Node* at = &root;
  for (std::size_t begin = 0; begin <= path.size();) {
    const std::size_t end = std::min(path.find('.', begin), path.size());
    const std::string name(path.substr(begin, end - begin));
    if (name.empty()) user_error("{}: an empty name in the key", where);
    if (at->kind == Node::Kind::list) {
      std::size_t index = at->items.size();
      const auto [stop, problem] = std::from_chars(name.data(), name.data() + name.size(), index);
      if (problem != std::errc() || stop != name.data() + name.size()) {
        const auto named = [&](const Node& item) {
          const Node* its_name = item.find("name");
          return its_name != nullptr && its_name->text == name;
        };
        index = static_cast<std::size_t>(std::ranges::find_if(at->items, named) - at->items.begin());
      }
      if (index >= at->items.size()) {
        user_error("{}: \"{}\" is no item of {}, a list of {}", where, name, path.substr(0, begin - 1),
                   at->items.size());
      }
      at = &at->items[index];
    } else {
      if (at->kind != Node::Kind::map) {
        std::string key = std::move(at->key);
        *at = Node::map(where);
        at->key = std::move(key);
      }
      if (at->find(name) == nullptr) at->put(name, Node());
      at = at->find(name);
    }
    begin = end + 1;
  }
  value.key = at->key;
  *at = std::move(value);
}

void set_values(Node& root, const std::vector<std::string>& assignments, const std::string& file) {
  for (const std::string& assignment : assignments) {
    if (assignment.starts_with("stages.") && root.find("stages") == nullptr) {
      user_error("--set {}: {} has no stages", assignment, file);
    }
    set_value(root, assignment);
  }
}

bool is_set(const Node& value) { return value.where.starts_with("--set "); }

std::string to_yaml(const Node& node) {
  std::string out;
  if (node.kind == Node::Kind::scalar) {
    emit_value(out, node, 0);
    return out.substr(1);
  }
  if (node.items.empty()) return node.kind == Node::Kind::list ? "[]\n" : "{}\n";
  emit(out, node, 0);
  return out;
}

}  // namespace unfurl::train
