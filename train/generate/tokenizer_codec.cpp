#include "train/generate/tokenizer_codec.h"

#include <limits>

#include "train/corpus/prefix.h"
#include "train/data/example.h"

namespace unfurl::train {

Condition TokenizerCodec::condition(std::string_view query, std::string_view prefix) const {
  Condition condition;
  condition.tokens = query_part(prefix.empty() ? -1 : tokenizer_->prefix_id(prefix), tokenizer_->encode(query),
                                std::numeric_limits<Index>::max());
  condition.prefix_length = static_cast<Index>(condition.tokens.size());
  return condition;
}

std::vector<std::string> TokenizerCodec::prefixes() const {
  std::vector<std::string> names;
  for (const Prefix& prefix : kPrefixes) names.emplace_back(prefix.name);
  return names;
}

}  // namespace unfurl::train
