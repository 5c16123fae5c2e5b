// Loss spikes, known by the gradient's norm: a step whose norm is far above those of the steps before it.
//
//   limit = mean + threshold * max(deviation, mean / 20)    over the norms of `window` steps, the last two left out
//
// The step before is left out because a device that is not waited for has not told its norm when the next step is
// queued; on every device the same steps count. In the window a norm above the limit counts as the limit: an outlier
// does not hide the next one, and norms that have risen for good are no outliers after a while.
//
// What is done about it (Chowdhery et al., 2022, section 5.1, go back and leave out the batches around a spike):
//
//   continue   a line in the metrics names the batch's pairs
//   skip       and the weights are not updated
//   rewind     and the run goes back to the last regular checkpoint, and on from there with the pairs after the spike;
//              the metrics tell of it in a line of kind "rewind", with "from", the step of the spike
#pragma once
#include <deque>
#include <string>
#include <utility>

#include "core/json.h"
#include "kernels/types.h"
#include "train/recipe/recipe.h"

namespace unfurl::train {

class NormWindow {
 public:
  explicit NormWindow(Index window = 0, double threshold = 0) : window_(window), threshold_(threshold) {}

  /// The greatest norm of a step that is no outlier; infinite where too few are known, or the threshold is 0.
  double limit(Index step) const;
  /// After every step, in order, with the limit it had; norms that are not finite do not count.
  void add(Index step, double norm, double limit);

  Json to_json() const;
  /// Throws Error for what is none.
  void read(const Json& json);

 private:
  Index window_;
  double threshold_;
  std::deque<std::pair<Index, double>> norms_;  // the last ones, with their steps
};

/// The line of the metrics: {"kind": "spike", "step", "gradient_norm", "limit", "policy", "pairs": ["FILE:NUMBER",
/// ...]}
Json spike_line(Index step, double norm, double limit, const std::string& policy, std::vector<std::string> pairs);

}  // namespace unfurl::train
