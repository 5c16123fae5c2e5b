#include "core/comm/communicator.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstring>
#include <deque>
#include <exception>
#include <mutex>
#include <thread>

#include "core/error.h"

namespace unfurl {
namespace {

using Clock = std::chrono::steady_clock;

/// Sums the rows [begin, end) of `count` floats along the binary tree, into the first of them.
void tree_sum(const std::vector<float*>& rows, std::size_t begin, std::size_t end, Index count) {
  if (end - begin == 1) return;
  const std::size_t middle = begin + (end - begin) / 2;
  tree_sum(rows, begin, middle, count);
  tree_sum(rows, middle, end, count);
  float* const to = rows[begin];
  const float* const from = rows[middle];
  for (Index i = 0; i < count; ++i) to[i] += from[i];
}

/// Stands among messages that never came for the memory that they point to.
struct MemoryOfMessages : Message {
  explicit MemoryOfMessages(std::shared_ptr<std::vector<char>> memory) : bytes(std::move(memory)) {}
  bool done() override { return false; }
  std::shared_ptr<std::vector<char>> bytes;
};

}  // namespace

struct Work::State {
  std::mutex mutex;
  std::condition_variable changed;
  bool done = false;
  std::exception_ptr error;
  std::atomic<double>* waited = nullptr;
  std::shared_ptr<Communicator::Worker> worker;

  void finish(std::exception_ptr problem) {
    const std::lock_guard lock(mutex);
    error = std::move(problem);
    done = true;
    changed.notify_all();
  }
};

struct Communicator::Worker {
  struct Task {
    const char* what;
    std::function<void(Worker&)> run;
    std::shared_ptr<Work::State> state;
  };

  double timeout = 0;
  std::unique_ptr<Transport> transport;
  std::atomic<double> sent{0}, busy{0}, waited{0};
  std::thread thread;

  std::mutex mutex;
  std::condition_variable changed;
  std::deque<Task> tasks;
  bool stop = false;
  std::atomic<bool> abandoned{false};

  // Of the thread alone.
  const char* what = "";
  std::exception_ptr broken;  // why nothing works any more
  struct Pending {
    std::unique_ptr<Message> message;
    int peer;
  };
  std::vector<Pending> pending;
  std::vector<float> space;

  void send(int to, const void* bytes, std::size_t count) {
    const auto* from = static_cast<const std::byte*>(bytes);
    for (std::size_t at = 0; at < count; at += Transport::kLongest) {
      pending.push_back(
          {transport->send(to, from + at, std::min(Transport::kLongest, count - at), Transport::collectives), to});
    }
    sent = sent + static_cast<double>(count);
  }
  void receive(int from, void* bytes, std::size_t count) {
    auto* to = static_cast<std::byte*>(bytes);
    for (std::size_t at = 0; at < count; at += Transport::kLongest) {
      pending.push_back(
          {transport->receive(from, to + at, std::min(Transport::kLongest, count - at), Transport::collectives), from});
    }
  }
  /// Until all messages are done. Long waits leave the core to others.
  void finish() {
    auto last = Clock::now();
    for (int idle = 0; !pending.empty();) {
      const auto done = std::erase_if(pending, [](Pending& p) { return p.message->done(); });
      if (done > 0) {
        idle = 0;
        last = Clock::now();
        continue;
      }
      if (abandoned) fail("{}: given up", what);
      if (std::chrono::duration<double>(Clock::now() - last).count() > timeout) {
        const int peer = pending.front().peer;
        fail(
            "{}: nothing has come from rank {} for {:g} seconds (this is rank {}): it hangs, or the link to it is cut; "
            "start again, and the run goes on from its newest checkpoint",
            what, peer, timeout, transport->rank());
      }
      if (++idle < 64) {
        std::this_thread::yield();
      } else {
        std::this_thread::sleep_for(std::chrono::microseconds(idle < 1024 ? 20 : 200));
      }
    }
  }

  /// Messages that never came: the transport may still write where they point to, and so may nobody else.
  static void keep_for_ever(std::vector<Pending>& messages) {
    static std::mutex lock;
    static auto* const kept = new std::vector<Pending>;
    const std::lock_guard guard(lock);
    for (Pending& message : messages) kept->push_back(std::move(message));
    messages.clear();
  }

  void work() {
    for (;;) {
      Task task;
      {
        std::unique_lock lock(mutex);
        changed.wait(lock, [&] { return stop || !tasks.empty(); });
        if (tasks.empty()) break;
        task = std::move(tasks.front());
        tasks.pop_front();
      }
      const auto begin = Clock::now();
      if (!broken) {
        try {
          what = task.what;
          task.run(*this);
          finish();
        } catch (...) {
          broken = std::current_exception();
        }
      }
      task.run = nullptr;
      busy = busy + std::chrono::duration<double>(Clock::now() - begin).count();
      task.state->finish(broken);
    }
    if (transport && (broken || abandoned)) transport->abandon();
    keep_for_ever(pending);
    transport.reset();
  }
};

void Work::wait() const {
  if (wait_) wait_();
  if (!state_) return;
  const auto begin = Clock::now();
  std::unique_lock lock(state_->mutex);
  state_->changed.wait(lock, [&] { return state_->done; });
  if (state_->waited != nullptr) {
    *state_->waited = *state_->waited + std::chrono::duration<double>(Clock::now() - begin).count();
    state_->waited = nullptr;
  }
  if (state_->error) std::rethrow_exception(state_->error);
}

Communicator::Communicator() = default;

Communicator::Communicator(const std::function<std::unique_ptr<Transport>()>& open, double timeout)
    : worker_(std::make_shared<Worker>()) {
  worker_->timeout = timeout;
  worker_->thread = std::thread([worker = worker_.get()] { worker->work(); });
  const Work opened = start("start of the ranks", [&](Worker& worker) { worker.transport = open(); });
  try {
    opened.wait();
  } catch (...) {
    abandon();
    {
      const std::lock_guard lock(worker_->mutex);
      worker_->stop = true;
      worker_->changed.notify_all();
    }
    worker_->thread.join();
    throw;
  }
  rank_ = worker_->transport->rank();
  size_ = worker_->transport->size();
  description_ = size_ == 1 ? "one rank" : fmt::format("{} ranks over {}", size_, worker_->transport->description());
}

Communicator::~Communicator() {
  if (!worker_) return;
  {
    const std::lock_guard lock(worker_->mutex);
    worker_->stop = true;
    worker_->changed.notify_all();
  }
  worker_->thread.join();
}

Work Communicator::start(const char* what, std::function<void(Worker&)> task) {
  Work work;
  work.state_ = std::make_shared<Work::State>();
  work.state_->waited = &worker_->waited;
  work.state_->worker = worker_;
  const std::lock_guard lock(worker_->mutex);
  worker_->tasks.push_back({what, std::move(task), work.state_});
  worker_->changed.notify_all();
  return work;
}

Work Communicator::reduce_scatter(const char* what, float* data, const Shards& shards) {
  if (!worker_) return {};
  return start(what, [=](Worker& worker) {
    const int ranks = worker.transport->size(), rank = worker.transport->rank();
    const Range own = shards.of(rank);
    worker.space.resize(static_cast<std::size_t>(own.size()) * static_cast<std::size_t>(ranks - 1));
    std::vector<float*> rows(static_cast<std::size_t>(ranks));
    float* space = worker.space.data();
    for (int r = 0; r < ranks; ++r) {
      rows[static_cast<std::size_t>(r)] = r == rank ? data + own.begin : space;
      if (r != rank) space += own.size();
    }
    // Each rank begins with its right neighbour, so that not all send to the same one at once.
    for (int step = 1; step < ranks; ++step) {
      const int to = (rank + step) % ranks, from = (rank + ranks - step) % ranks;
      worker.receive(from, rows[static_cast<std::size_t>(from)], static_cast<std::size_t>(own.size()) * sizeof(float));
      const Range part = shards.of(to);
      worker.send(to, data + part.begin, static_cast<std::size_t>(part.size()) * sizeof(float));
    }
    worker.finish();
    tree_sum(rows, 0, rows.size(), own.size());
    if (rank != 0 && own.size() > 0) {
      std::memcpy(data + own.begin, rows[0], static_cast<std::size_t>(own.size()) * sizeof(float));
    }
  });
}

Work Communicator::all_gather(const char* what, void* data, std::size_t element_bytes, const Shards& shards) {
  if (!worker_) return {};
  return start(what, [=](Worker& worker) {
    const int ranks = worker.transport->size(), rank = worker.transport->rank();
    const auto place = [&](int r) {
      const Range part = shards.of(r);
      return std::span(static_cast<std::byte*>(data) + static_cast<std::size_t>(part.begin) * element_bytes,
                       static_cast<std::size_t>(part.size()) * element_bytes);
    };
    for (int step = 1; step < ranks; ++step) {
      const int to = (rank + step) % ranks, from = (rank + ranks - step) % ranks;
      worker.receive(from, place(from).data(), place(from).size());
      worker.send(to, place(rank).data(), place(rank).size());
    }
  });
}

Work Communicator::broadcast(const char* what, void* data, std::size_t bytes, int root) {
  if (!worker_) return {};
  return start(what, [=](Worker& worker) {
    // A binary tree over the ranks as counted from the root.
    const int ranks = worker.transport->size();
    const int place = (worker.transport->rank() + ranks - root) % ranks;
    const auto rank_at = [&](int p) { return (p + root) % ranks; };
    if (place > 0) {
      worker.receive(rank_at((place - 1) / 2), data, bytes);
      worker.finish();
    }
    for (const int child : {2 * place + 1, 2 * place + 2}) {
      if (child < ranks) worker.send(rank_at(child), data, bytes);
    }
  });
}

std::vector<std::string> Communicator::gather_texts(const char* what, const std::string& own) {
  if (!worker_) return std::vector<std::string>(static_cast<std::size_t>(size_), own);
  const auto ranks = static_cast<std::size_t>(size_);
  std::vector<std::uint64_t> lengths(ranks);
  lengths[static_cast<std::size_t>(rank_)] = own.size();
  all_gather(what, lengths.data(), sizeof(std::uint64_t), {size_, size_, rank_, 1}).wait();
  std::vector<std::string> texts(ranks);
  texts[static_cast<std::size_t>(rank_)] = own;
  start(what, [&](Worker& worker) {
    for (int r = 0; r < size_; ++r) {
      if (r == rank_) continue;
      const auto at = static_cast<std::size_t>(r);
      texts[at].resize(lengths[at]);
      worker.receive(r, texts[at].data(), texts[at].size());
      worker.send(r, own.data(), own.size());
    }
  }).wait();
  return texts;
}

std::vector<std::optional<std::string>> Communicator::last_words(const std::string& own, double seconds) {
  const auto ranks = static_cast<std::size_t>(size_);
  std::vector<std::optional<std::string>> said(ranks);
  said[static_cast<std::size_t>(rank_)] = own.substr(0, kLastWords - 1);
  if (!worker_) return said;
  // The transport keeps the memory of what does not come.
  auto texts = std::make_shared<std::vector<char>>((ranks + 1) * kLastWords);
  const auto text_of = [&](std::size_t r) { return texts->data() + r * kLastWords; };
  std::memcpy(text_of(ranks), own.data(), std::min(own.size(), kLastWords - 1));
  const Work work = start("last words", [&](Worker& worker) {
    std::vector<Worker::Pending> coming;
    for (int r = 0; r < size_; ++r) {
      if (r == rank_) continue;
      coming.push_back(
          {worker.transport->receive(r, text_of(static_cast<std::size_t>(r)), kLastWords, Transport::last_words), r});
      worker.pending.push_back({worker.transport->send(r, text_of(ranks), kLastWords, Transport::last_words), r});
    }
    const auto begin = Clock::now();
    while ((!coming.empty() || !worker.pending.empty()) && !worker.abandoned &&
           std::chrono::duration<double>(Clock::now() - begin).count() < seconds) {
      std::erase_if(worker.pending, [](Worker::Pending& p) { return p.message->done(); });
      std::erase_if(coming, [&](Worker::Pending& p) {
        if (!p.message->done()) return false;
        said[static_cast<std::size_t>(p.peer)] = text_of(static_cast<std::size_t>(p.peer));
        return true;
      });
      std::this_thread::sleep_for(std::chrono::microseconds(200));
    }
    if (coming.empty() && worker.pending.empty()) return;
    for (Worker::Pending& message : coming) worker.pending.push_back(std::move(message));
    worker.pending.push_back({std::make_unique<MemoryOfMessages>(texts), rank_});
    worker.broken = std::make_exception_ptr(Error("last words: not all ranks have said something"));
    Worker::keep_for_ever(worker.pending);
  });
  try {
    work.wait();
  } catch (const std::exception&) {  // the links are lost as well
  }
  return said;
}

void Communicator::abandon() {
  if (worker_) worker_->abandoned = true;
}

double Communicator::timeout() const { return worker_ ? worker_->timeout : 0; }
double Communicator::seconds_busy() const { return worker_ ? worker_->busy.load() : 0; }
double Communicator::seconds_waited() const { return worker_ ? worker_->waited.load() : 0; }
double Communicator::bytes_sent() const { return worker_ ? worker_->sent.load() : 0; }

}  // namespace unfurl
