#include "train/data/split.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <unordered_map>
#include <utility>

#include "core/error.h"
#include "core/files.h"
#include "kernels/thread_pool.h"
#include "train/corpus/text.h"

namespace unfurl::train {
namespace {

constexpr std::size_t kGram = 5;  // words
constexpr std::uint64_t kIdSeed = 1, kContentSeed = 2, kGramSeed = 3, kSideSeed = 4, kHalfSeed = 5;

/// Lower-case words of letters and digits (bytes of other than ASCII letters count as letters), one space between them.
std::string normalised(std::string_view text) {
  std::string out;
  bool gap = false;
  for (const char c : text) {
    const bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || (c & 0x80) != 0;
    if (letter && gap && !out.empty()) out += ' ';
    if (letter) out += c;
    gap = !letter;
  }
  return lower(out);
}

/// Sets of indices that are closed under `join`; a set is named by its smallest member.
class UnionFind {
 public:
  explicit UnionFind(std::size_t count) : parent_(count) { std::iota(parent_.begin(), parent_.end(), std::int64_t{0}); }
  std::int64_t find(std::int64_t i) {
    const auto up = [this](std::int64_t at) -> std::int64_t& { return parent_[static_cast<std::size_t>(at)]; };
    while (up(i) != i) i = up(i) = up(up(i));
    return i;
  }
  void join(std::int64_t a, std::int64_t b) {
    a = find(a);
    b = find(b);
    parent_[static_cast<std::size_t>(std::max(a, b))] = std::min(a, b);
  }

 private:
  std::vector<std::int64_t> parent_;
};

/// The hashes of the text's word 5-grams, as a sorted set.
std::vector<std::uint64_t> grams_of(std::string_view text) {
  const std::string words = normalised(text);
  std::vector<std::size_t> begins = {0};
  for (std::size_t i = 0; i < words.size(); ++i) {
    if (words[i] == ' ') begins.push_back(i + 1);
  }
  begins.push_back(words.size() + 1);
  const std::size_t count = begins.size() - 1;
  std::vector<std::uint64_t> grams;
  if (words.empty()) {
    grams.push_back(hash_bytes(text, kGramSeed));  // nothing but punctuation
  } else if (count < kGram) {
    grams.push_back(hash_bytes(words, kGramSeed));
  }
  for (std::size_t i = 0; i + kGram <= count; ++i) {
    const std::size_t end = begins[i + kGram] - 1;
    grams.push_back(hash_bytes(std::string_view(words).substr(begins[i], end - begins[i]), kGramSeed));
  }
  std::sort(grams.begin(), grams.end());
  grams.erase(std::unique(grams.begin(), grams.end()), grams.end());
  return grams;
}

void check(const SplitConfig& config) {
  for (const double share : {config.train, config.validation, config.test, config.base}) {
    if (!(share >= 0 && share <= 1)) user_error("split: a share must be in [0, 1], got {}", share);
  }
  const double sum = config.train + config.validation + config.test;
  if (std::abs(sum - 1) > 1e-6) {
    user_error("split: the shares of train ({}), validation ({}) and test ({}) must have the sum 1, not {}",
               config.train, config.validation, config.test, sum);
  }
  if (!(config.similarity > 0)) user_error("split: similarity must be above 0, got {}", config.similarity);
}

/// Uniform in [0, 1) from a group's key.
double draw(std::uint64_t key, std::uint64_t seed, std::uint64_t purpose) {
  const std::uint64_t words[2] = {key, seed};
  const std::uint64_t hash = hash_bytes({reinterpret_cast<const char*>(words), sizeof words}, purpose);
  return static_cast<double>(hash >> 11) * 0x1p-53;
}

}  // namespace

std::uint64_t split_key(const Pair& pair) {
  if (!pair.id.empty()) return hash_bytes(pair.id, kIdSeed);
  const std::string_view prompt = pair.prompt;
  std::string content = normalised(prompt.substr(0, prompt.find(',')));
  if (content.empty()) content = normalised(prompt);
  return content.empty() ? hash_bytes(prompt, kContentSeed) : hash_bytes(content, kContentSeed);
}

// Two sets x and y, |y| <= |x|, are similar enough only where they share at least t / (1 + t) (|x| + |y|) grams, which
// is at least t |x| and at least 2 t / (1 + t) |y|. Sort all sets by one order, rarest gram first: then the first |x| -
// t |x| + 1 grams of x and the first |y| - 2 t / (1 + t) |y| + 1 of y have one in common. Rare grams are in few texts,
// so few candidates are left to compare in full.
std::vector<std::int64_t> near_duplicate_groups(std::span<const std::string_view> texts, double similarity) {
  const double t = similarity;
  require(t > 0 && t <= 1, "near_duplicate_groups: similarity must be in (0, 1], got {}", t);
  const auto least = [](double share) { return static_cast<std::size_t>(std::max(1.0, std::ceil(share - 1e-9))); };
  std::vector<std::vector<std::uint64_t>> hashes(texts.size());
  constexpr Index kTextsPerTask = 256;
  const auto count = static_cast<Index>(texts.size());
  kernels::ThreadPool::global().parallel_for((count + kTextsPerTask - 1) / kTextsPerTask, [&](Index task) {
    for (Index i = task * kTextsPerTask; i < std::min(count, (task + 1) * kTextsPerTask); ++i) {
      hashes[static_cast<std::size_t>(i)] = grams_of(texts[static_cast<std::size_t>(i)]);
    }
  });

  // Texts of the same grams are one from here on.
  UnionFind groups(texts.size());
  std::vector<std::int64_t> distinct;
  std::unordered_map<std::uint64_t, std::int64_t> first;
  for (std::int64_t i = 0; i < count; ++i) {
    const auto& grams = hashes[static_cast<std::size_t>(i)];
    const std::string_view bytes{reinterpret_cast<const char*>(grams.data()), grams.size() * sizeof grams[0]};
    const auto [entry, added] = first.try_emplace(hash_bytes(bytes), i);
    if (added) {
      distinct.push_back(i);
    } else {
      groups.join(entry->second, i);
    }
  }

  // Grams by their rank: the rarest first.
  std::unordered_map<std::uint64_t, std::uint32_t> rank;
  for (const std::int64_t i : distinct) {
    for (const std::uint64_t gram : hashes[static_cast<std::size_t>(i)]) ++rank[gram];
  }
  std::vector<std::pair<std::uint32_t, std::uint64_t>> by_frequency;
  by_frequency.reserve(rank.size());
  for (const auto& [gram, frequency] : rank) by_frequency.emplace_back(frequency, gram);
  std::sort(by_frequency.begin(), by_frequency.end());
  for (std::size_t r = 0; r < by_frequency.size(); ++r) rank[by_frequency[r].second] = static_cast<std::uint32_t>(r);
  std::vector<std::vector<std::uint32_t>> sets(distinct.size());
  for (std::size_t d = 0; d < distinct.size(); ++d) {
    auto& grams = hashes[static_cast<std::size_t>(distinct[d])];
    for (const std::uint64_t gram : grams) sets[d].push_back(rank[gram]);
    std::sort(sets[d].begin(), sets[d].end());
    grams = {};
  }

  const auto similar = [&](const std::vector<std::uint32_t>& a, const std::vector<std::uint32_t>& b) {
    const std::size_t enough = least(t / (1 + t) * static_cast<double>(a.size() + b.size()));
    std::size_t i = 0, j = 0, shared = 0;
    while (i < a.size() && j < b.size()) {
      if (shared + std::min(a.size() - i, b.size() - j) < enough) return false;
      if (a[i] == b[j]) {
        ++shared, ++i, ++j;
      } else {
        ++(a[i] < b[j] ? i : j);
      }
    }
    return shared >= enough;
  };
  std::vector<std::size_t> by_size(sets.size());
  std::iota(by_size.begin(), by_size.end(), std::size_t{0});
  std::stable_sort(by_size.begin(), by_size.end(),
                   [&](std::size_t a, std::size_t b) { return sets[a].size() < sets[b].size(); });
  std::vector<std::vector<std::uint32_t>> holders(by_frequency.size());  // of each gram, smallest set first
  std::vector<std::size_t> compared(sets.size(), sets.size());           // with whom each set was last compared
  for (const std::size_t x : by_size) {
    const auto& set = sets[x];
    const auto size = static_cast<double>(set.size());
    const std::size_t smallest = least(t * size);
    for (std::size_t k = 0; k + smallest <= set.size(); ++k) {
      const auto& list = holders[set[k]];
      for (auto y = list.rbegin(); y != list.rend() && sets[*y].size() >= smallest; ++y) {
        if (std::exchange(compared[*y], x) == x) continue;
        if (groups.find(distinct[x]) == groups.find(distinct[*y]) || !similar(set, sets[*y])) continue;
        groups.join(distinct[x], distinct[*y]);
      }
    }
    const std::size_t shared = least(2 * t / (1 + t) * size);
    for (std::size_t k = 0; k + shared <= set.size(); ++k) holders[set[k]].push_back(static_cast<std::uint32_t>(x));
  }
  std::vector<std::int64_t> out(texts.size());
  for (std::int64_t i = 0; i < count; ++i) out[static_cast<std::size_t>(i)] = groups.find(i);
  return out;
}

Split split_pairs(std::span<const Pair> pairs, const SplitConfig& config) {
  check(config);
  UnionFind groups(pairs.size());
  std::vector<std::uint64_t> keys(pairs.size());
  std::unordered_map<std::uint64_t, std::int64_t> first_of_key;
  std::unordered_map<std::string_view, std::size_t> place;  // of each distinct prompt
  std::vector<std::string_view> prompts;
  std::vector<std::int64_t> first_of_prompt;
  for (std::size_t i = 0; i < pairs.size(); ++i) {
    const auto pair = static_cast<std::int64_t>(i);
    keys[i] = split_key(pairs[i]);
    groups.join(first_of_key.try_emplace(keys[i], pair).first->second, pair);
    if (config.similarity > 1) continue;
    const auto [entry, added] = place.try_emplace(pairs[i].prompt, prompts.size());
    if (added) {
      prompts.push_back(pairs[i].prompt);
      first_of_prompt.push_back(pair);
    } else {
      groups.join(first_of_prompt[entry->second], pair);
    }
  }
  if (!prompts.empty()) {
    const std::vector<std::int64_t> near = near_duplicate_groups(prompts, config.similarity);
    for (std::size_t p = 0; p < near.size(); ++p) {
      groups.join(first_of_prompt[p], first_of_prompt[static_cast<std::size_t>(near[p])]);
    }
  }

  std::vector<std::uint64_t> group_keys(pairs.size(), ~std::uint64_t{0});
  std::vector<Index> sizes(pairs.size(), 0);
  for (std::size_t i = 0; i < pairs.size(); ++i) {
    const auto group = static_cast<std::size_t>(groups.find(static_cast<std::int64_t>(i)));
    group_keys[group] = std::min(group_keys[group], keys[i]);
    ++sizes[group];
  }
  Split split;
  for (std::size_t i = 0; i < pairs.size(); ++i) {
    const auto group = static_cast<std::size_t>(groups.find(static_cast<std::int64_t>(i)));
    // Hashed once more: the smallest of several keys is not uniform.
    const double u = draw(group_keys[group], config.seed, kSideSeed);
    Side side = Side::test;
    if (u < config.train) {
      side = draw(group_keys[group], config.seed, kHalfSeed) < config.base ? Side::base : Side::refine;
    } else if (u < config.train + config.validation) {
      side = Side::validation;
    }
    // Rounding must not open a side that is meant to be empty.
    if (side == Side::test && config.test == 0) side = config.validation > 0 ? Side::validation : Side::base;
    split.sides.push_back(side);
    ++(side == Side::base         ? split.base
       : side == Side::refine     ? split.refine
       : side == Side::validation ? split.validation
                                  : split.test);
    if (sizes[i] > 0) ++split.groups;
    split.largest_group = std::max(split.largest_group, sizes[i]);
  }
  split.merged = static_cast<Index>(first_of_key.size()) - split.groups;
  return split;
}

}  // namespace unfurl::train
