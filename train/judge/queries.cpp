#include "train/judge/queries.h"

#include <fmt/format.h>

#include <map>
#include <set>

#include "core/error.h"
#include "core/files.h"
#include "core/json.h"
#include "core/lines.h"
#include "train/corpus/bad_lines.h"
#include "train/corpus/text.h"

namespace unfurl::train {
namespace {

class Collector {
 public:
  void add(std::string_view text, std::string type = {}, std::string source = {}) {
    text = trim(text);
    if (text.empty() || type == "copy" || !met_.emplace(text).second) return;
    const std::string id = fmt::format("{:016x}", hash_bytes(text));
    by_type_[type].push_back({id, std::string(text), type, std::move(source)});
  }
  /// One of each type in turn, in the order in which they came.
  std::vector<TestQuery> take(std::int64_t most) const {
    std::vector<TestQuery> out;
    for (std::size_t round = 0;; ++round) {
      const std::size_t before = out.size();
      for (const auto& [type, queries] : by_type_) {
        if (most > 0 && static_cast<std::int64_t>(out.size()) == most) return out;
        if (round < queries.size()) out.push_back(queries[round]);
      }
      if (out.size() == before) return out;
    }
  }

 private:
  std::set<std::string, std::less<>> met_;
  std::map<std::string, std::vector<TestQuery>> by_type_;
};

std::string text_of(const Json& line, const char* key) {
  const Json* const found = line.find(key);
  return found != nullptr && found->is_string() ? found->as_string() : "";
}

}  // namespace

std::vector<TestQuery> read_queries(const std::filesystem::path& path, std::int64_t most) {
  const std::string text = read_file(path);
  const std::string kind = path.extension().string();
  Collector found;
  BadLines bad(path, "query", count_lines(text));
  for (const auto& [number, line] : Lines(text)) {
    if (const std::string_view fault = fault_of_text(line); !fault.empty() && kind != ".tsv") {
      bad.note(number, fault);
    } else if (kind == ".jsonl") {
      if (trim(line).empty()) continue;
      try {
        const Json json = Json::parse(line);
        found.add(json.at("query").as_string(), text_of(json, "type"), text_of(json, "source"));
      } catch (const Error& error) {
        bad.note(number, error.what());
      }
    } else if (kind == ".tsv") {
      if (number > 1) found.add(line.substr(0, line.find('\t')));
    } else {
      found.add(line);
    }
  }
  if (bad.too_many()) bad.refuse();
  bad.warn();
  std::vector<TestQuery> out = found.take(most);
  if (out.empty()) user_error("{} holds no query to judge by; write one a line", path.string());
  return out;
}

std::vector<TestQuery> held_out_queries(const std::vector<Source>& sources, std::int64_t most) {
  Collector found;
  for (const Source& source : sources) {
    for (Index i = 0; i < source.shard->size(); ++i) {
      found.add(source.shard->query(i), std::string(source.shard->type(i)));
    }
  }
  return found.take(most);
}

}  // namespace unfurl::train
