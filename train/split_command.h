// A command line as words.
#pragma once
#include <string>
#include <string_view>
#include <vector>

namespace unfurl::train {

/// The words of a command, as a POSIX shell splits them: blanks, 'single' and "double" quotes, backslashes; nothing is
/// expanded. Throws UserError for a quote that does not end.
std::vector<std::string> split_command(std::string_view command);

}  // namespace unfurl::train
