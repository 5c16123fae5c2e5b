#include "train/refine/keys.h"

#include <fmt/format.h>

#include "core/files.h"

namespace unfurl::train {
namespace {

template <class Config>
std::string keys_of(Config& config) {
  Schema schema;
  describe(schema, config);
  return to_yaml(schema.write());
}

}  // namespace

std::uint64_t data_hash(const DataConfig& data) {
  SplitRecipe split = data.split;
  std::string text = keys_of(split);
  for (const SourceConfig& source : data.sources) {
    text += fmt::format(" {:x} {}", hash_bytes(MappedFile(source.path).text()), to_string(source.side));
  }
  return hash_bytes(text);
}

std::string sampling_keys(SampleConfig samples) {
  samples.queries.clear();
  return keys_of(samples);
}

std::string filter_keys(RefineRecipe refine) {
  refine.side = {};
  refine.like.clear();
  return keys_of(refine);
}

}  // namespace unfurl::train
