// Ranks as threads of one process, for tests of collectives.
#pragma once
#include <condition_variable>
#include <cstring>
#include <deque>
#include <exception>
#include <functional>
#include <map>
#include <mutex>
#include <thread>
#include <tuple>
#include <utility>
#include <vector>

#include "core/comm/communicator.h"

namespace unfurl::tests {

/// The letters on their way between threads.
class Post {
 public:
  explicit Post(int ranks) : ranks_(ranks) {}
  int ranks() const { return ranks_; }
  void put(int channel, int from, int to, const void* bytes, std::size_t count) {
    const auto* first = static_cast<const char*>(bytes);
    const std::lock_guard lock(mutex_);
    letters_[{channel, from, to}].push_back(std::vector<char>(first, first + count));
  }
  bool take(int channel, int from, int to, void* bytes, std::size_t count) {
    const std::lock_guard lock(mutex_);
    auto& queue = letters_[{channel, from, to}];
    if (queue.empty()) return false;
    if (queue.front().size() != count) throw std::runtime_error("a letter of another length");
    if (count > 0) std::memcpy(bytes, queue.front().data(), count);
    queue.pop_front();
    return true;
  }

 private:
  int ranks_;
  std::mutex mutex_;
  std::map<std::tuple<int, int, int>, std::deque<std::vector<char>>> letters_;
};

class ThreadTransport : public Transport {
 public:
  ThreadTransport(Post& post, int rank) : post_(post), rank_(rank) {}
  int rank() const override { return rank_; }
  int size() const override { return post_.ranks(); }
  std::string description() const override { return "threads"; }
  std::unique_ptr<Message> send(int to, const void* bytes, std::size_t count, Channel channel) override {
    post_.put(channel, rank_, to, bytes, count);
    return std::make_unique<Letter>([] { return true; });
  }
  std::unique_ptr<Message> receive(int from, void* bytes, std::size_t count, Channel channel) override {
    return std::make_unique<Letter>([=, this] { return post_.take(channel, from, rank_, bytes, count); });
  }
  void abandon() override {}

 private:
  struct Letter : Message {
    explicit Letter(std::function<bool()> poll) : arrived(std::move(poll)) {}
    bool done() override { return arrived(); }
    std::function<bool()> arrived;
  };
  Post& post_;
  int rank_;
};

/// Runs body(communicator) on every rank; the first exception is thrown again.
inline void on_ranks(int ranks, const std::function<void(Communicator&)>& body, double timeout = 20) {
  Post post(ranks);
  std::vector<std::exception_ptr> errors(static_cast<std::size_t>(ranks));
  std::vector<std::thread> threads;
  for (int rank = 0; rank < ranks; ++rank) {
    threads.emplace_back([&, rank] {
      try {
        Communicator communicator([&] { return std::make_unique<ThreadTransport>(post, rank); }, timeout);
        body(communicator);
      } catch (...) {
        errors[static_cast<std::size_t>(rank)] = std::current_exception();
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  for (const std::exception_ptr& error : errors) {
    if (error) std::rethrow_exception(error);
  }
}

}  // namespace unfurl::tests
