// A command line as words.
#pragma once
#include <string>
#include <string_view>
#include <vector>

namespace unfurl::train {

/// The words of a command, as a POSIX shell splits them: blanks, 'single' and "double" quotes, backslashes; nothing is
/// expanded. Throws UserError for a quote that does not end.
std::vector<std::string> split_command(std::string_view command);

/// The same as a program to start: `unfurl` and `atelier` are this program and the one beside it, by their whole paths;
/// others are as they are named.
std::vector<std::string> program_and_arguments(std::string_view command);

}  // namespace unfurl::train
