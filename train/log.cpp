#include "train/log.h"

#include <spdlog/sinks/stdout_color_sinks.h>
#include <spdlog/spdlog.h>

namespace unfurl::train {
namespace {

int log_rank = 0;

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

void set_log_rank(int rank) { log_rank = rank; }

void log_line(LogLevel level, std::string_view text) {
  if (log_rank > 0 && level != LogLevel::error) return;
  const auto severity = level == LogLevel::info      ? spdlog::level::info
                        : level == LogLevel::warning ? spdlog::level::warn
                                                     : spdlog::level::err;
  if (log_rank > 0) {
    logger(level).log(severity, "rank {}: {}", log_rank, text);
  } else {
    logger(level).log(severity, "{}", text);
  }
}

}  // namespace unfurl::train
