// Made-up prompts and tokenizers trained on them, shared by the tests of the data layer.
#pragma once
#include <filesystem>
#include <string>
#include <vector>

#include "tests/support/temporary_folder.h"
#include "train/corpus/pair.h"
#include "train/data/tokenizer.h"

namespace unfurl::tests {

/// Prompts of a subject and 0 to 20 flavors, most of them different.
std::vector<std::string> some_prompts(int count, std::uint64_t seed);

/// Pairs of such prompts: the query is the subject, ids are "<seed>-<i>", every second has a prefix.
std::vector<train::Pair> some_pairs(int count, std::uint64_t seed);

/// A tokenizer of 460 pieces trained on some_prompts(1500, 1), made once.
std::shared_ptr<const train::Tokenizer> some_tokenizer(
    train::TokenizerConfig::Model model = train::TokenizerConfig::Model::bpe);

/// The message of the exception of type E that f throws, "" where it throws none.
template <class E, class F>
std::string message_of(const F& f) {
  try {
    f();
  } catch (const E& error) {
    return error.what();
  }
  return "";
}

inline bool has(const std::string& text, std::string_view part) { return text.find(part) != std::string::npos; }

/// Writes a file without syncing it.
void spill(const std::filesystem::path& path, std::string_view bytes);

std::vector<std::string_view> views(const std::vector<std::string>& texts);

}  // namespace unfurl::tests
