#include "train/corpus/votes.h"

#include "core/error.h"
#include "core/files.h"
#include "core/lines.h"
#include "train/corpus/bad_lines.h"
#include "train/corpus/fields.h"
#include "train/corpus/text.h"

namespace unfurl::train {
namespace {

std::int64_t count_of(const Json& object, std::string_view name) {
  constexpr std::int64_t kMost = 1'000'000'000'000;
  const Json* found = object.find(name);
  if (found == nullptr || found->is_null()) return 0;
  if (!found->is_integer() || found->as_integer() < 0 || found->as_integer() > kMost) {
    fail("{} must be a whole number from 0 to {}", name, kMost);
  }
  return found->as_integer();
}

Votes votes_of(const Json& object) {
  if (const Json* liked = object.find("liked")) {
    if (!liked->is_bool()) fail("liked must be true or false, got {}", liked->kind());
    return liked->as_bool() ? Votes{.likes = 1} : Votes{.dislikes = 1};
  }
  if (object.find("likes") == nullptr && object.find("dislikes") == nullptr) {
    fail("it has none of likes, dislikes and liked");
  }
  return {.likes = count_of(object, "likes"), .dislikes = count_of(object, "dislikes")};
}

}  // namespace

std::unordered_map<std::string, Votes> read_votes(const std::filesystem::path& path, double bad_line_share) {
  const MappedFile file(path);
  const std::string_view text = file.text();
  if (text.empty()) user_error("{} is empty: it must hold votes, {{\"id\": ..., \"likes\": 3}}", path.string());
  BadLines bad(path, "vote", count_lines(text), {.max_bad_share = bad_line_share});
  std::unordered_map<std::string, Votes> votes;
  for (const auto& [number, line] : Lines(text)) {
    try {
      const Json object = parse_object_line(trim(line));
      const Votes given = votes_of(object);
      Votes& sum = votes[required_id(object)];
      sum.likes += given.likes;
      sum.dislikes += given.dislikes;
    } catch (const Error& error) {
      bad.note(number, error.what());
    }
  }
  if (bad.too_many()) bad.refuse();
  bad.warn();
  return votes;
}

}  // namespace unfurl::train
