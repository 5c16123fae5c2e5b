#include "train/recipe/schema.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cmath>

#include "core/error.h"
#include "core/names.h"

namespace unfurl::train {
namespace {

/// 1000000, not 1e+06.
std::string written(double value) {
  const bool whole = value == static_cast<double>(static_cast<std::int64_t>(value));
  return whole ? fmt::format("{}", static_cast<std::int64_t>(value)) : fmt::format("{}", value);
}

std::string described(const Limits& limits) {
  std::string out;
  if (limits.least > -std::numeric_limits<double>::infinity()) {
    out = (limits.above_least ? " > " : " >= ") + written(limits.least);
  }
  if (limits.most < std::numeric_limits<double>::infinity()) {
    out += (out.empty() ? " <= " : " and <= ") + written(limits.most);
  }
  return out;
}

template <class T>
void read_number(const Node& node, const std::string& name, const std::string& type, const Limits& limits, T& value) {
  T read{};
  const char* const end = node.text.data() + node.text.size();
  const auto [stop, problem] = std::from_chars(node.text.data(), end, read);
  if constexpr (std::integral<T>) {
    if (problem == std::errc::result_out_of_range && stop == end && limits.most > 1e18) {
      user_error("{}: {} must be {} and at most {}, got {}", node.where, name, type, std::numeric_limits<T>::max(),
                 node.described());
    }
  }
  bool good = node.kind == Node::Kind::scalar && problem == std::errc() && stop == end;
  if constexpr (std::floating_point<T>) {
    if (good && !std::isfinite(read)) user_error("{}: {} must be finite, got {}", node.where, name, node.described());
  }
  const auto number = static_cast<double>(read);
  good = good && number >= limits.least && number <= limits.most && !(limits.above_least && number == limits.least);
  if (!good) user_error("{}: {} must be {}, got {}", node.where, name, type, node.described());
  value = read;
}

std::string read_text(const Node& node, const std::string& name, const char* type) {
  if (node.kind != Node::Kind::scalar)
    user_error("{}: {} must be {}, got {}", node.where, name, type, node.described());
  return node.text;
}

void read_texts(const Node& node, const std::string& name, const std::string& type, std::vector<std::string>& value) {
  if (node.kind != Node::Kind::list) user_error("{}: {} must be {}, got {}", node.where, name, type, node.described());
  value.clear();
  for (const Node& item : node.items) value.push_back(read_text(item, "an item of " + name, "text"));
}

Node write_texts(const std::vector<std::string>& texts) {
  Node out = Node::list();
  for (const std::string& text : texts) out.items.push_back(Node::scalar(text));
  return out;
}

std::string with_article(const std::string& type) { return type.starts_with("integer") ? "an " + type : "a " + type; }

/// "text  # comment", the comments of a block in one column.
struct Line {
  std::string text, comment;
};

/// A scalar, or a list of some.
std::string on_one_line(const Node& node) {
  const auto text_of = [](const Node& one) {
    std::string text = to_yaml(one);
    text.erase(text.find_last_not_of('\n') + 1);
    return text;
  };
  if (node.kind != Node::Kind::list) return text_of(node);
  std::string out;
  for (const Node& item : node.items) out += (out.empty() ? "" : ", ") + text_of(item);
  return '[' + out + ']';
}

void document(std::vector<Line>& lines, const Schema& schema, const std::string& margin, const std::string& deeper) {
  std::string lead = margin;
  for (const Field& field : schema.fields()) {
    const std::string key = lead + field.name + ':';
    if (field.group) {
      lines.push_back({key, field.help});
      document(lines, field.group(), deeper + "  ", deeper + "  ");
    } else if (field.sample) {
      lines.push_back({key + " []", field.help + "; each item:"});
      document(lines, field.sample(), deeper + "#  - ", deeper + "#    ");
    } else {
      lines.push_back({key + ' ' + on_one_line(field.write()), field.type + ": " + field.help});
    }
    lead = deeper;
  }
}

}  // namespace

Field& Schema::add(const char* name, std::string type, const char* help) {
  Field& field = fields_.emplace_back();
  field.name = name;
  field.type = std::move(type);
  field.help = help;
  return field;
}

void Schema::field(const char* name, bool& value, const char* help) {
  Field& added = add(name, "true or false", help);
  added.read = [full = inner_name(name), &value](const Node& node) {
    const bool good = node.kind == Node::Kind::scalar && (node.text == "true" || node.text == "false");
    if (!good) user_error("{}: {} must be true or false, got {}", node.where, full, node.described());
    value = node.text == "true";
  };
  added.write = [&value] { return Node::scalar(value ? "true" : "false"); };
}

void Schema::field(const char* name, std::string& value, const char* help) {
  Field& added = add(name, "text", help);
  added.read = [full = inner_name(name), &value](const Node& node) { value = read_text(node, full, "text"); };
  added.write = [&value] { return Node::scalar(value); };
}

void Schema::path(const char* name, std::string& value, const char* help) {
  field(name, value, help);
  fields_.back().type = "path";
  fields_.back().path = &value;
}

void Schema::required_path(const char* name, std::string& value, const char* help) {
  path(name, value, help);
  fields_.back().required = true;
}

void Schema::field(const char* name, std::vector<std::string>& value, const char* help) {
  Field& added = add(name, "list of texts", help);
  added.read = [full = inner_name(name), &value](const Node& node) { read_texts(node, full, "a list", value); };
  added.write = [&value] { return write_texts(value); };
}

void Schema::paths(const char* name, std::vector<std::string>& value, const char* help) {
  field(name, value, help);
  fields_.back().type = "list of paths";
  fields_.back().paths = &value;
}

void Schema::field(const char* name, double& value, const char* help, Limits limits) {
  Field& added = add(name, "number" + described(limits), help);
  added.read = [full = inner_name(name), type = with_article(added.type), limits, &value](const Node& node) {
    read_number(node, full, type, limits, value);
  };
  added.write = [&value] { return Node::scalar(fmt::format("{}", value)); };
}

void Schema::field(const char* name, std::int64_t& value, const char* help, Limits limits) {
  Field& added = add(name, "integer" + described(limits), help);
  added.read = [full = inner_name(name), type = with_article(added.type), limits, &value](const Node& node) {
    read_number(node, full, type, limits, value);
  };
  added.write = [&value] { return Node::scalar(fmt::format("{}", value)); };
}

void Schema::choice(const char* name, std::vector<std::string> choices, std::function<std::size_t()> get,
                    std::function<void(std::size_t)> set, const char* help) {
  std::string type = fmt::format("{}", fmt::join(choices, " | "));
  Field& added = add(name, type, help);
  added.read = [full = inner_name(name), choices, type, set = std::move(set)](const Node& node) {
    const auto found = std::ranges::find(choices, node.kind == Node::Kind::scalar ? node.text : std::string());
    if (found == choices.end()) {
      user_error("{}: {} must be one of {}, got {}{}", node.where, full, type, node.described(),
                 did_you_mean(node.text, choices));
    }
    set(static_cast<std::size_t>(found - choices.begin()));
  };
  added.write = [choices, get = std::move(get)] { return Node::scalar(choices[get()]); };
}

void Schema::add_group(const char* name, const char* help, std::function<Schema()> schema) {
  Field& added = add(name, "keys", help);
  added.group = std::move(schema);
  added.read = [group = added.group](const Node& node) { group().read(node); };
  added.write = [group = added.group] { return group().write(); };
}

Field& Schema::add_list(const char* name, const char* help, std::function<void(std::size_t)> resize,
                        std::function<std::vector<Schema>()> schemas) {
  Field& added = add(name, "list", help);
  added.items = std::move(schemas);
  added.read = [full = inner_name(name), items = added.items, resize = std::move(resize)](const Node& node) {
    if (node.kind != Node::Kind::list) user_error("{}: {} must be a list, got {}", node.where, full, node.described());
    resize(node.items.size());
    const auto members = items();
    for (std::size_t i = 0; i < members.size(); ++i) members[i].read(node.items[i]);
  };
  added.write = [items = added.items] {
    Node out = Node::list();
    for (const Schema& item : items()) out.items.push_back(item.write());
    return out;
  };
  return added;
}

void Schema::read(const Node& node) const {
  const std::string here = name_.empty() ? "the recipe" : name_;
  if (node.kind != Node::Kind::map && node.kind != Node::Kind::null)
    user_error("{}: {} must be a map of keys, got {}", node.where, here, node.described());
  for (const Node& member : node.items) {
    const auto found = std::ranges::find(fields_, member.key, &Field::name);
    if (found == fields_.end()) {
      std::vector<std::string> known;
      for (const Field& field : fields_) known.push_back(field.name);
      user_error("{}: unknown key \"{}\" in {}{}", member.where, member.key, here, did_you_mean(member.key, known));
    }
    found->read(member);
  }
  for (const Field& field : fields_) {
    if (!field.required || !field.path->empty()) continue;
    user_error("{}: {} is missing or empty: {}", node.where, inner_name(field.name.c_str()), field.help);
  }
}

Node Schema::write() const {
  Node out = Node::map();
  for (const Field& field : fields_) out.put(field.name, field.write());
  return out;
}

std::string Schema::documented() const {
  std::vector<Line> lines;
  document(lines, *this, "", "");
  std::size_t column = 0;
  for (const Line& line : lines) column = std::max(column, line.text.size());
  std::string out;
  for (const Line& line : lines) out += fmt::format("{:<{}}  # {}\n", line.text, column, line.comment);
  return out;
}

void Schema::each_path(const std::function<void(std::string&)>& visit) const {
  for (const Field& field : fields_) {
    if (field.path != nullptr) visit(*field.path);
    if (field.paths != nullptr) std::ranges::for_each(*field.paths, visit);
    if (field.group) field.group().each_path(visit);
    if (field.items) {
      for (const Schema& item : field.items()) item.each_path(visit);
    }
  }
}

}  // namespace unfurl::train
