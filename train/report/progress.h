// How far a run has come, for the person who watches: one line that is rewritten in place on a terminal, else a plain
// line from time to time.
//
//   step 120/1000  12%  loss 3.214  4,812 tokens/s  1:23 left
#pragma once
#include <cstdint>
#include <cstdio>
#include <deque>
#include <functional>
#include <string>

namespace unfurl::train {

class Progress {
 public:
  struct Options {
    std::FILE* out = stderr;
    bool terminal = false;        // rewrite the line in place
    bool quiet = false;           // show nothing
    double interval = 10;         // seconds between plain lines; on a terminal the line is fresh every 0.1 s
    std::function<double()> now;  // seconds on a clock of any origin; by default the steady clock
  };
  /// For standard error, as it is: a terminal or not.
  static Options standard();

  Progress(std::int64_t first_step, std::int64_t steps, Options options = standard());
  /// Ends the line on a terminal.
  ~Progress();
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  /// After a step: `step` are done in all, this one has seen `tokens` tokens. Shows the line where it is time.
  void update(std::int64_t step, std::int64_t tokens, double loss);

  /// Between these two time does not count: a validation, a checkpoint.
  void pause();
  void resume();

  /// Takes the line off a terminal, so that other messages can be written; the next update brings it back.
  void clear();

  /// Of the last seconds; 0 before the first update.
  double tokens_per_second() const;
  /// Since the beginning, without the pauses.
  double seconds() const;
  /// The line as it stands.
  std::string line() const;

 private:
  struct Mark {
    double seconds;
    std::int64_t step, tokens;
  };
  void show();

  Options options_;
  std::int64_t step_, steps_, tokens_ = 0;
  double loss_ = 0, started_, paused_ = 0, pause_began_ = -1, shown_;
  bool on_screen_ = false;
  std::deque<Mark> marks_;  // the last seconds, oldest first
};

/// "0:07", "1:23", "2:05:09"; "?" for what is not finite or over 1,000 hours.
std::string duration(double seconds);

/// 1234567 -> "1,234,567".
std::string grouped(std::int64_t value);

}  // namespace unfurl::train
