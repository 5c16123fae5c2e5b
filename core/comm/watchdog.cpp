#include "core/comm/watchdog.h"

#include <algorithm>
#include <chrono>
#include <exception>
#include <utility>

#include "core/error.h"

namespace unfurl {

using Clock = std::chrono::steady_clock;

Watchdog::Watchdog(double timeout, Hooks hooks) : timeout_(timeout), hooks_(std::move(hooks)) {
  thread_ = std::thread([this] { watch(); });
}

Watchdog::~Watchdog() {
  {
    const std::lock_guard lock(mutex_);
    stop_ = true;
    changed_.notify_all();
  }
  thread_.join();
}

void Watchdog::add(std::string what, Index number, std::function<bool()> began, std::function<bool()> done) {
  const std::lock_guard lock(mutex_);
  queued_.push_back({std::move(what), number, std::move(began), std::move(done)});
}

bool Watchdog::sleep(double seconds) {
  std::unique_lock lock(mutex_);
  return !changed_.wait_for(lock, std::chrono::duration<double>(seconds), [&] { return stop_; });
}

void Watchdog::watch() {
  hooks_.begin();
  const double pause = std::clamp(timeout_ / 20, 0.001, 0.05);
  bool begun = false;       // the first of those queued may wait,
  Clock::time_point since;  // since then
  std::string what = "the link between the ranks", reason;
  Index number = 0;
  while (reason.empty()) {
    if (!sleep(pause)) return;
    for (;;) {
      Queued first;
      {
        const std::lock_guard lock(mutex_);
        if (queued_.empty()) break;
        first = queued_.front();
      }
      what = first.what, number = first.number;
      try {
        if (!first.done()) {
          if (!begun && first.began()) begun = true, since = Clock::now();
          if (begun && std::chrono::duration<double>(Clock::now() - since).count() > timeout_) {
            reason = fmt::format("has not ended after {:g} seconds", timeout_);
          }
          break;
        }
      } catch (const std::exception& error) {
        reason = fmt::format("failed: {}", error.what());
        break;
      }
      begun = false;
      const std::lock_guard lock(mutex_);
      queued_.pop_front();
    }
    if (const std::string error = hooks_.error(); reason.empty() && !error.empty()) {
      reason = fmt::format("failed: {}", error);
    }
  }
  hooks_.bark(what, number, reason);
  if (sleep(hooks_.patience)) hooks_.unheard();
}

}  // namespace unfurl
