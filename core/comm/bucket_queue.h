// Which buckets of gradients are whole while backward still runs.
//
// All ranks must start the same collectives in the same order, but which gradient is final first is not for them to
// agree on: buckets therefore come in a fixed order, that of backward, the reverse of the one in which the parameters
// were declared. One that is whole waits for those before it.
#pragma once
#include <functional>
#include <unordered_map>
#include <vector>

#include "core/autograd.h"
#include "core/comm/buckets.h"
#include "core/parameters.h"

namespace unfurl {

class BucketQueue {
 public:
  struct Bucket {
    ParameterGroup group;
    Index number;  // of those of its group
    Range range;   // elements of its arena
  };
  /// `bucket`: elements of a bucket (buckets.h). The parameters are allocated, with gradients.
  BucketQueue(const Parameters& parameters, Index bucket);

  /// All buckets, in order.
  const std::vector<Bucket>& all() const { return buckets_; }

  /// From now on none has been given. During tape.backward() each bucket is given to `whole` when nothing more will be
  /// added to the gradients in it: those of parameters that the tape does not read are so from the start. Until the end
  /// of that call this queue and the parameters must stay where they are.
  void watch(Tape& tape, std::function<void(const Bucket&)> whole);
  /// Gives all that are left to `whole`: all, where there was no watch() since the last finish().
  void finish(const std::function<void(const Bucket&)>& whole);

 private:
  void note(const Variable* leaf);
  void advance();
  std::vector<Bucket> buckets_;
  std::unordered_map<const Variable*, std::vector<std::size_t>> of_leaf_;
  std::vector<Index> parameters_in_;  // of each bucket
  std::vector<Index> missing_;        // those of them whose gradient is not final
  std::size_t next_ = 0;              // to be given
  std::function<void(const Bucket&)> whole_;
};

}  // namespace unfurl
