#include "train/split_command.h"

#include <filesystem>

#include "core/error.h"

namespace unfurl::train {

std::vector<std::string> split_command(std::string_view command) {
  std::vector<std::string> words;
  bool in_word = false;
  char quote = 0;
  for (std::size_t i = 0; i < command.size(); ++i) {
    const char c = command[i];
    if (quote == 0 && (c == ' ' || c == '\t' || c == '\n')) {
      in_word = false;
      continue;
    }
    if (!in_word) words.emplace_back();
    in_word = true;
    if (quote == 0 && (c == '\'' || c == '"')) {
      quote = c;
    } else if (c == quote) {
      quote = 0;
    } else if (c == '\\' && quote != '\'' && i + 1 < command.size() &&
               (quote == 0 || std::string_view("\\\"$`").find(command[i + 1]) != std::string_view::npos)) {
      words.back() += command[++i];
    } else {
      words.back() += c;
    }
  }
  if (quote != 0) user_error("a command has a quote that does not end: {}", command);
  return words;
}

std::vector<std::string> program_and_arguments(std::string_view command) {
  std::vector<std::string> words = split_command(command);
  if (!words.empty() && (words[0] == "unfurl" || words[0] == "atelier")) {
    std::error_code error;
    const std::filesystem::path beside =
        std::filesystem::read_symlink("/proc/self/exe", error).parent_path() / words[0];
    if (std::filesystem::exists(beside, error)) words[0] = beside.string();
  }
  return words;
}

}  // namespace unfurl::train
