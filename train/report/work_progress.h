// How far a piece of work has come: "images 512/1000  51%  0:03 left", one line that is rewritten in place on a
// terminal, else a plain line from time to time.
#pragma once
#include <cstdint>
#include <string>

#include "train/report/progress.h"

namespace unfurl::train {

class WorkProgress {
 public:
  /// `what` are the things that are done, "images"; the first `done` of them were done before.
  WorkProgress(std::string what, std::int64_t done, std::int64_t total,
               Progress::Options options = Progress::standard());
  /// Ends the line on a terminal.
  ~WorkProgress();
  WorkProgress(const WorkProgress&) = delete;
  WorkProgress& operator=(const WorkProgress&) = delete;

  /// `done` are done in all. `note` goes to the line's end. Shows the line where it is time.
  void update(std::int64_t done, const std::string& note = {});

 private:
  Progress::Options options_;
  std::string what_;
  std::int64_t first_, total_;
  double started_, shown_;
  bool on_screen_ = false;
};

}  // namespace unfurl::train
