#include "core/device.h"
#include "train/log.h"
#include "train/trainer/checkpoint.h"
#include "train/trainer/run.h"
#include "train/trainer/run_files.h"

namespace unfurl::train {

/// None is under way.
void Run::begin_checkpoint() {
  state_.updates = step_->optimizer().steps();
  state_.seconds = seconds();
  state_.loader = data_.loader->state();
  state_.placement = described(placement_);
  state_.products = placement_.device == Device::cuda ? product_choices() : ProductChoices();
  const std::unique_ptr<WholeMasters> masters = step_->ranks().gather_masters();
  write_prefix_shares();  // before the checkpoint is there: a run that goes on from it counts from it
  CheckpointContent content;
  content.step = begun_ = state_.step;
  if (is_first()) content.model = named_tensors(step_->decoder().parameters());
  content.optimizer = step_->optimizer().state();
  content.tokenizer = data_.tokenizer_path;
  content.state = to_json(state_, recipe_, data_.prepared.fingerprint);
  writer_->begin(std::move(content), CheckpointWriter::Tensors::copied);
}

/// Throws Diverged, Error where the disk does not take it.
void Run::finish_checkpoint() {
  if (metrics_) metrics_->sync();
  try {
    writer_->finish();
  } catch (const NotFinite& error) {
    throw Diverged(error.what());
  }
  saved_ = begun_;
  rewinds_ = 0;
  if (!is_first()) return;
  try {
    prune_checkpoints(folder_, {recipe_.train.keep, recipe_.train.keep_every, state_.best_step});
    write_run_file(false);
  } catch (const std::exception& error) {  // the checkpoint is whole, and the other ranks know nothing of this
    progress_->clear();
    warn("after the checkpoint of step {}: {}", saved_, error.what());
  }
}

void Run::finish_begun_checkpoint() {
  if (writer_->busy()) try_checkpoint([&] { finish_checkpoint(); });
}

/// A disk that does not take a checkpoint does not end the run.
void Run::try_checkpoint(const std::function<void()>& body) {
  progress_->pause();
  try {
    body();
  } catch (const Diverged&) {  // no step mends them
    throw;
  } catch (const Error& error) {
    progress_->clear();
    warn("{}; training goes on", error.what());
  }
  progress_->resume();
}

}  // namespace unfurl::train
