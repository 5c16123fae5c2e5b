// The corpus commands: what the command line fills in and calls. Each prints a short summary with counts to standard
// output; files appear whole or not at all.
#pragma once
#include <cstdint>
#include <filesystem>

namespace unfurl::train {

/// unfurl corpus pairs: query/prompt pairs from a plain list of prompts, one a line.
struct PairsOptions {
  std::filesystem::path prompts = {};  // read
  std::filesystem::path out = {};      // written, JSONL
  bool normalize = false;   // mend spacing artefacts: "8 k" -> "8k", "sci - fi" -> "sci-fi", "word , " -> "word, "
  double copy_share = 0.4;  // copy pairs among all pairs, in [0, 0.9]
  int variants = 5;         // query variants of a prompt, at most; in [1, 16]
  std::uint64_t seed = 1;
  double bad_line_share = 0.01;  // the run ends where more lines than this are no text; in [0, 1]
};

/// Throws UserError for a bad option, an unreadable or empty list, one with too many bad lines or without a single
/// usable prompt; Error where `out` cannot be written.
void run_corpus_pairs(const PairsOptions& options);

/// unfurl corpus synth: pairs from a grammar of our own, no input needed.
struct SynthOptions {
  std::int64_t pairs = 20000;  // written to pairs.jsonl, copy pairs included; in [1, 100 million]
  std::uint64_t seed = 1;
  std::filesystem::path out = {};  // folder, made where it is missing: pairs.jsonl, heldout.jsonl
  double copy_share = 0.4;         // copy pairs among all pairs, in [0, 0.9]
  double heldout_share = 0.1;      // of the content words: pairs with such a word go to heldout.jsonl only; in [0, 0.5]
  std::int64_t heldout_pairs = 0;  // at most so many in heldout.jsonl; 0: a tenth of `pairs`, at least 1
};

/// Throws UserError for a bad option; Error where the folder cannot be written.
void run_corpus_synth(const SynthOptions& options);

}  // namespace unfurl::train
