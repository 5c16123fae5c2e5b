#include "train/corpus/images.h"

#include <unordered_set>

#include "core/error.h"
#include "core/files.h"
#include "core/lines.h"
#include "core/names.h"
#include "train/corpus/bad_lines.h"
#include "train/corpus/fields.h"
#include "train/corpus/text.h"

namespace unfurl::train {

ImageList read_images(const std::filesystem::path& path, double bad_line_share) {
  const MappedFile file(path);
  const std::string_view text = file.text();
  if (text.empty()) user_error("{} is empty: it must hold one image a line, {{\"id\": ...}}", path.string());
  ImageList list;
  list.path = path;
  BadLines bad(path, "image", count_lines(text), {.max_bad_share = bad_line_share});
  std::unordered_set<std::string> seen;
  for (const auto& [number, whole] : Lines(text)) {
    const std::string_view line = trim(whole);
    list.lines = static_cast<Index>(number);
    try {
      const Json object = parse_object_line(line);
      ImageRecord image{.row = list.lines - 1,
                        .id = required_id(object),
                        .caption = std::string(trim(optional_text(object, "caption"))),
                        .source = optional_text(object, "source"),
                        .line = std::string(line),
                        .simulated = is_simulated(object)};
      if (!image.source.empty() && !is_source(image.source)) {
        fail("source must be natural or generated, got \"{}\"", image.source);
      }
      if (!seen.insert(image.id).second) fail("the id \"{}\" is there twice", image.id);
      list.images.push_back(std::move(image));
    } catch (const Error& error) {
      bad.note(number, error.what());
    }
  }
  if (bad.too_many()) bad.refuse();
  bad.warn();
  list.bad = static_cast<Index>(bad.count());
  return list;
}

void require_rows(const ImageList& list, const EmbeddingFile& file) {
  if (list.lines == file.rows()) return;
  user_error("{} has {} {}, but {} has {} {}: there must be one line a row, in the same order", list.path.string(),
             list.lines, plural(list.lines, "line"), file.path().string(), file.rows(), plural(file.rows(), "row"));
}

}  // namespace unfurl::train
