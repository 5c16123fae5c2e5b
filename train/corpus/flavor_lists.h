// The lists of flavors that prompts are made of when images are inverted, with the embeddings of their texts.
#pragma once
#include <array>
#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "kernels/types.h"

namespace unfurl::train {

/// The lists by name. "flavors" must be there; of the others the classic form takes its parts.
inline constexpr std::array<std::string_view, 5> kFlavorLists = {"flavors", "mediums", "artists", "trendings",
                                                                 "movements"};

struct FlavorLists {
  Index size = 0;                    // numbers of an embedding
  std::vector<std::string> texts;    // list after list; within a list each text once
  std::vector<float> embeddings;     // [texts, size], each of length 1
  std::array<Index, 6> begins = {};  // where the lists begin in `texts`, and the end
  std::vector<Index> same;           // [texts]: the first place of this text, in whichever list
  std::uint64_t fingerprint = 0;     // of all texts and embeddings
  std::size_t repeated = 0;          // lines left out because their list has the text before
  std::size_t unusable = 0;          // lines left out because they are blank or hold a control character

  Index count() const { return static_cast<Index>(texts.size()); }
  const float* row(Index flavor) const { return embeddings.data() + flavor * size; }
};

/// Of a folder with NAME.txt, one flavor a line, and NAME.safetensors or NAME.npy, one row a line. Throws UserError
/// naming the file where one is missing or bad, or where lines and rows, or the sizes of lists, differ.
FlavorLists read_flavor_lists(const std::filesystem::path& folder);

}  // namespace unfurl::train
