// One run of the trainer: its course (trainer.cpp), its checkpoints (run_checkpoints.cpp), and what is done about steps
// that are out of the ordinary (run_spikes.cpp).
#pragma once
#include <deque>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "core/comm/agree.h"
#include "core/files.h"
#include "core/json.h"
#include "train/report/metrics.h"
#include "train/report/progress.h"
#include "train/trainer/checkpoint_writer.h"
#include "train/trainer/open_data.h"
#include "train/trainer/placement.h"
#include "train/trainer/prefix_shares.h"
#include "train/trainer/run_state.h"
#include "train/trainer/step.h"
#include "train/trainer/trainer.h"

namespace unfurl::train {

/// The weights are not finite, on every rank.
class Diverged : public AgreedError {
 public:
  using AgreedError::AgreedError;
};

class Run {
 public:
  Run(Recipe recipe, const TrainSettings& settings);
  TrainOutcome train();

 private:
  void begin();
  void load(const std::optional<std::filesystem::path>& newest);
  void share_product_choices();
  void restore(const std::filesystem::path& checkpoint);
  void start_step();
  void finish_step();
  void note_not_finite(const StepResult& result);
  void note_spike(const StepResult& result, double limit);
  bool rewind();
  void look_around();
  void finish_steps();
  void do_validation();
  void write_samples();
  void begin_checkpoint();
  void finish_checkpoint();
  void finish_begun_checkpoint();
  void try_checkpoint(const std::function<void()>& body);
  void write_prefix_shares();
  void write_run_file(bool finished) const;
  Index trained() const {
    const Parameters& parameters = step_->decoder().parameters();
    return parameters.count() - parameters.count(ParameterGroup::frozen);
  }
  bool is_first() const { return ranks_->rank() == 0; }
  double seconds() const { return seconds_before_ + progress_->seconds(); }
  /// Of the last step that was started.
  Index started() const { return state_.step + step_->under_way(); }

  Recipe recipe_;
  TrainSettings settings_;
  Communicator alone_;
  Communicator* ranks_;  // of which rank 0 alone writes to the folder, but for the parts of checkpoints
  Placement placement_;
  std::filesystem::path folder_;
  std::optional<FolderLock> lock_;
  TrainingData data_;
  std::unique_ptr<TrainStep> step_;
  std::unique_ptr<CheckpointWriter> writer_;
  std::unique_ptr<MetricsWriter> metrics_;
  std::unique_ptr<Progress> progress_;
  PrefixShares prefix_shares_;

  RunState state_;             // its loader, updates and seconds are brought up to date for a checkpoint
  double seconds_before_ = 0;  // of earlier sessions
  Index saved_ = -1;           // the step of the last checkpoint that is whole
  Index begun_ = -1;           // the step of the last that was begun
  int signal_ = 0;             // that stops the run: the greatest that any rank has received
  struct Begun {
    double limit = 0;                    // of its gradient's norm: above it is an outlier
    double prefix_dropout = 0;           // at which it was drawn
    std::vector<std::int64_t> examples;  // of the batch
  };
  std::deque<Begun> begun_steps_;  // those under way
  Index spike_ = 0;                // the step from which to go back; 0: none
  Json spike_line_;                // of the metrics, of that step
  Index rewinds_ = 0;              // since the last checkpoint
};

}  // namespace unfurl::train
