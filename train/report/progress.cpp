#include "train/report/progress.h"

#include <fmt/format.h>
#include <unistd.h>

#include <chrono>
#include <cmath>

namespace unfurl::train {
namespace {

constexpr double kWindow = 5;     // seconds that the rate looks back
constexpr double kRefresh = 0.1;  // seconds between two states of a terminal's line

double steady_seconds() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

}  // namespace

Progress::Options Progress::standard() {
  Options options;
  options.terminal = ::isatty(STDERR_FILENO) != 0;
  return options;
}

Progress::Progress(std::int64_t first_step, std::int64_t steps, Options options)
    : options_(std::move(options)), step_(first_step), steps_(steps) {
  if (!options_.now) options_.now = steady_seconds;
  started_ = options_.now();
  shown_ = started_;
  marks_.push_back({0, step_, 0});
}

Progress::~Progress() {
  if (on_screen_) std::fputc('\n', options_.out);
}

void Progress::update(std::int64_t step, std::int64_t tokens, double loss) {
  step_ = step;
  tokens_ += tokens;
  loss_ = loss;
  const double at = seconds();
  marks_.push_back({at, step_, tokens_});
  while (marks_.size() > 2 && at - marks_[1].seconds >= kWindow) marks_.pop_front();
  const double now = options_.now();
  if (now - shown_ >= (options_.terminal ? kRefresh : options_.interval) || step_ >= steps_) {
    shown_ = now;
    show();
  }
}

void Progress::pause() {
  if (pause_began_ < 0) pause_began_ = options_.now();
}

void Progress::resume() {
  if (pause_began_ >= 0) paused_ += options_.now() - pause_began_;
  pause_began_ = -1;
}

void Progress::clear() {
  if (on_screen_) std::fputs("\r\033[K", options_.out);
  std::fflush(options_.out);
  on_screen_ = false;
}

double Progress::tokens_per_second() const {
  const Mark &first = marks_.front(), &last = marks_.back();
  return last.seconds > first.seconds ? static_cast<double>(last.tokens - first.tokens) / (last.seconds - first.seconds)
                                      : 0;
}

double Progress::seconds() const {
  const double now = pause_began_ >= 0 ? pause_began_ : options_.now();
  return now - started_ - paused_;
}

std::string Progress::line() const {
  const Mark &first = marks_.front(), &last = marks_.back();
  const double steps_done = static_cast<double>(last.step - first.step);
  const double left =
      steps_done > 0 ? static_cast<double>(steps_ - step_) * (last.seconds - first.seconds) / steps_done : std::nan("");
  return fmt::format("step {}/{}  {}%  loss {:.3f}  {} tokens/s  {} left", step_, steps_,
                     steps_ > 0 ? 100 * step_ / steps_ : 100, loss_, grouped(std::llround(tokens_per_second())),
                     duration(left));
}

void Progress::show() {
  if (options_.quiet) return;
  const std::string text = line();
  if (options_.terminal) {
    fmt::print(options_.out, "\r{}\033[K", text);
  } else {
    fmt::print(options_.out, "{}\n", text);
  }
  std::fflush(options_.out);
  on_screen_ = options_.terminal;
}

std::string duration(double seconds) {
  if (!(seconds >= 0 && seconds < 3.6e6)) return "?";
  const auto all = static_cast<std::int64_t>(std::llround(seconds));
  const std::int64_t hours = all / 3600, minutes = all / 60 % 60;
  return hours > 0 ? fmt::format("{}:{:02}:{:02}", hours, minutes, all % 60)
                   : fmt::format("{}:{:02}", minutes, all % 60);
}

std::string grouped(std::int64_t value) {
  std::string out = fmt::format("{}", value);
  const std::ptrdiff_t first = value < 0 ? 1 : 0;
  for (auto at = static_cast<std::ptrdiff_t>(out.size()) - 3; at > first; at -= 3) {
    out.insert(static_cast<std::size_t>(at), 1, ',');
  }
  return out;
}

}  // namespace unfurl::train
