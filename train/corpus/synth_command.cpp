#include <fmt/format.h>

#include <algorithm>
#include <cstdio>
#include <memory>

#include "core/error.h"
#include "core/files.h"
#include "core/names.h"
#include "train/corpus/commands.h"
#include "train/corpus/copy_pairs.h"
#include "train/corpus/grammar.h"
#include "train/corpus/held_out.h"
#include "train/corpus/summary.h"
#include "train/corpus/words.h"

namespace unfurl::train {
namespace {

constexpr std::uint32_t kScenePurpose = 0xC0B1, kCopyPurpose = 0xC0B2, kHeldOutPurpose = 0xC0B3;

void check(const SynthOptions& options) {
  if (options.pairs < 1 || options.pairs > 100'000'000) {
    user_error("--pairs must be between 1 and 100000000, got {}", options.pairs);
  }
  if (!(options.copy_share >= 0 && options.copy_share <= 0.9)) {
    user_error("--copy-share must be between 0 and 0.9, got {:g}", options.copy_share);
  }
  if (!(options.heldout_share >= 0 && options.heldout_share <= 0.5)) {
    user_error("--heldout-share must be between 0 and 0.5, got {:g}", options.heldout_share);
  }
  if (options.heldout_pairs < 0 || options.heldout_pairs > 100'000'000) {
    user_error("--heldout-pairs must be between 0 and 100000000, got {}", options.heldout_pairs);
  }
}

/// The words of the content lists that are not held out.
CopyVocabulary vocabulary_without(const HeldOutWords& held_out) {
  CopyVocabulary vocabulary;
  for (const std::string_view file :
       {"subjects", "adjectives", "materials", "actions", "places", "details", "abstract", "grounded"}) {
    for (const WordSection& section : word_file(file)) {
      for (const std::string_view entry : section.entries) {
        if (!held_out.in(entry)) vocabulary.add(entry);
      }
    }
  }
  vocabulary.forbid([&held_out](std::string_view word) { return held_out.contains(word); });
  return vocabulary;
}

}  // namespace

void run_corpus_synth(const SynthOptions& options) {
  check(options);
  make_folder(options.out);
  const auto pairs_path = options.out / "pairs.jsonl", heldout_path = options.out / "heldout.jsonl";
  PairWriter out(pairs_path), heldout_out(heldout_path);
  const HeldOutWords held_out(options.heldout_share, options.seed);
  const Grammar grammar([&](std::string_view entry) { return !held_out.in(entry); });
  const CopyVocabulary vocabulary = vocabulary_without(held_out);

  PairCounts counts;
  CopyQuota quota(options.copy_share);
  const auto wanted = static_cast<std::size_t>(options.pairs);
  const auto write = [&](const Pair& pair) {
    if (counts.total() == wanted) return;
    out.write(pair);
    counts.add(pair);
    quota.count(pair.type == "copy");
  };
  std::size_t whole_prompt = 0;
  for (std::uint64_t i = 0; counts.total() < wanted; ++i) {
    Draw draw(options.seed, kScenePurpose, i);
    const std::vector<Pair> made = grammar.scene(draw);
    for (const Pair& pair : made) {
      if (pair.query == pair.prompt) {
        ++whole_prompt;
      } else {
        write(pair);
      }
    }
    for (Draw copy_draw(options.seed, kCopyPurpose, i); quota.due() && counts.total() < wanted;) {
      write(copy_pair(vocabulary.query(copy_draw), grammar.flavors(copy_draw), made.front().id));
    }
  }

  // The full grammar, of which the pairs are kept whose query has a held-out word. A tiny share may hold out only words
  // that queries rarely say: the search ends.
  const std::size_t heldout_wanted = held_out.size() == 0         ? 0
                                     : options.heldout_pairs == 0 ? std::max<std::size_t>(1, wanted / 10)
                                                                  : static_cast<std::size_t>(options.heldout_pairs);
  PairCounts heldout_counts;
  const Grammar full([](std::string_view) { return true; });
  const std::uint64_t scenes = 10'000 + 100 * std::uint64_t{heldout_wanted};
  for (std::uint64_t i = 0; i < scenes && heldout_counts.total() < heldout_wanted; ++i) {
    Draw draw(options.seed, kHeldOutPurpose, i);
    for (const Pair& pair : full.scene(draw)) {
      if (heldout_counts.total() == heldout_wanted || pair.query == pair.prompt || !held_out.in(pair.query)) continue;
      heldout_out.write(pair);
      heldout_counts.add(pair);
    }
  }
  out.commit();
  heldout_out.commit();

  fmt::print("{} {} -> {}\n{}", counts.total(), plural(counts.total(), "pair"), pairs_path.string(), counts.text());
  fmt::print("  dropped   {} {} the whole prompt\n", whole_prompt,
             plural(whole_prompt, "query that is", "queries that are"));
  fmt::print("{} {} whose query has one of {} held-out {} (of {}) -> {}\n", heldout_counts.total(),
             plural(heldout_counts.total(), "pair"), held_out.size(), plural(held_out.size(), "word"), held_out.of(),
             heldout_path.string());
  if (heldout_counts.total() > 0) fmt::print("{}", heldout_counts.text());
  std::fflush(stdout);
}

}  // namespace unfurl::train
