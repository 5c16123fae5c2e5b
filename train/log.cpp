#include "train/log.h"

#include <spdlog/sinks/stdout_color_sinks.h>
#include <spdlog/spdlog.h>

namespace unfurl::train {
namespace {

spdlog::logger& logger(LogLevel level) {
  const auto make = [](const char* name, const char* pattern) {
    auto made = spdlog::stderr_color_mt(name);
    made->set_pattern(pattern);
    return made;
  };
  static const auto plain = make("info", "%v");
  static const auto warning = make("warning", "%^warning:%$ %v");
  static const auto error = make("error", "%^error:%$ %v");
  return level == LogLevel::info ? *plain : level == LogLevel::warning ? *warning : *error;
}

}  // namespace

void log_line(LogLevel level, std::string_view text) {
  const auto severity = level == LogLevel::info      ? spdlog::level::info
                        : level == LogLevel::warning ? spdlog::level::warn
                                                     : spdlog::level::err;
  logger(level).log(severity, "{}", text);
}

}  // namespace unfurl::train
