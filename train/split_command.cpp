#include "train/split_command.h"

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

}  // namespace unfurl::train
