// Tokenised pairs on disk, one file per split and source, read through a memory map.
//
//   header       magic, version, fingerprint of the tokenizer, hash of all else, counts, flags (64 bytes)
//   token ends   [examples, 2] uint64: where the tokens of the query and of the prompt end
//   text ends    [examples, 5] uint64: where the texts end
//   tokens       [tokens] int32
//   prefixes     [examples] int32: piece of the prefix, or -1
//   text         UTF-8: query, prompt, id, type, and source, content, flavors and simulated as JSON ("" for none)
//
// Numbers are little-endian.
//
// The texts are there for subword sampling (which encodes them anew) and for evaluation.
#pragma once
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>

#include "core/files.h"
#include "kernels/types.h"
#include "train/corpus/pair.h"
#include "train/data/tokenizer.h"

namespace unfurl::train {

/// Tokenises the pairs (on all threads) and writes them; the file appears whole or not at all. `pairs` holds indices
/// into `all`. Returns the hash of the content.
std::uint64_t write_shard(const std::filesystem::path& path, const Tokenizer& tokenizer, std::span<const Pair> all,
                          std::span<const std::int64_t> pairs);

class Shard {
 public:
  /// Throws UserError where the file is missing, damaged, of another version, or made with another tokenizer.
  Shard(const std::filesystem::path& path, const Tokenizer& tokenizer);

  Index size() const { return examples_; }  // pairs
  std::int32_t prefix(Index i) const;       // the prefix's piece, -1 where the pair has none
  std::span<const std::int32_t> query_tokens(Index i) const;
  std::span<const std::int32_t> prompt_tokens(Index i) const;
  std::string_view query(Index i) const;
  std::string_view prompt(Index i) const;
  std::string_view id(Index i) const;
  std::string_view type(Index i) const;
  /// The pair as it was written.
  Pair pair(Index i) const;

  /// Whether any of the pairs is.
  bool simulated() const { return simulated_; }
  Index tokens() const { return tokens_; }  // of all queries and prompts
  Index bytes() const { return static_cast<Index>(file_.size()); }
  std::uint64_t content_hash() const { return content_hash_; }
  const std::filesystem::path& path() const { return path_; }

 private:
  std::span<const std::int32_t> token_range(Index example, Index field) const;
  std::string_view text_range(Index example, Index field) const;

  std::filesystem::path path_;
  MappedFile file_;
  Index examples_ = 0, tokens_ = 0;
  std::uint64_t content_hash_ = 0;
  bool simulated_ = false;
  const std::uint64_t* token_ends_ = nullptr;
  const std::uint64_t* text_ends_ = nullptr;
  const std::int32_t* prefixes_ = nullptr;
  const std::int32_t* token_data_ = nullptr;
  const char* text_data_ = nullptr;
};

}  // namespace unfurl::train
