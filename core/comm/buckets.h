// A flat buffer in buckets, each of which is shared by all ranks.
//
// A bucket can be summed while others are still computed. As each rank owns a part of every bucket, all of them, and
// all links between them, have work all the time. Where a bucket has fewer blocks than there are ranks they take turns,
// so that the parts of all buckets together differ by a block or two.
#pragma once
#include <vector>

#include "core/comm/shards.h"

namespace unfurl {

struct Buckets {
  Index count = 0;   // elements of the whole
  Index bucket = 0;  // elements of a bucket but the last, whole blocks (shards.h); 0: there is one
  int ranks = 1;     //
  int rank = 0;      // whose parts are own()

  Index size() const { return bucket == 0 || count == 0 ? 1 : (count + bucket - 1) / bucket; }
  Range of(Index number) const {
    if (bucket == 0) return {0, count};
    const Index end = (number + 1) * bucket;
    return {number * bucket, end < count ? end : count};
  }
  /// How a bucket is shared, counted from its first element.
  Shards shards(Index number) const {
    return {of(number).size(), ranks, rank, kernels::kNormBlock, number * (bucket / kernels::kNormBlock) % ranks};
  }
  /// This rank's part of a bucket, counted from the first element of the whole.
  Range own(Index number) const {
    const Range part = shards(number).own();
    const Index first = of(number).begin;
    return {first + part.begin, first + part.end};
  }
  /// This rank's parts of all, ascending; none is empty.
  std::vector<Range> own() const {
    std::vector<Range> parts;
    for (Index number = 0; number < size(); ++number) {
      const Range part = own(number);
      if (part.size() == 0) continue;
      if (!parts.empty() && parts.back().end == part.begin) {
        parts.back().end = part.end;
      } else {
        parts.push_back(part);
      }
    }
    return parts;
  }
  /// Elements of all of them.
  Index own_count() const {
    Index total = 0;
    for (const Range& part : own()) total += part.size();
    return total;
  }
};

}  // namespace unfurl
