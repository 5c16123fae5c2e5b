#include "core/comm/nccl.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <mutex>
#include <optional>
#include <thread>
#include <type_traits>
#include <utility>

#include "core/comm/agree.h"
#include "core/comm/nccl_library.h"
#include "core/comm/watchdog.h"
#include "core/device.h"
#include "core/tensor.h"
#include "kernels/elementwise.h"

namespace unfurl {
namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point begin) { return std::chrono::duration<double>(Clock::now() - begin).count(); }

void sleep(double seconds) { std::this_thread::sleep_for(std::chrono::duration<double>(seconds)); }

/// NCCL's texts have lines.
std::string one_line(std::string text) {
  std::replace(text.begin(), text.end(), '\n', ' ');
  while (!text.empty() && text.back() == ' ') text.pop_back();
  return text;
}

}  // namespace

/// What the caller, the watchdog and the thread that aborts share.
struct NcclCommunicator::State : std::enable_shared_from_this<State> {
  State(Communicator& with, const nccl::Library& of) : ranks(with), library(of), timeout(with.timeout()) {}

  Communicator& ranks;
  const nccl::Library& library;
  const double timeout;

  std::mutex calls;  // one thread at a time is within the library
  nccl::Comm comm = nullptr;

  std::atomic<bool> failed{false};
  std::atomic<bool> aborted{false};
  std::mutex mutex;
  std::string failure;          // why, once failed
  std::exception_ptr reported;  // once check() has thrown it

  std::string text_of(int result, bool details = true) const {
    const std::string more = details && library.last_error(comm) != nullptr ? one_line(library.last_error(comm)) : "";
    return fmt::format("NCCL: {}{}{}", library.error_string(result), more.empty() ? "" : ": ", more);
  }

  /// The first failure stands. What is under way is ended, in a thread of its own: NCCL may hang in that too.
  void fail_with(const std::string& name, Index count, const std::string& reason) {
    {
      const std::lock_guard lock(mutex);
      if (failed) return;
      failure = fmt::format("{} (collective {} over NCCL) {}", name, count, reason);
      failed = true;
    }
    std::thread([self = shared_from_this()] {
      const std::lock_guard lock(self->calls);
      if (self->comm != nullptr) self->library.abort(self->comm);
      self->comm = nullptr;
      self->aborted = true;
    }).detach();
  }

  void throw_failure() {
    if (reported) std::rethrow_exception(reported);
    std::string own;
    {
      const std::lock_guard lock(mutex);
      own = failure;
    }
    const auto words = ranks.last_words(own, std::min(timeout, 10.0));
    const std::string text = failure_of_ranks(words);
    const auto first = std::find_if(words.begin(), words.end(), [](const auto& said) { return said.has_value(); });
    const bool all = std::all_of(words.begin(), words.end(), [](const auto& said) { return said.has_value(); });
    if (all) {
      reported = std::make_exception_ptr(AgreedError(text));
    } else if (first - words.begin() == ranks.rank()) {
      reported = std::make_exception_ptr(Error(text));
    } else {
      sleep(1);  // the first that can speaks for all, and before a rank ends
      reported = std::make_exception_ptr(AgreedError(text));
    }
    std::rethrow_exception(reported);
  }

  /// Calls body() within the library.
  template <class Body>
  void call(const Body& body) {
    for (;;) {
      {
        const std::unique_lock lock(calls, std::try_to_lock);
        if (lock && !failed) return body();
      }
      if (failed) throw_failure();
      sleep(2e-5);  // not longer than the other threads call; but an abort may hang
    }
  }

  /// Calls body(), which returns an ncclResult_t, and waits until its work is in the device's queue, which the library
  /// does in the background. It is part of the collective `name`, the `number`-th.
  template <class Body>
  void queue(const char* name, Index number, const Body& body) {
    int result = nccl::kSuccess;
    std::string text;
    const auto begin = Clock::now();
    call([&] {
      result = body();
      if (nccl::is_error(result)) text = text_of(result);
    });
    for (int idle = 0; result == nccl::kInProgress; ++idle) {
      if (idle < 100) {
        std::this_thread::yield();
      } else {
        sleep(idle < 1000 ? 2e-5 : 2e-4);
      }
      call([&] {
        const int asked = library.async_error(comm, &result);
        if (asked != nccl::kSuccess) result = asked;
        if (nccl::is_error(result)) text = text_of(result);
      });
      if (result == nccl::kInProgress && seconds_since(begin) > timeout) {
        fail_with(name, number, fmt::format("has not ended after {:g} seconds", timeout));
      }
    }
    if (text.empty()) return;
    fail_with(name, number, fmt::format("failed: {}", text));
    throw_failure();
  }

  /// For the watchdog: an error that came after the call.
  std::string error() {
    const std::unique_lock lock(calls, std::try_to_lock);
    if (!lock || comm == nullptr) return "";
    int result = nccl::kSuccess;
    library.async_error(comm, &result);
    return nccl::is_error(result) ? text_of(result) : "";
  }
};

/// The device's two queues, and what is queued between them.
class NcclCommunicator::Queues {
 public:
  virtual ~Queues() = default;
  virtual void open(const nccl::UniqueId& id) = 0;
  virtual Work reduce_scatter(const char* what, float* data, const Shards& shards) = 0;
  virtual Work all_gather(const char* what, void* data, std::size_t element_bytes, const Shards& shards) = 0;
  virtual void mark(std::size_t number) = 0;
  virtual void behind(std::size_t number, const std::function<void()>& body) = 0;
  virtual void synchronize() = 0;
};

template <class Queue>
class NcclCommunicator::QueuesOf : public Queues {
 public:
  QueuesOf(std::shared_ptr<State> state, Device device, const Queue& compute, const NcclOptions& options)
      : state_(std::move(state)),
        library_(state_->library),
        device_(device),
        options_(options),
        compute_(compute),
        queue_(compute.device()) {}
  ~QueuesOf() override {
    const bool fails = std::uncaught_exceptions() > 0;
    if (!fails && !state_->failed) {
      try {
        queue_.synchronize();
      } catch (const std::exception&) {  // the device is lost, or a collective
      }
    }
    if (state_->failed) {  // an abort that hangs is not waited for
      for (int i = 0; i < 1000 && !state_->aborted; ++i) sleep(0.01);
    } else {
      const std::lock_guard lock(state_->calls);
      if (state_->comm != nullptr) (fails ? library_.abort : library_.destroy)(state_->comm);
      state_->comm = nullptr;
      state_->failed = true;
    }
    // For what is still queued.
    if (!state_->reported) state_->reported = std::make_exception_ptr(Error("the ranks have ended"));
  }

  void open(const nccl::UniqueId& id) override {
    nccl::Config config;
    const Communicator& ranks = state_->ranks;
    state_->queue("start of NCCL", 0,
                  [&] { return library_.init_rank(&state_->comm, ranks.size(), id, ranks.rank(), &config); });
    Watchdog::Hooks hooks;
    hooks.begin = [this] { queue_.use_in_this_thread(); };
    hooks.error = [this] { return state_->error(); };
    hooks.bark = [this](const std::string& what, Index number, const std::string& reason) {
      state_->fail_with(what, number, reason);
    };
    hooks.unheard = [this] {
      fmt::print(stderr, "error: rank {}: {}\n", state_->ranks.rank(), state_->failure);
      std::_Exit(1);
    };
    hooks.patience = state_->timeout + 30;
    watchdog_ = std::make_unique<Watchdog>(state_->timeout, std::move(hooks));
  }

  Work reduce_scatter(const char* what, float* data, const Shards& shards) override {
    if (options_.deterministic) reserve(shards);
    return collective(what, [&] {
      if (options_.deterministic) return sum_along_tree(data, shards);
      const std::optional<Index> each = equal(shards);
      if (each) {
        return group([=, this] {
          return library_.reduce_scatter(data, data + shards.own().begin, count(*each), nccl::kFloat32, nccl::kSum,
                                         state_->comm, queue_.stream());
        });
      }
      group([=, this] {
        int result = nccl::kSuccess;
        for (int owner = 0; owner < shards.ranks && !nccl::is_error(result); ++owner) {
          const Range part = shards.of(owner);
          if (part.size() == 0) continue;
          result = library_.reduce(data + part.begin, data + part.begin, count(part.size()), nccl::kFloat32, nccl::kSum,
                                   owner, state_->comm, queue_.stream());
        }
        return result;
      });
    });
  }

  Work all_gather(const char* what, void* data, std::size_t element_bytes, const Shards& shards) override {
    return collective(what, [&] {
      const auto place = [data, element_bytes](Range part) {
        return static_cast<std::byte*>(data) + static_cast<std::size_t>(part.begin) * element_bytes;
      };
      if (const std::optional<Index> each = equal(shards)) {
        return group([=, this] {
          return library_.all_gather(place(shards.own()), data, count(*each) * element_bytes, nccl::kUint8,
                                     state_->comm, queue_.stream());
        });
      }
      group([=, this] {
        int result = nccl::kSuccess;
        for (int owner = 0; owner < shards.ranks && !nccl::is_error(result); ++owner) {
          const Range part = shards.of(owner);
          if (part.size() == 0) continue;
          result = library_.broadcast(place(part), place(part), count(part.size()) * element_bytes, nccl::kUint8, owner,
                                      state_->comm, queue_.stream());
        }
        return result;
      });
    });
  }

  void mark(std::size_t number) override {
    if (marks_.size() <= number) marks_.resize(number + 1);
    compute_.record(marks_[number]);
  }

  void behind(std::size_t number, const std::function<void()>& body) override {
    require(number < marks_.size(), "NCCL: there is no mark {}", number);
    queue_.wait(marks_[number]);
    const DeviceQueueScope<Queue> scope(queue_);
    behind_ = true;
    try {
      body();
    } catch (...) {
      behind_ = false;
      throw;
    }
    behind_ = false;
  }

  void synchronize() override { queue_.synchronize(); }

 private:
  static std::size_t count(Index n) { return static_cast<std::size_t>(n); }

  /// Elements of each part where all have as many, and some, and lie in the order of the ranks.
  static std::optional<Index> equal(const Shards& shards) {
    const Index each = shards.count / shards.ranks;
    if (shards.count == 0 || shards.count % shards.ranks != 0) return {};
    for (int rank = 0; rank < shards.ranks; ++rank) {
      if (shards.of(rank).begin != rank * each || shards.of(rank).size() != each) return {};
    }
    return each;
  }

  template <class Body>
  Work collective(const char* what, const Body& body) {
    what_ = what;
    const Index number = ++number_;
    if (!behind_) queue_.wait(compute_.record());
    const auto before = queue_.record();
    body();
    const auto after = queue_.record();
    watchdog_->add(
        what, number, [before] { return before.done(); }, [after] { return after.done(); });
    return Work([this, after] {
      if (state_->failed) state_->throw_failure();
      compute_.wait(after);
    });
  }

  /// Calls body(), which copies what it needs, between the two calls that make one piece of work of all that it starts.
  template <class Body>
  void group(const Body& body) {
    const auto start = [this, body, what = what_, number = number_] {
      state_->queue(what, number, [&] {
        int result = library_.group_start();
        if (nccl::is_error(result)) return result;
        result = body();
        const int ended = library_.group_end();
        return nccl::is_error(result) ? result : ended;
      });
    };
    if constexpr (std::is_same_v<Queue, kernels::HostCudaQueue>) {
      queue_.submit(start);  // what is no CUDA knows no streams, and does its work when it is called
    } else {
      start();
    }
  }

  static Index longest_of(const Shards& shards) {
    Index longest = 0;
    for (int rank = 0; rank < shards.ranks; ++rank) longest = std::max(longest, shards.of(rank).size());
    return longest;
  }

  /// Memory for what comes from the other ranks, ready when what the device was given so far is done.
  void reserve(const Shards& shards) {
    const Index needed = std::min(longest_of(shards), options_.piece) * (shards.ranks - 1);
    if (memory_.defined() && memory_.numel() >= needed) return;
    queue_.synchronize();
    const DeviceQueueScope<Queue> scope(compute_);  // with which memory is in order
    const MemoryName name("sums over ranks");
    memory_ = Tensor();
    memory_ = Tensor::empty({needed}, DType::f32, device_);
    queue_.wait(compute_.record());
  }

  /// Every rank's own part of the sums, by pieces.
  void sum_along_tree(float* data, const Shards& shards) {
    const Index longest = longest_of(shards), piece = std::min(longest, options_.piece);
    for (Index at = 0; at < longest; at += piece) {
      const auto part_of = [shards, at, piece](int rank) {
        const Range all = shards.of(rank);
        const Index begin = std::min(all.begin + at, all.end);
        return Range{begin, std::min(begin + piece, all.end)};
      };
      const Range own = part_of(shards.rank);
      std::vector<float*> rows;
      for (int rank = 0, other = 0; rank < shards.ranks; ++rank) {
        rows.push_back(rank == shards.rank ? data + own.begin : memory_.data<float>() + piece * other++);
      }
      group([=, this] {
        int result = nccl::kSuccess;
        const auto also = [&](int next) { result = nccl::is_error(result) ? result : next; };
        // Each rank begins with its right neighbour, so that not all send to the same one at once.
        for (int step = 1; step < shards.ranks; ++step) {
          const int to = (shards.rank + step) % shards.ranks, from = (shards.rank + shards.ranks - step) % shards.ranks;
          const Range theirs = part_of(to);
          if (theirs.size() > 0) {
            also(library_.send(data + theirs.begin, count(theirs.size()), nccl::kFloat32, to, state_->comm,
                               queue_.stream()));
          }
          if (own.size() > 0) {
            also(library_.receive(rows[static_cast<std::size_t>(from)], count(own.size()), nccl::kFloat32, from,
                                  state_->comm, queue_.stream()));
          }
        }
        return result;
      });
      if (own.size() == 0) continue;
      add(rows, 0, rows.size(), own.size());
      if (shards.rank != 0) queue_.copy(data + own.begin, rows[0], count(own.size()) * sizeof(float));
    }
  }

  /// Sums the rows [begin, end) of `n` floats along the binary tree, into the first of them.
  void add(const std::vector<float*>& rows, std::size_t begin, std::size_t end, Index n) const {
    if (end - begin == 1) return;
    const std::size_t middle = begin + (end - begin) / 2;
    add(rows, begin, middle, n);
    add(rows, middle, end, n);
    kernels::add_scaled(queue_, rows[begin], static_cast<const float*>(rows[middle]), 1.0F, n);
  }

  const std::shared_ptr<State> state_;
  const nccl::Library& library_;
  const Device device_;
  const NcclOptions options_;
  const Queue& compute_;
  // The collective that was started last.
  const char* what_ = "";
  Index number_ = 0;
  std::vector<typename Queue::Event> marks_;
  bool behind_ = false;  // one of them
  Tensor memory_;        // what came from the other ranks
  Queue queue_;
  std::unique_ptr<Watchdog> watchdog_;
};

bool NcclCommunicator::is_for(Device device) {
  return device == Device::cuda || (device == Device::host_cuda && nccl::is_named());
}

NcclCommunicator::NcclCommunicator(Communicator& ranks, Device device, const NcclOptions& options)
    : deterministic_(options.deterministic) {
  nccl::UniqueId id{};
  agree(ranks, "NCCL", [&] {
    state_ = std::make_shared<State>(ranks, nccl::Library::get());
    on_device(device, [&]<class Queue>(const Queue& compute) {
      queues_ = std::make_unique<QueuesOf<Queue>>(state_, device, compute, options);
    });
    if (ranks.rank() != 0) return;
    const int result = state_->library.get_unique_id(&id);
    if (result != nccl::kSuccess) fail("{}", state_->text_of(result));
  });
  ranks.broadcast("start of NCCL", &id, sizeof id, 0).wait();
  queues_->open(id);
}

NcclCommunicator::~NcclCommunicator() = default;

Work NcclCommunicator::reduce_scatter(const char* what, float* data, const Shards& shards) {
  return queues_->reduce_scatter(what, data, shards);
}

Work NcclCommunicator::all_gather(const char* what, void* data, std::size_t element_bytes, const Shards& shards) {
  return queues_->all_gather(what, data, element_bytes, shards);
}

void NcclCommunicator::mark(std::size_t number) { queues_->mark(number); }

void NcclCommunicator::behind(std::size_t number, const std::function<void()>& body) { queues_->behind(number, body); }

std::string NcclCommunicator::description() const {
  const int version = state_->library.number;
  return fmt::format("GPUs over NCCL {}.{}.{}, sums {}", version / 10000, version / 100 % 100, version % 100,
                     deterministic_ ? "along the tree of ranks" : "in its order");
}

void NcclCommunicator::check() {
  if (state_->failed) state_->throw_failure();
}

void NcclCommunicator::finish() {
  queues_->synchronize();
  check();
}

std::string failure_of_ranks(const std::vector<std::optional<std::string>>& words) {
  const auto list = [](const std::vector<std::size_t>& ranks) {
    std::string out = ranks.size() == 1 ? "rank " : "ranks ";
    for (std::size_t i = 0; i < ranks.size(); ++i) {
      if (i > 0) out += i + 1 < ranks.size() ? ", " : " and ";
      out += std::to_string(ranks[i]);
    }
    return out;
  };
  std::vector<std::pair<std::string, std::vector<std::size_t>>> said;
  std::vector<std::size_t> silent;
  for (std::size_t rank = 0; rank < words.size(); ++rank) {
    if (!words[rank]) {
      silent.push_back(rank);
      continue;
    }
    const auto same =
        std::find_if(said.begin(), said.end(), [&](const auto& one) { return one.first == *words[rank]; });
    if (same == said.end()) {
      said.push_back({*words[rank], {rank}});
    } else {
      same->second.push_back(rank);
    }
  }
  std::string out;
  for (const auto& [text, ranks] : said) {
    out += (out.empty() ? "" : "; ") + text + " on " + (ranks.size() == words.size() ? "every rank" : list(ranks));
  }
  if (!silent.empty()) {
    out += "; " + list(silent) +
           (silent.size() == 1 ? " does not answer: it hangs, is gone, or has not come so far"
                               : " do not answer: they hang, are gone, or have not come so far");
  }
  return out + "; start again, and the run goes on from its newest checkpoint";
}

}  // namespace unfurl
