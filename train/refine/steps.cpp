#include "train/refine/steps.h"

#include <fmt/format.h>

#include <algorithm>

#include "core/error.h"
#include "core/files.h"

namespace unfurl::train {
namespace {

constexpr const char* kFile = "steps.json";

}  // namespace

Steps::Steps(std::filesystem::path folder) : folder_(std::move(folder)) {
  if (!std::filesystem::is_regular_file(folder_ / kFile)) return;
  try {
    Json read = Json::parse(read_file(folder_ / kFile));
    if (read.is_object()) steps_ = std::move(read);
  } catch (const Error&) {  // what it said is lost: the steps begin anew
  }
}

bool Steps::begin(std::string_view step, std::uint64_t from, const std::vector<std::string>& files) {
  const std::string made_from = fmt::format("{:016x}", from);
  if (began_from(step, from)) return done(step, from, files);
  // First what was there, then the new name for it: a kill between the two leaves an old name and no files.
  for (const std::string& file : files) std::filesystem::remove(folder_ / file);
  steps_[step] = Json(Json::Object{{"from", made_from}, {"done", false}});
  write();
  return false;
}

bool Steps::done(std::string_view step, std::uint64_t from, const std::vector<std::string>& files) const {
  if (!began_from(step, from)) return false;
  const Json* said = steps_.find(step)->find("done");
  return said != nullptr && *said == Json(true) && std::all_of(files.begin(), files.end(), [&](const auto& file) {
           return std::filesystem::exists(folder_ / file);
         });
}

bool Steps::began_from(std::string_view step, std::uint64_t from) const {
  const Json* found = steps_.find(step);
  const Json* before = found == nullptr ? nullptr : found->find("from");
  return before != nullptr && *before == Json(fmt::format("{:016x}", from));
}

void Steps::keep(std::string_view step, Json note) {
  steps_[step]["note"] = std::move(note);
  write();
}

void Steps::finish(std::string_view step) {
  steps_[step]["done"] = true;
  write();
}

const Json& Steps::note(std::string_view step) const {
  static const Json none;
  const Json* found = steps_.find(step);
  const Json* kept = found == nullptr ? nullptr : found->find("note");
  return kept == nullptr ? none : *kept;
}

void Steps::write() const { write_file(folder_ / kFile, steps_.dump(2) + "\n"); }

}  // namespace unfurl::train
