// The queries that systems are judged on.
#pragma once
#include <cstdint>
#include <filesystem>
#include <string>
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

/// From a file: pairs or objects with a "query" in .jsonl (copy pairs left out), the first column below its head in
/// .tsv, else one a line. Each text once; at most `most` (0: all), evenly over their types. Throws UserError for a file
/// that cannot be read or holds none.
std::vector<TestQuery> read_queries(const std::filesystem::path& path, std::int64_t most);

/// The same of held-out pairs.
std::vector<TestQuery> held_out_queries(const std::vector<Source>& sources, std::int64_t most);

}  // namespace unfurl::train
