// A run's metrics: one JSON object a line, appended as the run goes on.
//
//   {"kind": "step", "step": 120, "loss": 3.21, "learning_rate": 0.001, "gradient_norm": 0.8, "tokens": 983040, ...}
//   {"kind": "validation", "step": 200, "loss": 3.3, "bits_per_byte": 1.4, ...}
//   {"kind": "sample", "step": 200, "query": "a fox", "prefix": "", "expansions": ["a fox, oil painting", ...]}
#pragma once
#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "core/json.h"

namespace unfurl::train {

struct StepMetrics {
  std::int64_t step = 0;  // done, from 1
  double loss = 0;        // mean over the step's targets, nats
  double learning_rate = 0;
  double gradient_norm = 0;  // before clipping
  std::int64_t tokens = 0;   // seen since the run began
  double tokens_per_second = 0;
  double seconds = 0;  // since the run began, pauses between sessions left out
};

struct ValidationMetrics {
  std::int64_t step = 0;
  double loss = 0;  // nats a target
  double bits_per_byte = 0;
  std::int64_t targets = 0;
  double seconds = 0;  // as in StepMetrics
  bool best = false;   // of the run so far
};

struct SampleMetrics {
  std::int64_t step = 0;
  std::string query, prefix;
  std::vector<std::string> expansions;
};

class MetricsWriter {
 public:
  /// Begins a new file; or, with `resume_step` >= 0, goes on with one: lines of later steps, which a run that was
  /// stopped has written after its last checkpoint, are dropped, and so is a line that was cut off. Throws Error where
  /// the file cannot be written.
  explicit MetricsWriter(std::filesystem::path path, std::int64_t resume_step = -1);
  ~MetricsWriter();
  MetricsWriter(const MetricsWriter&) = delete;
  MetricsWriter& operator=(const MetricsWriter&) = delete;

  /// Each writes one line, whole and at once: a kill leaves whole lines. Where that fails (a full disk) a warning says
  /// so, and the line waits for the next that is written.
  void write(const StepMetrics& metrics);
  void write(const ValidationMetrics& metrics);
  void write(const SampleMetrics& metrics);
  void write(const Json& line);
  /// Writes what waits, and has all of it on disk: before a checkpoint, behind which these steps are not done again.
  void sync();

 private:
  void put();
  std::filesystem::path path_;
  int descriptor_ = -1;
  std::string waiting_;  // lines
  bool warned_ = false;  // of what waits
};

/// The lines of a metrics file. One that is not JSON, such as a last line cut off by a kill, is left out. Throws
/// UserError where the file cannot be read.
std::vector<Json> read_metrics(const std::filesystem::path& path);

}  // namespace unfurl::train
