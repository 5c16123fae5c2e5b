#include "core/trace.h"

#include <fmt/format.h>

#include <atomic>
#include <mutex>
#include <vector>

#include "core/files.h"

namespace unfurl {
namespace {

using Clock = std::chrono::steady_clock;

struct Event {
  const char* name;
  Clock::time_point start;
  Clock::duration duration;
};

constexpr std::size_t kMaxEvents = 1'000'000;

std::atomic<bool> recording{false};
std::mutex mutex;
std::vector<Event> events;
Clock::time_point origin;
std::function<void()> settle;

double microseconds(Clock::duration duration) { return std::chrono::duration<double, std::micro>(duration).count(); }

}  // namespace

void Trace::start(std::function<void()> at_both_ends) {
  const std::lock_guard lock(mutex);
  settle = std::move(at_both_ends);
  events.clear();
  origin = Clock::now();
  recording = true;
}

bool Trace::active() { return recording.load(std::memory_order_relaxed); }

void Trace::write(const std::filesystem::path& path) {
  const std::lock_guard lock(mutex);
  recording = false;
  std::string text = "{\"traceEvents\":[";
  const char* separator = "\n";
  for (const Event& event : events) {
    text += fmt::format("{}{{\"name\":\"{}\",\"ph\":\"X\",\"pid\":0,\"tid\":0,\"ts\":{:.3f},\"dur\":{:.3f}}}",
                        separator, event.name, microseconds(event.start - origin), microseconds(event.duration));
    separator = ",\n";
  }
  text += "\n],\"displayTimeUnit\":\"ms\"}\n";
  write_file(path, text);
  events.clear();
}

TraceScope::TraceScope(const char* name) : name_(Trace::active() ? name : nullptr) {
  if (name_ == nullptr) return;
  if (settle) settle();
  start_ = Clock::now();
}

TraceScope::~TraceScope() {
  if (name_ == nullptr) return;
  if (settle) settle();
  const auto end = Clock::now();
  const std::lock_guard lock(mutex);
  if (recording && events.size() < kMaxEvents) events.push_back({name_, start_, end - start_});
}

}  // namespace unfurl
