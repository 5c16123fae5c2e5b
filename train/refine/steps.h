// The steps of a stage, each of which makes files that the next one reads: what each was made from, and whether it is
// done. One file, steps.json, that is written whole:
//
//   {"expansions": {"from": "92ab...", "done": true, "note": {...}}, "scores": {"from": "07cd...", "done": false}}
#pragma once
#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "core/json.h"

namespace unfurl::train {

class Steps {
 public:
  /// Of the stage in `folder`. A steps.json that is damaged counts as none.
  explicit Steps(std::filesystem::path folder);

  /// Before the work of a step. Where it was not begun from the same before, its files (names in the folder) are
  /// removed first. True where it is done already and its files are there.
  bool begin(std::string_view step, std::uint64_t from, const std::vector<std::string>& files);
  /// True where it is done, from this, and its files are there.
  bool done(std::string_view step, std::uint64_t from, const std::vector<std::string>& files) const;
  /// True where the step was begun from this.
  bool began_from(std::string_view step, std::uint64_t from) const;
  /// Keeps a note with a step that was begun.
  void keep(std::string_view step, Json note);
  /// The step's files are whole.
  void finish(std::string_view step);
  /// The note of a step; null where there is none.
  const Json& note(std::string_view step) const;

 private:
  void write() const;
  std::filesystem::path folder_;
  Json steps_ = Json::object();
};

}  // namespace unfurl::train
