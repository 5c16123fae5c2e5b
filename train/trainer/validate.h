// The loss on held-out pairs, during training.
#pragma once
#include <vector>

#include "core/comm/data_parallel.h"
#include "train/data/loader.h"
#include "train/model/decoder.h"

namespace unfurl::train {

struct Validation {
  double loss = 0;           // nats a target
  double bits_per_byte = 0;  // of the prompts given their queries, the end token included
  Index targets = 0;
};

/// Over whole micro-batches from the first on, until at least `max_tokens` rows (0: all). `sources` are those of
/// `batches`. The ranks share the work, and all have the result.
Validation validate(const Decoder& decoder, const FixedBatches& batches, const std::vector<Source>& sources,
                    Index max_tokens, DataParallel& ranks);

}  // namespace unfurl::train
