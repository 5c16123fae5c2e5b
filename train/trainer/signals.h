// Signals that ask the program to stop: a training run finishes its step, writes a checkpoint and ends; anything else
// ends at once, and leaves no half-written file.
#pragma once

namespace unfurl::train {

/// From now on SIGINT, SIGTERM and SIGHUP remove unfinished files before they end the program, as they would have. A
/// signal that is ignored stays so.
void end_without_half_written_files();

/// Catches SIGINT and SIGTERM until the end of the scope; a second one of the same kind does what it did before.
class StopSignals {
 public:
  StopSignals();
  ~StopSignals();
  StopSignals(const StopSignals&) = delete;
  StopSignals& operator=(const StopSignals&) = delete;

  /// The signal that came, or 0.
  static int received();
};

}  // namespace unfurl::train
