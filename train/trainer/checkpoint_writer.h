// Checkpoints written while training goes on.
//
//   begin()      copies what is to be written, a moment; a thread of each rank then writes that rank's files
//   written()    true when this rank's files are on the disk, or cannot be
//   finish()     all ranks: compares notes; rank 0 adds state.json and gives the folder its name
//
// Whatever moment a run is killed at, each step-N folder is whole.
#pragma once
#include <filesystem>
#include <future>
#include <string>
#include <vector>

#include "core/comm/communicator.h"
#include "core/error.h"
#include "train/trainer/checkpoint.h"

namespace unfurl::train {

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

class CheckpointWriter {
 public:
  /// For checkpoints in the folder `run`, of which all ranks write their parts.
  CheckpointWriter(std::filesystem::path run, Communicator& ranks);
  /// Waits for the thread; a checkpoint that was not finished leaves nothing.
  ~CheckpointWriter();
  CheckpointWriter(const CheckpointWriter&) = delete;
  CheckpointWriter& operator=(const CheckpointWriter&) = delete;

  enum class Tensors {
    copied,  // at once: they may change as soon as begin() returns
    shared   // they are left alone until finish() returns
  };
  /// All ranks, and none is busy.
  void begin(CheckpointContent content, Tensors tensors);
  /// Between begin() and finish().
  bool busy() const { return files_.valid(); }
  /// Whether finish() needs not wait for this rank.
  bool written() const;
  /// All ranks, each of them busy. Returns the new folder. Throws NotFinite where a weight is NaN or infinite, Error
  /// where a disk does not take it, tried several times; what was there before stays then, and nothing else is left.
  /// Ranks succeed or fail together.
  std::filesystem::path finish();

 private:
  /// What a rank has to tell of its files.
  struct Files {
    Json entries;  // by name: size and checksum
    std::string error;
    bool not_finite = false;
  };
  Files write() const;
  void commit(const Json& entries) const;
  void copy_tensors();

  std::filesystem::path run_, aside_, target_;
  Communicator& ranks_;
  CheckpointContent content_;
  std::vector<Tensor> copies_;  // kept for the next checkpoint: new pages cost more than the copy
  std::future<Files> files_;
};

/// Writes `run`/step-N and returns its path. Throws as CheckpointWriter::finish does.
std::filesystem::path write_checkpoint(const std::filesystem::path& run, const CheckpointContent& content,
                                       Communicator& ranks);

}  // namespace unfurl::train
