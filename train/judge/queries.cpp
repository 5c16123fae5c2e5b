#include "train/judge/queries.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <map>
#include <numeric>
#include <set>

#include "core/error.h"
#include "core/files.h"
#include "core/json.h"
#include "core/lines.h"
#include "core/names.h"
#include "train/corpus/bad_lines.h"
#include "train/corpus/text.h"
#include "train/log.h"

namespace unfurl::train {
namespace {

std::uint64_t hash_of_words(std::string_view text) {
  return hash_bytes(fmt::format("{}", fmt::join(plain_words(text), " ")));
}

class Collector {
 public:
  explicit Collector(const SeenTexts* seen = nullptr) : seen_(seen) {}

  void add(std::string_view text, const std::string& type = {}, std::string source = {}, std::string group = {}) {
    text = trim(text);
    if (text.empty() || type == "copy" || !met_.emplace(text).second) return;
    if (seen_ != nullptr && seen_->contains(text)) {
      ++left_out_;
      return;
    }
    const std::string id = fmt::format("{:016x}", hash_bytes(text));
    by_type_[type].push_back({id, std::string(text), type, std::move(source), std::move(group)});
  }
  std::size_t all() const { return met_.size(); }
  std::size_t left_out() const { return left_out_; }

  /// One of each type in turn; of a type, each next one lies far from those before, so that any number of them is
  /// spread over the whole.
  std::vector<TestQuery> take(std::int64_t most) const {
    std::vector<TestQuery> out;
    for (std::size_t round = 0;; ++round) {
      const std::size_t before = out.size();
      for (const auto& [type, queries] : by_type_) {
        if (most > 0 && static_cast<std::int64_t>(out.size()) == most) return out;
        if (round < queries.size()) out.push_back(queries[round * stride(queries.size()) % queries.size()]);
      }
      if (out.size() == before) return out;
    }
  }

 private:
  /// Near the golden section of `size`, and without a common divisor: multiples of it meet all numbers below `size`.
  static std::size_t stride(std::size_t size) {
    std::size_t out = std::max<std::size_t>(size * 618 / 1000, 1);
    while (std::gcd(out, size) != 1) ++out;
    return out;
  }

  const SeenTexts* const seen_;
  std::size_t left_out_ = 0;
  std::set<std::string, std::less<>> met_;
  std::map<std::string, std::vector<TestQuery>> by_type_;
};

std::vector<std::string_view> cells_of(std::string_view line) {
  std::vector<std::string_view> out;
  for (std::size_t at = 0; at <= line.size();) {
    const std::size_t end = std::min(line.find('\t', at), line.size());
    out.push_back(line.substr(at, end - at));
    at = end + 1;
  }
  return out;
}

std::string text_of(const Json& line, const char* key) {
  const Json* const found = line.find(key);
  return found != nullptr && found->is_string() ? found->as_string() : "";
}

}  // namespace

void SeenTexts::add(const std::vector<Source>& sources) {
  for (const Source& source : sources) {
    for (Index i = 0; i < source.shard->size(); ++i) {
      hashes_.insert(hash_of_words(source.shard->query(i)));
      hashes_.insert(hash_of_words(source.shard->prompt(i)));
    }
  }
}

bool SeenTexts::contains(std::string_view text) const { return hashes_.contains(hash_of_words(text)); }

std::vector<TestQuery> read_queries(const std::filesystem::path& path, std::int64_t most, const SeenTexts& seen) {
  const std::string text = read_file(path);
  const std::string kind = path.extension().string();
  Collector found(&seen);
  BadLines bad(path, "query", count_lines(text));
  std::size_t category = 0;  // the column of a table that is the query's type; 0: none
  for (const auto& [number, line] : Lines(text)) {
    if (const std::string_view fault = fault_of_text(line); !fault.empty() && kind != ".tsv") {
      bad.note(number, fault);
    } else if (kind == ".jsonl") {
      if (trim(line).empty()) continue;
      try {
        const Json json = Json::parse(line);
        found.add(json.at("query").as_string(), text_of(json, "type"), text_of(json, "source"), text_of(json, "id"));
      } catch (const Error& error) {
        bad.note(number, error.what());
      }
    } else if (kind == ".tsv") {
      const std::vector<std::string_view> cells = cells_of(line);
      if (number == 1) {
        const auto named = std::ranges::find_if(cells, [](auto cell) { return lower(trim(cell)) == "category"; });
        category = static_cast<std::size_t>(named - cells.begin());
      } else {
        found.add(cells[0], category > 0 && category < cells.size() ? std::string(trim(cells[category])) : "");
      }
    } else {
      found.add(line);
    }
  }
  if (bad.too_many()) bad.refuse();
  bad.warn();
  std::vector<TestQuery> out = found.take(most);
  if (found.left_out() > 0) {
    if (out.empty()) {
      user_error("{}: the models were trained with all of its {} {}; give others", path.string(), found.all(),
                 plural(static_cast<Index>(found.all()), "query", "queries"));
    }
    warn("{}: {} of {} queries, with which a model was trained, are left out", path.string(), found.left_out(),
         found.all());
  }
  if (out.empty()) user_error("{} holds no query to judge by; write one a line", path.string());
  return out;
}

std::vector<TestQuery> held_out_queries(const std::vector<Source>& sources, std::int64_t most) {
  Collector found;
  for (const Source& source : sources) {
    for (Index i = 0; i < source.shard->size(); ++i) {
      const Pair pair = source.shard->pair(i);
      found.add(pair.query, pair.type, pair.source, pair.id.empty() ? pair.prompt : pair.id);
    }
  }
  return found.take(most);
}

}  // namespace unfurl::train
