// Checkpoints of a run.
//
//   RUN/step-000200/   model.safetensors            weights, f32, by name (joint projections as their parts)
//                      optimizer-I-of-R.safetensors  the optimiser's state, flat: the part of rank I of R
//                      tokenizer.model
//                      state.json                   everything else, and sizes and checksums of the files above
//
// A checkpoint is written aside, synced and renamed: whatever moment a run is killed at, each step-N folder is whole.
#pragma once
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "core/comm/communicator.h"
#include "core/error.h"
#include "core/json.h"
#include "core/optim/optimizer.h"
#include "core/parameters.h"

namespace unfurl::train {

/// A tensor of a file that is written: `columns` of every row.
struct NamedTensor {
  std::string name;
  Tensor tensor;  // f32, or a column slice of one, on any device
};

/// The parameters' masters by name, joint ones as their parts. Who writes to them calls Parameters::round_values().
std::vector<NamedTensor> named_tensors(const Parameters& parameters);

/// Writes tensors of f32 as they are named.
void write_tensors(const std::filesystem::path& path, const std::vector<NamedTensor>& tensors);

/// Fills the tensors from a file that holds exactly these. Throws UserError naming the first that is missing, of
/// another shape, or too many.
void read_tensors(const std::filesystem::path& path, const std::vector<NamedTensor>& tensors);

/// Fills an optimiser's state, which may be a part of the whole, from the files of a checkpoint, by however many ranks
/// they were written. Throws UserError as read_tensors does.
void read_optimizer(const std::filesystem::path& checkpoint, const std::vector<StateTensor>& state);

struct CheckpointContent {
  Index step = 0;
  std::vector<NamedTensor> model;
  std::vector<StateTensor> optimizer;  // of this rank
  std::filesystem::path tokenizer;
  Json state;  // completed with "format", "step" and "files"
};

/// The weights have diverged: no checkpoint is made of them, now or later.
class NotFinite : public Error {
 public:
  using Error::Error;
};

/// Writes `run`/step-N and returns its path. Throws NotFinite where a weight is NaN or infinite, Error where the disk
/// does not take it; what was there before stays then, and nothing else is left. All ranks call it; each writes its
/// part of the optimiser's state, rank 0 all else, and they succeed or fail together.
std::filesystem::path write_checkpoint(const std::filesystem::path& run, const CheckpointContent& content,
                                       Communicator& communicator);

/// The steps of a run that have a checkpoint, ascending.
std::vector<Index> checkpoint_steps(const std::filesystem::path& run);
std::filesystem::path checkpoint_path(const std::filesystem::path& run, Index step);

/// Reads state.json and checks sizes and checksums of all files. Throws UserError naming what is damaged.
Json verify_checkpoint(const std::filesystem::path& checkpoint);

/// The newest whole checkpoint; damaged newer ones are named in warnings. Nothing where there is none.
std::optional<std::filesystem::path> newest_checkpoint(const std::filesystem::path& run);

/// What `path` means: a checkpoint folder itself, or a run's best checkpoint (as its run.json says), else its newest.
/// Throws UserError where there is none, or none is whole.
std::filesystem::path resolve_checkpoint(const std::filesystem::path& path);

/// Removes all but the newest `keep` checkpoints and the one of step `best`, and what killed runs left half-written.
void prune_checkpoints(const std::filesystem::path& run, Index keep, Index best);

}  // namespace unfurl::train
