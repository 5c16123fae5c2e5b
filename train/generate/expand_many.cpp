#include "train/generate/expand_many.h"

#include <algorithm>

#include "kernels/thread_pool.h"

namespace unfurl::train {

struct ManyExpander::Worker {
  Worker(std::unique_ptr<LanguageModel> given, const Codec& codec) : model(std::move(given)), expander(*model, codec) {}
  std::unique_ptr<LanguageModel> model;
  Expander expander;
};

ManyExpander::ManyExpander(const std::function<std::unique_ptr<LanguageModel>()>& open, const Codec& codec,
                           int sessions) {
  for (int i = 0; i < std::max(sessions, 1); ++i) workers_.push_back(std::make_unique<Worker>(open(), codec));
}

ManyExpander::~ManyExpander() = default;

std::vector<Expansions> ManyExpander::expand(std::span<const ExpandRequest> requests) {
  std::vector<Expansions> out(requests.size());
  std::mutex mutex;
  std::size_t next = 0;
  const auto work = [&](Index worker) {
    Expander& expander = workers_[static_cast<std::size_t>(worker)]->expander;
    for (;;) {
      std::size_t mine = 0;
      {
        const std::lock_guard lock(mutex);
        if (next == requests.size()) return;
        mine = next++;
      }
      out[mine] = expand_or_return(expander, requests[mine].query, requests[mine].settings);
    }
  };
  // What a task does in parallel by itself runs in its thread.
  kernels::ThreadPool::global().parallel_for(static_cast<Index>(workers_.size()), work);
  return out;
}

}  // namespace unfurl::train
