// A record of what ran when, written in Chrome's trace format (open it in chrome://tracing or ui.perfetto.dev).
#pragma once
#include <chrono>
#include <filesystem>
#include <functional>

namespace unfurl {

class Trace {
 public:
  /// From here on scopes are recorded. At most a million events are kept. settle() is called at both ends of each
  /// scope: where it waits for a device, a scope's time is that of the work queued in it.
  static void start(std::function<void()> settle = {});
  static bool active();
  /// Writes what was recorded, as JSON, and stops.
  static void write(const std::filesystem::path& path);
};

/// One event, from construction to destruction, where a trace is active. `name` must outlive the trace (a literal).
class TraceScope {
 public:
  explicit TraceScope(const char* name);
  ~TraceScope();
  TraceScope(const TraceScope&) = delete;
  TraceScope& operator=(const TraceScope&) = delete;

 private:
  const char* name_;
  std::chrono::steady_clock::time_point start_;
};

}  // namespace unfurl
