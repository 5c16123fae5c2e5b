// Checkpoints of a run.
//
//   RUN/step-000200/   model.safetensors            weights, f32, by name (joint projections as their parts)
//                      optimizer-I-of-R.safetensors  the optimiser's state, flat: the parts of rank I of R, in the
//                                                  buckets (core/comm/buckets.h) that state.json tells
//                      tokenizer.model
//                      state.json                   everything else, sizes and checksums of the files above, and last
//                                                  the checksum of its own text
//
// checkpoint_writer.h writes them.
#pragma once
#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "core/json.h"
#include "core/optim/optimizer.h"
#include "core/parameters.h"

namespace unfurl::train {

/// A tensor of a file that is written: `columns` of every row.
struct NamedTensor {
  std::string name;
  Tensor tensor;  // f32, or a column slice of one, on any device
};

/// The parameters' masters by name, joint ones as their parts; where ranks share them, within a WholeMasters. Who
/// writes to them calls Parameters::round_values().
std::vector<NamedTensor> named_tensors(const Parameters& parameters);

/// Writes tensors of f32 as they are named.
void write_tensors(const std::filesystem::path& path, const std::vector<NamedTensor>& tensors);

/// Fills the tensors from a file that holds exactly these. Throws UserError naming the first that is missing, of
/// another shape, or too many.
void read_tensors(const std::filesystem::path& path, const std::vector<NamedTensor>& tensors);

/// Fills an optimiser's state, which may be a part of the whole, from the files of a checkpoint, by however many ranks
/// they were written. Throws UserError as read_tensors does.
void read_optimizer(const std::filesystem::path& checkpoint, const std::vector<StateTensor>& state);

// The files of a checkpoint.
// 1, of one bucket, and 2, without a checksum of state.json, are read too.
inline constexpr std::int64_t kCheckpointFormat = 3;
inline constexpr const char* kModelFile = "model.safetensors";
inline constexpr const char* kTokenizerFile = "tokenizer.model";
inline constexpr const char* kStateFile = "state.json";
std::string optimizer_file(int part, int parts);
/// What ends the name of a folder that is not whole yet, and of one that is being removed.
inline constexpr const char* kUnfinished = ".tmp";
inline constexpr const char* kRemoved = ".old";

/// The text of state.json: its last member, "xxh3", is the checksum of all text before it.
std::string sealed(const Json& state);

/// For state.json: the elements of a bucket of each state that is kept in parts, by name.
inline constexpr const char* kBuckets = "optimizer_buckets";
Json bucket_sizes(const std::vector<StateTensor>& state);

/// In how many parts an optimiser's state is kept: one a rank, or one where every rank has all of it.
int parts_of(const std::vector<StateTensor>& state, int ranks);

/// The steps of a run that have a checkpoint, whole or not, ascending.
std::vector<Index> checkpoint_steps(const std::filesystem::path& run);
std::filesystem::path checkpoint_path(const std::filesystem::path& run, Index step);

/// A checkpoint that a newer version of this program has written: not damaged, and not to be passed over.
class NewerCheckpoint : public UserError {
 public:
  using UserError::UserError;
};

/// Reads state.json and checks its own checksum. Throws UserError where it is damaged, NewerCheckpoint.
Json read_state(const std::filesystem::path& checkpoint);

enum class Checked {
  all,   // files
  model  // and tokenizer: who only reads these needs no more, and the optimiser's state is twice their size
};
/// The same, and checks sizes and checksums of the files. Throws UserError naming what is damaged.
Json verify_checkpoint(const std::filesystem::path& checkpoint, Checked checked = Checked::all);

/// The newest whole checkpoint, of the steps that are `wanted`; damaged newer ones are named in warnings. Nothing where
/// there is none. Throws NewerCheckpoint.
std::optional<std::filesystem::path> newest_checkpoint(const std::filesystem::path& run,
                                                       const std::function<bool(Index)>& wanted = {});

/// What `path` means: a checkpoint folder itself, or a run's best checkpoint (as its run.json says), else its newest.
/// Throws UserError where there is none, or none is whole.
std::filesystem::path resolve_checkpoint(const std::filesystem::path& path);

struct KeptCheckpoints {
  Index newest = 2;  // so many
  Index every = 0;   // those of steps that this divides; 0: none
  Index best = 0;    // of this step
};
/// Removes all other checkpoints. All that are there are taken to be whole: a run that goes on removes later ones
/// first.
void prune_checkpoints(const std::filesystem::path& run, const KeptCheckpoints& kept);

/// Removes those of later steps: a run that goes on from this one makes them again. Throws Error where one stays.
void remove_checkpoints_after(const std::filesystem::path& run, Index step);

/// Removes a checkpoint, if it is there, so that a kill on the way leaves it whole or unfinished. Throws Error.
void remove_checkpoint(const std::filesystem::path& checkpoint);

/// Removes what killed runs left half-written or half-removed.
void remove_unfinished_checkpoints(const std::filesystem::path& run);

}  // namespace unfurl::train
