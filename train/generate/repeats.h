// Segments that a prompt says twice.
#pragma once
#include <string>
#include <string_view>

namespace unfurl::train {

/// `text`, which goes on from `before`, without the segments between its commas that are empty or that `before` or the
/// text itself already has (letter case and spaces around them do not count); each goes with one comma. What is left is
/// byte for byte as it was. The end of a segment that `before` begins always stays; a comma between digits ("1,000")
/// ends none.
std::string without_repeats(std::string_view before, std::string_view text);

}  // namespace unfurl::train
