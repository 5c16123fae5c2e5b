// Signals that ask a long run to stop: it finishes its step, writes a checkpoint and ends.
#pragma once

namespace unfurl::train {

/// Catches SIGINT and SIGTERM until the end of the scope; a second one of the same kind ends the program at once.
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
