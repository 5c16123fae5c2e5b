#include "train/trainer/checkpoint_writer.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <thread>

#include "core/comm/agree.h"
#include "core/copy.h"
#include "core/files.h"

namespace unfurl::train {
namespace {

namespace fs = std::filesystem;

constexpr std::chrono::milliseconds kPauses[] = {std::chrono::milliseconds(250), std::chrono::milliseconds(1000)};

bool is_finite(const Tensor& anywhere) {
  const Tensor tensor = anywhere.to(Device::cpu);
  const auto matrix = tensor.matrix<float>();
  for (Index r = 0; r < tensor.rows(); ++r) {
    const float* row = matrix.row(r);
    if (!std::all_of(row, row + tensor.cols(), [](float value) { return std::isfinite(value); })) return false;
  }
  return true;
}

void require_finite(const fs::path& run, const CheckpointContent& content) {
  for (const NamedTensor& named : content.model) {
    if (is_finite(named.tensor)) continue;
    const std::vector<Index> before = checkpoint_steps(run);
    const std::string other = before.empty() ? ""
                                             : fmt::format(", or with start: {} and another output",
                                                           checkpoint_path(run, before.back()).string());
    throw NotFinite(
        fmt::format("step {}: the weights \"{}\" are not finite, and no checkpoint is made of them; lower "
                    "optimizer.learning_rate, and start over with --fresh{}",
                    content.step, named.name, other));
  }
}

Json entry_of(const fs::path& path) {
  const MappedFile file(path);
  return Json::Object{{"bytes", static_cast<std::int64_t>(file.size())},
                      {"xxh3", fmt::format("{:016x}", hash_bytes(file.text()))}};
}

}  // namespace

CheckpointWriter::CheckpointWriter(fs::path run, Communicator& ranks) : run_(std::move(run)), ranks_(ranks) {}

CheckpointWriter::~CheckpointWriter() {
  if (!busy()) return;
  files_.wait();
  std::error_code ignored;
  if (ranks_.rank() == 0) fs::remove_all(aside_, ignored);
}

void CheckpointWriter::copy_tensors() {
  const MemoryName memory("checkpoint");
  std::size_t next = 0;
  const auto copied = [&](const Tensor& tensor) {
    if (next == copies_.size()) copies_.push_back(Tensor::zeros(tensor.shape(), tensor.dtype(), Device::cpu));
    const Tensor& copy = copies_[next++];
    copy_into(copy, tensor);
    return copy;
  };
  for (StateTensor& state : content_.optimizer) state.tensor = copied(state.tensor);
  for (NamedTensor& named : content_.model) named.tensor = copied(named.tensor);
}

void CheckpointWriter::begin(CheckpointContent content, Tensors tensors) {
  require(!busy(), "CheckpointWriter: a checkpoint is under way");
  content_ = std::move(content);
  if (ranks_.rank() != 0) content_.model.clear();  // rank 0 writes it
  target_ = checkpoint_path(run_, content_.step);
  aside_ = target_;
  aside_ += kUnfinished;
  if (tensors == Tensors::copied) copy_tensors();
  std::error_code ignored;
  if (ranks_.rank() == 0) fs::remove_all(aside_, ignored);
  ranks_.barrier("checkpoint");
  files_ = std::async(std::launch::async, [this] { return write(); });
}

bool CheckpointWriter::written() const { return files_.wait_for(std::chrono::seconds(0)) == std::future_status::ready; }

CheckpointWriter::Files CheckpointWriter::write() const {
  const int rank = ranks_.rank(), parts = parts_of(content_.optimizer, ranks_.size());
  for (std::size_t attempt = 0;; ++attempt) {
    Files files{Json::object(), "", false};
    try {
      if (rank == 0) require_finite(run_, content_);
      make_folder(aside_);
      const auto add = [&](const std::string& name, const auto& put) {
        put(aside_ / name);
        files.entries[name] = entry_of(aside_ / name);
      };
      if (rank < parts) {
        std::vector<NamedTensor> tensors;
        for (const StateTensor& state : content_.optimizer) tensors.push_back({state.name, state.tensor});
        add(optimizer_file(rank, parts), [&](const fs::path& path) { write_tensors(path, tensors); });
      }
      if (rank != 0) return files;
      add(kModelFile, [&](const fs::path& path) { write_tensors(path, content_.model); });
      add(kTokenizerFile, [&](const fs::path& path) { write_file(path, read_file(content_.tokenizer)); });
      return files;
    } catch (const NotFinite& error) {
      return {Json::object(), error.what(), true};
    } catch (const UserError& error) {  // a file that is not there: it will not come
      return {Json::object(), error.what(), false};
    } catch (const std::exception& error) {
      if (attempt == std::size(kPauses)) return {Json::object(), error.what(), false};
      std::this_thread::sleep_for(kPauses[attempt]);
    }
  }
}

/// Writes state.json, with which a checkpoint is whole, and gives the folder its name.
void CheckpointWriter::commit(const Json& entries) const {
  Json state = Json::object();
  state["format"] = kCheckpointFormat;
  state["step"] = content_.step;
  for (const auto& [key, value] : content_.state.as_object()) state[key] = value;
  if (parts_of(content_.optimizer, 2) > 1) state[kBuckets] = bucket_sizes(content_.optimizer);
  state["files"] = entries;
  for (const auto& [name, entry] : entries.as_object()) {
    std::error_code error;
    if (fs::file_size(aside_ / name, error) == static_cast<std::uintmax_t>(entry.at("bytes").as_integer())) continue;
    fail("rank 0 does not see all of {}, which another rank has written; all ranks must share that folder",
         (aside_ / name).string());
  }
  write_file(aside_ / kStateFile, sealed(state));
  remove_checkpoint(target_);
  fs::rename(aside_, target_);
  sync_folder(run_);
}

fs::path CheckpointWriter::finish() {
  require(busy(), "CheckpointWriter: no checkpoint is under way");
  const Files own = files_.get();
  const Json told = Json::Object{{"entries", own.entries}, {"error", own.error}, {"not_finite", own.not_finite}};
  std::error_code ignored;
  try {
    const std::vector<std::string> all = ranks_.gather_texts("checkpoint", told.dump());
    Json entries = Json::object();
    for (std::size_t rank = 0; rank < all.size(); ++rank) {
      const Json theirs = Json::parse(all[rank]);
      const std::string& error = theirs.at("error").as_string();
      if (theirs.at("not_finite").as_bool()) throw NotFinite(error);
      if (!error.empty()) fail("{}{}", rank == 0 ? "" : fmt::format("rank {}: ", rank), error);
      for (const auto& [name, entry] : theirs.at("entries").as_object()) entries[name] = entry;
    }
    agree(ranks_, "checkpoint", [&] {
      if (ranks_.rank() == 0) commit(entries);
    });
  } catch (const NotFinite&) {
    if (ranks_.rank() == 0) fs::remove_all(aside_, ignored);
    throw;
  } catch (const std::exception& error) {
    if (ranks_.rank() == 0) fs::remove_all(aside_, ignored);
    fail("checkpoint of step {}: {}", content_.step, error.what());
  }
  return target_;
}

fs::path write_checkpoint(const fs::path& run, const CheckpointContent& content, Communicator& ranks) {
  CheckpointWriter writer(run, ranks);
  writer.begin(content, CheckpointWriter::Tensors::shared);
  return writer.finish();
}

}  // namespace unfurl::train
