#include <fmt/format.h>

#include <cstdio>
#include <string>
#include <unordered_set>
#include <vector>

#include "core/error.h"
#include "core/files.h"
#include "core/lines.h"
#include "core/names.h"
#include "train/corpus/bad_lines.h"
#include "train/corpus/commands.h"
#include "train/corpus/copy_pairs.h"
#include "train/corpus/normalize.h"
#include "train/corpus/prompt_pairs.h"
#include "train/corpus/summary.h"
#include "train/corpus/text.h"

namespace unfurl::train {
namespace {

constexpr std::uint32_t kVariantPurpose = 0xC0A1, kCopyPurpose = 0xC0A2;

struct PromptList {
  std::vector<std::string> prompts;
  std::size_t lines = 0, empty = 0, bad = 0, repeated = 0;
};

PromptList read_prompts(const PairsOptions& options) {
  const MappedFile file(options.prompts);
  const std::string_view text = file.text();
  if (text.empty()) user_error("{} is empty: it must hold one prompt a line", options.prompts.string());
  PromptList list;
  BadLines bad(options.prompts, "prompt", count_lines(text), {.max_bad_share = options.bad_line_share});
  std::unordered_set<std::string> seen;
  for (const auto& [number, whole] : Lines(text)) {
    const std::string_view line = trim(whole);
    list.lines = number;
    if (line.empty()) {
      ++list.empty;
    } else if (const std::string_view fault = fault_of_text(line); !fault.empty()) {
      bad.note(list.lines, fault);
    } else {
      std::string prompt = options.normalize ? normalize_spacing(line) : std::string(line);
      if (split_segments(prompt).empty()) {
        ++list.empty;
      } else if (!seen.insert(lower(prompt)).second) {
        ++list.repeated;
      } else {
        list.prompts.push_back(std::move(prompt));
      }
    }
  }
  if (bad.too_many()) bad.refuse();
  bad.warn();
  list.bad = bad.count();
  if (list.prompts.empty()) {
    user_error("{}: none of its {} {} is a prompt ({} empty, {} bad)", options.prompts.string(), list.lines,
               plural(list.lines, "line"), list.empty, list.bad);
  }
  return list;
}

}  // namespace

void run_corpus_pairs(const PairsOptions& options) {
  if (!(options.copy_share >= 0 && options.copy_share <= 0.9)) {
    user_error("--copy-share must be between 0 and 0.9, got {:g}", options.copy_share);
  }
  if (!(options.bad_line_share >= 0 && options.bad_line_share <= 1)) {
    user_error("--bad-line-share must be between 0 and 1, got {:g}", options.bad_line_share);
  }
  if (options.variants < 1 || options.variants > 16) {
    user_error("--variants must be between 1 and 16, got {}", options.variants);
  }
  require_other_file(options.out, options.prompts);
  if (const auto folder = options.out.parent_path(); !folder.empty()) make_folder(folder);
  PairWriter out(options.out);  // first: an unwritable folder shows before the work
  const PromptList list = read_prompts(options);
  PromptStatistics statistics;
  CopyVocabulary vocabulary;
  for (const std::string& prompt : list.prompts) {
    statistics.add(prompt);
    vocabulary.add(prompt);
  }

  PairCounts counts;
  CopyQuota quota(options.copy_share);
  std::size_t whole_prompt = 0, without_pairs = 0, copy_sources = 0;
  const auto write = [&](const Pair& pair) {
    out.write(pair);
    counts.add(pair);
    quota.count(pair.type == "copy");
  };
  for (std::size_t i = 0; i < list.prompts.size(); ++i) {
    Draw draw(options.seed, kVariantPurpose, i);
    const PromptPairs made =
        pairs_of_prompt(list.prompts[i], statistics, static_cast<std::size_t>(options.variants), draw);
    whole_prompt += made.whole_prompt;
    if (made.pairs.empty()) ++without_pairs;
    for (const Pair& pair : made.pairs) write(pair);
    // Copies use the flavors of a prompt that has some, and its id: they stay on its side of a split.
    if (made.pairs.empty() || made.pairs.front().flavors.size() < 2) continue;
    ++copy_sources;
    for (Draw copy_draw(options.seed, kCopyPurpose, i); quota.due();) {
      write(copy_pair(vocabulary.query(copy_draw), made.pairs.front().flavors, made.pairs.front().id));
    }
  }
  if (counts.total() == 0) {
    user_error("{}: no pair can be made of its {} {}: each is a single word", options.prompts.string(),
               list.prompts.size(), plural(list.prompts.size(), "prompt"));
  }
  out.commit();

  const std::size_t used = list.prompts.size() - without_pairs;
  fmt::print("{} {} from {} {} -> {}\n{}", counts.total(), plural(counts.total(), "pair"), used, plural(used, "prompt"),
             options.out.string(), counts.text());
  fmt::print("  dropped   {} {} the whole prompt, {} {} that no query can be made of\n", whole_prompt,
             plural(whole_prompt, "query that is", "queries that are"), without_pairs, plural(without_pairs, "prompt"));
  fmt::print("  lines     {}: {} empty, {} bad, {} repeated\n", list.lines, list.empty, list.bad, list.repeated);
  if (options.copy_share > 0 && copy_sources == 0) {
    fmt::print("  no copy pairs: no prompt has two flavors, and copy pairs borrow them\n");
  }
  std::fflush(stdout);
}

}  // namespace unfurl::train
