// What users thought of images: one JSON object a line, {"id", "likes"?, "dislikes"?} with counts, or {"id", "liked":
// true} for one user's vote. Lines of one id add up.
#pragma once
#include <cstdint>
#include <filesystem>
#include <string>
#include <unordered_map>

namespace unfurl::train {

struct Votes {
  std::int64_t likes = 0, dislikes = 0;
};

/// By id. Bad lines are counted and named. Throws UserError where the file cannot be read, is empty, or has more bad
/// lines than the share allows.
std::unordered_map<std::string, Votes> read_votes(const std::filesystem::path& path, double bad_line_share);

}  // namespace unfurl::train
