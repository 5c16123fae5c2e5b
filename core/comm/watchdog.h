// Looks, in a thread of its own, after what is queued on a device and waits there for other ranks: nobody on the host
// does.
#pragma once
#include <condition_variable>
#include <deque>
#include <functional>
#include <mutex>
#include <string>
#include <thread>

#include "kernels/types.h"

namespace unfurl {

class Watchdog {
 public:
  struct Hooks {
    std::function<void()> begin;         // first thing in the thread
    std::function<std::string()> error;  // what went wrong meanwhile, "" if nothing
    /// Something went wrong, or has not ended: called once, and the watchdog looks no more.
    std::function<void(const std::string& what, Index number, const std::string& reason)> bark;
    /// The watchdog is still there `patience` seconds later.
    std::function<void()> unheard;
    double patience = 60;
  };
  /// `timeout` seconds.
  Watchdog(double timeout, Hooks hooks);
  ~Watchdog();
  Watchdog(const Watchdog&) = delete;
  Watchdog& operator=(const Watchdog&) = delete;

  /// Something was queued, behind what was added before: it may wait for other ranks as soon as began(), and `timeout`
  /// seconds later it must be done(). Both are called in the watchdog's thread; what they throw went wrong.
  void add(std::string what, Index number, std::function<bool()> began, std::function<bool()> done);

 private:
  struct Queued {
    std::string what;
    Index number;
    std::function<bool()> began, done;
  };
  void watch();
  /// False where the watchdog is to end.
  bool sleep(double seconds);

  const double timeout_;
  const Hooks hooks_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<Queued> queued_;
  bool stop_ = false;
  std::thread thread_;
};

}  // namespace unfurl
