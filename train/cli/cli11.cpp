#include "train/cli/cli11.h"

#include <charconv>
#include <cstdint>
#include <cstdlib>

namespace unfurl::train {

CLI::Validator from_to(double low, double high, const char* words) {
  return CLI::Validator(
      [=](std::string& text) -> std::string {
        char* end = nullptr;
        const double value = std::strtod(text.c_str(), &end);
        const bool good = !text.empty() && *end == '\0' && value >= low && value <= high;
        return good ? "" : fmt::format("must be {}, got \"{}\"", words, text);
      },
      "");
}

CLI::Validator not_empty() {
  return CLI::Validator([](std::string& text) -> std::string { return text.empty() ? "must not be empty" : ""; }, "");
}

CLI::Validator seed() {
  return CLI::Validator(
      [](std::string& text) -> std::string {
        std::int64_t value = 0;
        const char* const end = text.data() + text.size();
        const auto [stop, problem] = std::from_chars(text.data(), end, value);
        if (problem == std::errc() && stop == end && value >= 0) return "";
        return fmt::format("must be a whole number from 0 to {}, got \"{}\"", INT64_MAX, text);
      },
      "");
}

CLI::Option* add_path(CLI::App& app, const std::string& name, std::filesystem::path& path, const std::string& help,
                      const std::string& type) {
  return app.add_option(name, path, help)->type_name(type)->check(not_empty());
}

CLI::App& add_command(CLI::App& parent, const char* name, const char* what, const char* examples) {
  CLI::App* const app = parent.add_subcommand(name, what);
  app->option_defaults()->always_capture_default();
  app->footer(fmt::format("Examples:\n{}", examples));
  return *app;
}

void add_threads(CLI::App& app) {
  app.add_option_function<int>(
         "--threads", [](const int& threads) { ::setenv("UNFURL_THREADS", std::to_string(threads).c_str(), 1); },
         "threads to compute with; by default one a core")
      ->check(from_to(1, 1024, "from 1 to 1024"))
      ->type_name("N");
}

void add_bad_line_share(CLI::App& app, double& share, const char* what) {
  app.add_option("--bad-line-share", share, fmt::format("the run ends where more lines than this are no {}", what))
      ->check(from_to(0, 1, "from 0 to 1"));
}

CLI::Option* add_word(CLI::App& app, const std::string& name, std::string& value, std::vector<std::string> choices,
                      const std::string& help) {
  const auto check = [choices](std::string& text) -> std::string {
    if (std::ranges::find(choices, text) != choices.end()) return "";
    return fmt::format("must be one of {}, got \"{}\"{}", fmt::join(choices, ", "), text, did_you_mean(text, choices));
  };
  return app.add_option(name, value, help)
      ->check(CLI::Validator(check, ""))
      ->type_name(fmt::format("{}", fmt::join(choices, "|")));
}

}  // namespace unfurl::train
