#include "train/trainer/sampled.h"

#include <algorithm>
#include <set>
#include <unordered_set>

#include "train/corpus/text.h"

namespace unfurl::train {
namespace {

/// At most `count` of the values, evenly spread.
std::vector<std::string> spread(const std::vector<std::string>& values, Index count) {
  std::vector<std::string> out;
  const auto total = static_cast<Index>(values.size());
  count = std::min(count, total);
  for (Index i = 0; i < count; ++i) out.push_back(values[static_cast<std::size_t>(i * total / count)]);
  return out;
}

void count_kept(std::string_view query, std::string_view text, Index& kept, Index& asked) {
  const std::vector<std::string> words = plain_words(text);
  const std::unordered_set<std::string> have(words.begin(), words.end());
  for (const std::string& word : plain_words(query)) {
    ++asked;
    if (have.contains(word)) ++kept;
  }
}

}  // namespace

SampledResult sample_queries(Expander& expander, const std::vector<Source>& sources,
                             const std::vector<Source>& training, ExpandSettings settings, Index max_queries) {
  std::unordered_set<std::string> known;
  for (const Source& source : training) {
    for (Index i = 0; i < source.shard->size(); ++i) {
      for (const std::string& word : plain_words(source.shard->query(i))) known.insert(word);
      for (const std::string& word : plain_words(source.shard->prompt(i))) known.insert(word);
    }
  }
  std::vector<std::string> all, with_new;
  std::set<std::string, std::less<>> met;
  for (const Source& source : sources) {
    for (Index i = 0; i < source.shard->size(); ++i) {
      const std::string query(source.shard->query(i));
      if (!met.insert(query).second) continue;
      const std::vector<std::string> words = plain_words(query);
      const bool is_new =
          std::any_of(words.begin(), words.end(), [&](const auto& word) { return !known.contains(word); });
      (is_new ? with_new : all).push_back(query);
    }
  }
  SampledResult out;
  const auto draw = [&](const std::string& query, bool is_new) {
    ++out.queries;
    settings.keep = KeepMode::verbatim;
    const Expansions forced = expander.expand(query, settings);
    std::set<std::string> texts;
    for (const Expansion& expansion : forced.items) {
      ++out.samples;
      out.ended += expansion.ended ? 1 : 0;
      out.words += static_cast<double>(split_words(expansion.text).size());
      texts.insert(expansion.text);
    }
    out.different += static_cast<Index>(texts.size());
    settings.keep = KeepMode::free;
    for (const Expansion& expansion : expander.expand(query, settings).items) {
      count_kept(query, expansion.text, out.kept, out.asked);
      if (is_new) count_kept(query, expansion.text, out.new_kept, out.new_asked);
    }
    out.new_queries += is_new ? 1 : 0;
  };
  const Index of_new = std::min<Index>(max_queries / 2, static_cast<Index>(with_new.size()));
  for (const std::string& query : spread(all, max_queries - of_new)) draw(query, false);
  for (const std::string& query : spread(with_new, of_new)) draw(query, true);
  if (out.samples > 0) out.words /= static_cast<double>(out.samples);
  return out;
}

}  // namespace unfurl::train
