// Collectives between the ranks of a run, over messages (transport.h).
//
// A communicator has one thread of its own, which works off what is started in that order; every rank starts the same
// collectives in the same order. While a message is awaited the thread polls, and after `timeout` seconds without one
// it gives up: all that is under way or started later fails with an Error that names the collective and the rank that
// was waited for.
//
// Sums are taken along a fixed binary tree over the ranks, ((0 + 1) + (2 + 3)) + ..., each in f32: with trees of slots
// within the ranks (train/trainer/slots.h) the bits do not depend on how many ranks share them.
#pragma once
#include <cstddef>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "core/comm/shards.h"
#include "core/comm/transport.h"

namespace unfurl {

/// A collective under way.
class Work {
 public:
  /// One that is done.
  Work() = default;
  /// One over a device's memory: wait() makes what is queued on the device from then on wait, and not the caller.
  explicit Work(std::function<void()> wait) : wait_(std::move(wait)) {}
  /// Until it is done here; throws what it failed with.
  void wait() const;

 private:
  friend class Communicator;
  struct State;
  std::shared_ptr<State> state_;
  std::function<void()> wait_;
};

class Communicator {
 public:
  /// One rank, itself: collectives do nothing.
  Communicator();
  /// Rank 0 of so many that are only thought of: collectives do nothing. For plans, on Device::meta.
  explicit Communicator(int planned_ranks) : size_(planned_ranks) {}
  /// `open` is called in the communicator's thread. Throws what it throws.
  Communicator(const std::function<std::unique_ptr<Transport>()>& open, double timeout);
  /// Waits for the other ranks, which do the same; not after abandon().
  ~Communicator();
  Communicator(const Communicator&) = delete;
  Communicator& operator=(const Communicator&) = delete;

  int rank() const { return rank_; }
  int size() const { return size_; }
  /// Seconds after which a rank that says nothing is given up; 0 where there is one.
  double timeout() const;
  /// "one rank", "4 ranks over Open MPI v4.1.4"
  const std::string& description() const { return description_; }

  // The memory of a collective is left alone until its work is done. `what` names it in errors; a literal.

  /// Sums data[0 .. shards.count) over all ranks; each rank has the sums of its own part afterwards, and what it likes
  /// in the others.
  Work reduce_scatter(const char* what, float* data, const Shards& shards);
  /// Every rank's part of `data` to all ranks; an element has `element_bytes`.
  Work all_gather(const char* what, void* data, std::size_t element_bytes, const Shards& shards);
  /// data[0 .. bytes) of rank `root` to all.
  Work broadcast(const char* what, void* data, std::size_t bytes, int root);

  /// The texts of all ranks, in order of rank. Waits.
  std::vector<std::string> gather_texts(const char* what, const std::string& own);
  /// Until all ranks have come here.
  void barrier(const char* what) { gather_texts(what, {}); }

  /// What ranks that have failed say to one another, at most kLastWords bytes each: in order of rank, of those that say
  /// something within `seconds`. Waits. The last collective that works, unless all have.
  std::vector<std::optional<std::string>> last_words(const std::string& own, double seconds);
  static constexpr std::size_t kLastWords = 256;

  /// The other ranks are not to be waited for any more: this rank fails.
  void abandon();

  /// Seconds in which a collective was under way here, those of them in which callers waited for work, and bytes that
  /// this rank has sent.
  double seconds_busy() const;
  double seconds_waited() const;
  double bytes_sent() const;

 private:
  struct Worker;
  friend class Work;
  Work start(const char* what, std::function<void(Worker&)> task);
  int rank_ = 0, size_ = 1;
  std::string description_ = "one rank";
  std::shared_ptr<Worker> worker_;
};

/// How many ranks this process was started with, by the environment that mpirun and srun set; 1 without.
int ranks_of_environment();
/// Whether this process is the first of those ranks on its host, by that environment: what all of them would say of
/// their host or command line, it says. True for one process.
bool first_rank_of_host();

/// The plugin library for several ranks. Throws Error where it is missing.
std::filesystem::path mpi_plugin();
bool has_mpi_plugin();

/// The communicator of this process: over MPI where it was started with several ranks, for which the plugin library is
/// loaded. Throws Error where that is missing or MPI does not start.
std::unique_ptr<Communicator> open_communicator(double timeout);

/// Each rank that sees the same GPUs computes on another of them, in order of rank. Before a GPU is used.
void share_gpus(Communicator& communicator);
/// The number of a rank's GPU among those that it sees: `visible` says for each rank which these are.
int gpu_of_rank(const std::vector<std::string>& visible, int rank);

}  // namespace unfurl
