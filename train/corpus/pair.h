// Training pairs and the JSONL files they live in: one object a line,
//
//   {"query": "a tower", "prompt": "a tower, oil painting", "prefix": "FLV", "id": "t1", "type": "concrete",
//    "content": ["tower"], "flavors": ["oil painting"], "source": "natural", "simulated": true}
//
// All keys but query and prompt are optional (null counts as absent), an integer id is taken as its digits, and keys
// that are not named here are ignored.
#pragma once
#include <cstddef>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "core/files.h"
#include "core/json.h"
#include "train/corpus/bad_lines.h"

namespace unfurl::train {

struct Pair {
  std::string query, prompt;         // never blank
  std::string prefix;                // a name of kPrefixes, or "" where the pair has none
  std::string id;                    // pairs of one source share it and stay on one side of a split; "" where unknown
  std::string type;                  // how the query was made ("concrete", "abstract", "copy", ...); "" where unknown
  std::vector<std::string> content;  // the content words of the prompt; empty where unknown
  std::vector<std::string> flavors;  // the flavors of the prompt, in order; empty where unknown
  std::string source = {};           // of the image: "natural" or "generated"; "" where there is none, or unknown
  bool simulated = false;            // no real image or model is behind it
  bool operator==(const Pair&) const = default;
};

/// The pair as a JSON object; empty optional members are left out.
Json to_json(const Pair& pair);

/// One line of a pairs file. Throws Error that says why it is not a pair: "empty line", "invalid UTF-8", "not JSON
/// (...)", "not an object, but an array", "query is missing", "query must be a string, got a number", "prompt is
/// empty", "there is no prefix ...".
Pair parse_pair(std::string_view line);

/// Reads a file pair by pair. A bad line is counted and named, never silently dropped: next() throws one UserError when
/// the bad lines are more than the given share of all lines; else the end of the file logs a warning about them.
class PairReader {
 public:
  /// Throws UserError where the file cannot be read or is empty.
  explicit PairReader(const std::filesystem::path& path, BadLineRule rule = {});

  /// The next good pair; false at the end.
  bool next(Pair& pair);

  std::size_t lines() const { return lines_; }  // in the whole file
  std::size_t line() const { return line_; }    // 1-based number of the line last read, 0 before the first
  const BadLines& bad() const { return bad_; }  // so far

 private:
  bool read_line(std::string_view& line);
  [[noreturn]] void give_up();

  MappedFile file_;
  std::size_t offset_ = 0, lines_, line_ = 0;
  BadLines bad_;
  bool warned_ = false;
};

/// All pairs of a file, by a PairReader.
std::vector<Pair> read_pairs(const std::filesystem::path& path, BadLineRule rule = {});

/// Writes a pairs file that appears whole at commit(), or not at all.
class PairWriter {
 public:
  explicit PairWriter(std::filesystem::path path) : file_(std::move(path)) {}
  void write(const Pair& pair);
  void commit() { file_.commit(); }
  std::size_t count() const { return count_; }

 private:
  FileWriter file_;
  std::size_t count_ = 0;
};

}  // namespace unfurl::train
