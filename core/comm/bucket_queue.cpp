#include "core/comm/bucket_queue.h"

#include <algorithm>
#include <utility>

namespace unfurl {

BucketQueue::BucketQueue(const Parameters& parameters, Index bucket) {
  std::vector<std::pair<std::size_t, Bucket>> found;  // with the first parameter in each
  const std::vector<Parameter>& all = parameters.all();
  const auto within = [&](std::size_t i, const Bucket& b) {
    return all[i].group == b.group && all[i].offset < b.range.end &&
           all[i].offset + all[i].shape.numel() > b.range.begin;
  };
  for (const ParameterGroup group : {ParameterGroup::decayed, ParameterGroup::undecayed}) {
    const Tensor& gradients = parameters.gradients(group);
    if (!gradients.defined()) continue;
    const Buckets whole{gradients.numel(), bucket};
    for (Index number = 0; number < whole.size(); ++number) {
      const Bucket b{group, number, whole.of(number)};
      std::size_t first = 0;
      while (first < all.size() && !within(first, b)) ++first;
      found.emplace_back(first, b);
    }
  }
  std::stable_sort(found.begin(), found.end(), [](const auto& a, const auto& b) {
    return a.first != b.first ? a.first > b.first : a.second.number > b.second.number;
  });
  for (const auto& [first, b] : found) {
    parameters_in_.push_back(0);
    for (std::size_t i = first; i < all.size(); ++i) {
      if (!within(i, b)) continue;
      of_leaf_[Handle(all[i].value).variable.get()].push_back(buckets_.size());
      ++parameters_in_.back();
    }
    buckets_.push_back(b);
  }
  next_ = buckets_.size();
}

void BucketQueue::watch(Tape& tape, std::function<void(const Bucket&)> whole) {
  missing_ = parameters_in_;
  next_ = 0;
  whole_ = std::move(whole);
  const auto read = tape.leaves();
  for (const auto& [leaf, buckets] : of_leaf_) {
    if (read.contains(leaf)) continue;
    for (const std::size_t b : buckets) --missing_[b];
  }
  tape.when_final([this](const Variable& leaf) { note(&leaf); });
  advance();
}

void BucketQueue::note(const Variable* leaf) {
  const auto found = of_leaf_.find(leaf);
  if (found == of_leaf_.end()) return;
  for (const std::size_t b : found->second) --missing_[b];
  advance();
}

void BucketQueue::advance() {
  for (; next_ < buckets_.size() && missing_[next_] == 0; ++next_) whole_(buckets_[next_]);
}

void BucketQueue::finish(const std::function<void(const Bucket&)>& whole) {
  if (whole_ == nullptr) next_ = 0;
  for (; next_ < buckets_.size(); ++next_) whole(buckets_[next_]);
  whole_ = nullptr;
}

}  // namespace unfurl
