// The queries that systems are judged on.
#pragma once
#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <unordered_set>
#include <vector>

#include "train/data/loader.h"

namespace unfurl::train {

struct TestQuery {
  std::string id;  // of the query: a hash of its text
  std::string text;
  std::string type = {};    // how the query was made, "" where unknown
  std::string source = {};  // "natural" or "generated" where the file says so
  std::string group = {};   // queries of one prompt have the same and count as one draw; "": a group of its own
};

/// Texts that models were trained with, queries and prompts. Letter case, spaces and punctuation do not count.
class SeenTexts {
 public:
  void add(const std::vector<Source>& sources);
  bool contains(std::string_view text) const;

 private:
  std::unordered_set<std::uint64_t> hashes_;
};

/// From a file: pairs or objects with a "query" in .jsonl (copy pairs left out), the first column below its head in
/// .tsv, else one a line. Each text once; at most `most` (0: all), evenly over their types. Those that were `seen` in
/// training are left out, with a warning. Throws UserError for a file that cannot be read or holds none but these.
std::vector<TestQuery> read_queries(const std::filesystem::path& path, std::int64_t most, const SeenTexts& seen = {});

/// The same of held-out pairs.
std::vector<TestQuery> held_out_queries(const std::vector<Source>& sources, std::int64_t most);

}  // namespace unfurl::train
