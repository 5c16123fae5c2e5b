// A list of images: one JSON object a line, {"id", "caption"?, "source"?, ...}, in the order of the rows of a file of
// embeddings. Further keys are kept.
#pragma once
#include <filesystem>
#include <string>
#include <vector>

#include "kernels/types.h"
#include "train/corpus/embeddings.h"

namespace unfurl::train {

struct ImageRecord {
  Index row = 0;        // of the embeddings; the number of its line, from 0
  std::string id;       // each once
  std::string caption;  // "" where there is none
  std::string source;   // "natural", "generated", or "" where it is not said
  std::string line;     // the object, as it stands in the file
  bool simulated = false;
};

struct ImageList {
  std::filesystem::path path;
  std::vector<ImageRecord> images;  // of the good lines
  Index lines = 0, bad = 0;
};

/// Bad lines are counted and named; an id that was there before is one. Throws UserError where the file cannot be read,
/// is empty, or has more bad lines than the share allows.
ImageList read_images(const std::filesystem::path& path, double bad_line_share);

/// Throws UserError where there is not one line a row.
void require_rows(const ImageList& list, const EmbeddingFile& file);

}  // namespace unfurl::train
