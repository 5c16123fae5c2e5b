// What a model's own expansions are like, on held-out queries.
#pragma once
#include "train/data/loader.h"
#include "train/generate/expander.h"

namespace unfurl::train {

struct SampledResult {
  Index queries = 0, samples = 0;
  Index ended = 0;                    // samples that the model ended itself
  Index different = 0;                // samples whose text is no other's of their query
  double words = 0;                   // a sample, mean
  Index kept = 0, asked = 0;          // words of the queries that their samples hold, where the query is not forced
  Index new_queries = 0;              // queries with a word that no training text has
  Index new_kept = 0, new_asked = 0;  // the same, of these queries

  double ended_share() const { return samples > 0 ? static_cast<double>(ended) / static_cast<double>(samples) : 0; }
  double kept_share() const { return asked > 0 ? static_cast<double>(kept) / static_cast<double>(asked) : 0; }
  double new_kept_share() const {
    return new_asked > 0 ? static_cast<double>(new_kept) / static_cast<double>(new_asked) : 0;
  }
};

/// `count` samples (at temperature and cuts of `settings`) for each of at most `max_queries` different queries, evenly
/// spread over the sources; a part of them are queries with words that no training text has, where there are such.
/// Samples are drawn with the query forced for `ended`, and free for the words kept.
SampledResult sample_queries(Expander& expander, const std::vector<Source>& sources,
                             const std::vector<Source>& training, ExpandSettings settings, Index max_queries);

}  // namespace unfurl::train
