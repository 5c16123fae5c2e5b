// The word lists of train/corpus/words/, built into the program: text files of sections "[name]" with one entry a line;
// a line that starts with "#" is a comment.
#pragma once
#include <string_view>
#include <vector>

namespace unfurl::train {

struct WordSection {
  std::string_view name;  // "" for a file without sections
  std::vector<std::string_view> entries;
};

/// All sections of words/<file>.txt in order. Throws Error where no such file was built in.
const std::vector<WordSection>& word_file(std::string_view file);

/// One section. Throws Error where it is missing.
const std::vector<std::string_view>& words(std::string_view file, std::string_view section);

/// The class of a noun ("fox" -> "animals"), by the last words of the subjects list; "" where it is not in it. Letter
/// case does not count.
std::string_view class_of_noun(std::string_view noun);

namespace detail {
struct EmbeddedFile {
  std::string_view name, text;
};
/// Ends with an entry whose name is empty. Defined in a file that the build makes from words/*.txt.
extern const EmbeddedFile kWordFiles[];
}  // namespace detail

}  // namespace unfurl::train
