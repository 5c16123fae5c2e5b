// Messages to the person who runs the program, on standard error.
#pragma once
#include <fmt/core.h>

#include <string>
#include <string_view>

namespace unfurl::train {

enum class LogLevel { info, warning, error };

/// From now on this process is that rank of several: only rank 0 writes infos and warnings, and the errors of the
/// others begin with "rank R: ".
void set_log_rank(int rank);

/// Writes one line: plain for info, "warning: ..." or "error: ..." otherwise, coloured on a terminal.
void log_line(LogLevel level, std::string_view text);

template <class... Args>
void info(fmt::format_string<Args...> format, Args&&... args) {
  log_line(LogLevel::info, fmt::format(format, std::forward<Args>(args)...));
}
template <class... Args>
void warn(fmt::format_string<Args...> format, Args&&... args) {
  log_line(LogLevel::warning, fmt::format(format, std::forward<Args>(args)...));
}
template <class... Args>
void report_error(fmt::format_string<Args...> format, Args&&... args) {
  log_line(LogLevel::error, fmt::format(format, std::forward<Args>(args)...));
}

}  // namespace unfurl::train
