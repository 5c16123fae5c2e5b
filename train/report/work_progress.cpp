#include "train/report/work_progress.h"

#include <fmt/format.h>

#include <chrono>
#include <cmath>
#include <utility>

namespace unfurl::train {

WorkProgress::WorkProgress(std::string what, std::int64_t done, std::int64_t total, Progress::Options options)
    : options_(std::move(options)), what_(std::move(what)), first_(done), total_(total) {
  if (!options_.now) {
    options_.now = [] {
      return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
    };
  }
  started_ = shown_ = options_.now();
}

WorkProgress::~WorkProgress() {
  if (on_screen_) std::fputc('\n', options_.out);
}

void WorkProgress::update(std::int64_t done, const std::string& note) {
  constexpr double kRefresh = 0.1;  // seconds between two states of a terminal's line
  const double now = options_.now();
  if (now - shown_ < (options_.terminal ? kRefresh : options_.interval) && !(options_.terminal && done >= total_)) {
    return;
  }
  shown_ = now;
  const double left = done > first_
                          ? (now - started_) * static_cast<double>(total_ - done) / static_cast<double>(done - first_)
                          : std::nan("");
  const std::string text =
      fmt::format("{} {}/{}  {}%{}{}  {} left", what_, grouped(done), grouped(total_),
                  total_ > 0 ? 100 * done / total_ : 100, note.empty() ? "" : "  ", note, duration(left));
  fmt::print(options_.out, "{}{}{}", options_.terminal ? "\r" : "", text, options_.terminal ? "\033[K" : "\n");
  std::fflush(options_.out);
  on_screen_ = options_.terminal;
}

}  // namespace unfurl::train
