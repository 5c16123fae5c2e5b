// Collectives between ranks over the memory of their GPUs, by NCCL. Compared with NCCL's documented interface; has not
// yet run on GPUs.
//
// A collective is queued on a stream of its own, behind what was queued on the device before it, or behind a mark in
// that (behind()); the caller goes on when NCCL has put it there, which its first collectives between two ranks may
// take long for. Every rank starts the same collectives in the same order. A thread looks after them: where one does
// not end within the communicator's timeout, or NCCL reports an error, all of them are aborted, the ranks tell one
// another how far they came, and every rank throws the same line.
//
// Sums of gradients are taken in one of two ways. Deterministic: every rank sends each owner its part, and the owner
// adds them in f32 along the tree of core/comm/communicator.h, which gives its bits: the bytes of a reduce-scatter, and
// `piece` floats of memory (16 MiB) for every other rank. Otherwise NCCL adds them in an order of its own.
//
// On Device::host_cuda, whose memory is the process's own, the library must be one for tests; UNFURL_NCCL names it.
#pragma once
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "core/comm/communicator.h"
#include "core/shape.h"

namespace unfurl {

struct NcclOptions {
  bool deterministic = false;
  Index piece = Index{1} << 22;  // floats that a rank gets of each other at a time, where deterministic
};

class NcclCommunicator {
 public:
  /// Whether ranks that compute on `device` talk over NCCL.
  static bool is_for(Device device);

  /// On every rank at once. `ranks` outlives it. Throws Error, the same on every rank, where NCCL cannot be used.
  NcclCommunicator(Communicator& ranks, Device device, const NcclOptions& options);
  /// Waits for what was started; not while an exception is under way.
  ~NcclCommunicator();
  NcclCommunicator(const NcclCommunicator&) = delete;
  NcclCommunicator& operator=(const NcclCommunicator&) = delete;

  /// "GPUs over NCCL 2.28.9, sums along the tree of ranks"
  std::string description() const;

  // As in Communicator, of memory on the device. Until Work::wait() nothing that is queued may touch it. `what` names a
  // collective in errors.

  Work reduce_scatter(const char* what, float* data, const Shards& shards);
  Work all_gather(const char* what, void* data, std::size_t element_bytes, const Shards& shards);

  /// Marks a moment in the device's work: now, or in a graph that is captured, at every launch of it. Marks are few
  /// numbers, from 0.
  void mark(std::size_t number);
  /// Of what body() queues on the device, and of the collectives that it starts, all in order, the first waits for the
  /// mark `number` as it was made last, and not for what was queued on the device behind that. Work::wait() of the last
  /// of these collectives is for all of it. It may neither take memory of the device nor give it back.
  void behind(std::size_t number, const std::function<void()>& body);

  /// Throws where a collective has failed: all results since are worthless. Asks the other ranks what they know, and so
  /// takes seconds then.
  void check();
  /// Waits until all that was started has ended, and checks.
  void finish();

 private:
  struct State;
  class Queues;
  template <class Queue>
  class QueuesOf;
  const bool deterministic_;
  std::shared_ptr<State> state_;
  std::unique_ptr<Queues> queues_;
};

/// What ranks with these last words say together: how each failed, none for a rank that says nothing.
std::string failure_of_ranks(const std::vector<std::optional<std::string>>& words);

}  // namespace unfurl
