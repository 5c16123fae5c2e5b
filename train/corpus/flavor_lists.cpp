#include "train/corpus/flavor_lists.h"

#include <unordered_map>
#include <unordered_set>

#include "core/error.h"
#include "core/files.h"
#include "core/lines.h"
#include "core/names.h"
#include "train/corpus/bad_lines.h"
#include "train/corpus/embeddings.h"
#include "train/corpus/text.h"

namespace unfurl::train {
namespace {

namespace fs = std::filesystem;

std::vector<std::string> read_lines(const fs::path& path) {
  const std::string text = read_file(path);
  std::vector<std::string> lines;
  for (const auto& [number, line] : Lines(text)) {
    lines.emplace_back(trim(line));
    if (!valid_utf8(lines.back())) user_error("{}:{}: invalid UTF-8", path.string(), number);
    if (!fault_of_text(lines.back()).empty()) lines.back().clear();  // of no use, as a blank line
  }
  return lines;
}

fs::path embeddings_of(const fs::path& folder, std::string_view name) {
  const fs::path safetensors = folder / (std::string(name) + ".safetensors"),
                 npy = folder / (std::string(name) + ".npy");
  if (fs::exists(safetensors)) return safetensors;
  if (fs::exists(npy)) return npy;
  user_error("{} has {}.txt, but neither {}.safetensors nor {}.npy with its embeddings", folder.string(), name, name,
             name);
}

}  // namespace

FlavorLists read_flavor_lists(const fs::path& folder) {
  FlavorLists lists;
  std::unordered_map<std::string, Index> places;
  for (std::size_t l = 0; l < kFlavorLists.size(); ++l) {
    const std::string name(kFlavorLists[l]);
    const fs::path path = folder / (name + ".txt");
    lists.begins[l] = lists.count();
    if (!fs::exists(path)) {
      if (l == 0) user_error("{} is missing: the flavors, one a line", path.string());
      continue;
    }
    const std::vector<std::string> lines = read_lines(path);
    const EmbeddingFile file(embeddings_of(folder, name));
    if (file.rows() != static_cast<Index>(lines.size())) {
      user_error("{} has {} {}, but {} has {} {}: there must be one line a row, in the same order", path.string(),
                 lines.size(), plural(static_cast<Index>(lines.size()), "line"), file.path().string(), file.rows(),
                 plural(file.rows(), "row"));
    }
    if (lists.size == 0) lists.size = file.cols();
    if (lists.size != file.cols()) {
      user_error("{} has embeddings of {} numbers, but the flavors' have {}", file.path().string(), file.cols(),
                 lists.size);
    }
    const std::vector<float> rows = read_unit_rows(file);
    std::unordered_set<std::string> here;  // texts of this list that another has too
    lists.embeddings.reserve(lists.embeddings.size() + rows.size());
    for (std::size_t i = 0; i < lines.size(); ++i) {
      lists.fingerprint = hash_bytes(lines[i], lists.fingerprint);
      if (lines[i].empty()) {
        ++lists.unusable;
        continue;
      }
      const Index place = places.emplace(lines[i], lists.count()).first->second;
      if (place >= lists.begins[l] && place < lists.count()) {
        ++lists.repeated;
        continue;
      }
      if (place < lists.begins[l] && !here.insert(lines[i]).second) {
        ++lists.repeated;
        continue;
      }
      lists.same.push_back(place);
      lists.texts.push_back(lines[i]);
      const auto row = rows.begin() + static_cast<std::ptrdiff_t>(i) * lists.size;
      lists.embeddings.insert(lists.embeddings.end(), row, row + lists.size);
    }
    lists.fingerprint = hash_bytes(name, lists.fingerprint ^ file.fingerprint());
  }
  lists.begins.back() = lists.count();
  return lists;
}

}  // namespace unfurl::train
