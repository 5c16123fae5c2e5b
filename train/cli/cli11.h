// What the files that declare commands share. CLI11's header is slow to compile: only train/cli/*arguments.cpp include
// this.
#pragma once
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <filesystem>
#include <string>
#include <vector>

#include "core/names.h"
#include "train/cli/arguments.h"

namespace unfurl::train {

/// Accepts numbers from `low` to `high`, in the words of a recipe's errors.
CLI::Validator from_to(double low, double high, const char* words);

/// Accepts what is not empty: an empty path is one that a script did not fill in.
CLI::Validator not_empty();

/// Accepts the seeds that all commands and recipes share: those that JSON and YAML give back as they are.
CLI::Validator seed();

/// A file or folder.
CLI::Option* add_path(CLI::App& app, const std::string& name, std::filesystem::path& path, const std::string& help,
                      const std::string& type);

CLI::App& add_command(CLI::App& parent, const char* name, const char* what, const char* examples);

/// --threads.
void add_threads(CLI::App& app);

/// --bad-line-share.
void add_bad_line_share(CLI::App& app, double& share, const char* what);

template <class E>
CLI::Option* add_choice(CLI::App& app, const std::string& name, E& value, const std::string& help) {
  const std::vector<std::string> choices = names(value);
  const auto set = [&value, choices](const std::string& text) {
    const auto found = std::ranges::find(choices, text);
    value = static_cast<E>(found - choices.begin());
  };
  const auto check = [choices](std::string& text) -> std::string {
    if (std::ranges::find(choices, text) != choices.end()) return "";
    return fmt::format("must be one of {}, got \"{}\"{}", fmt::join(choices, ", "), text, did_you_mean(text, choices));
  };
  return app.add_option_function<std::string>(name, set, help)
      ->check(CLI::Validator(check, ""))
      ->type_name(fmt::format("{}", fmt::join(choices, "|")))
      ->default_str(to_string(value));
}

/// Takes one of the words; `value` is one of them, or empty for none.
CLI::Option* add_word(CLI::App& app, const std::string& name, std::string& value, std::vector<std::string> choices,
                      const std::string& help);

/// The commands of `unfurl corpus`.
void add_corpus_commands(CLI::App& corpus, Action& action);

}  // namespace unfurl::train
