#include <fmt/format.h>

#include <cstdio>
#include <string>
#include <unordered_set>
#include <vector>

#include "core/error.h"
#include "core/files.h"
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
  std::size_t lines = 0, empty = 0, invalid = 0, control = 0, repeated = 0;
};

bool has_control_characters(std::string_view text) {
  for (const char c : text) {
    if ((c >= 0 && c < 0x20 && c != '\t') || c == 0x7f) return true;
  }
  return false;
}

PromptList read_prompts(const PairsOptions& options) {
  const MappedFile file(options.prompts);
  PromptList list;
  std::unordered_set<std::string> seen;
  const std::string_view text = file.text();
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t end = std::min(text.find('\n', at), text.size());
    std::string_view line = trim(text.substr(at, end - at));
    if (list.lines == 0 && line.starts_with(kByteOrderMark)) line = trim(line.substr(kByteOrderMark.size()));
    at = end + 1;
    ++list.lines;
    if (line.empty()) {
      ++list.empty;
    } else if (!valid_utf8(line)) {
      ++list.invalid;
    } else if (has_control_characters(line)) {
      ++list.control;
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
  if (list.lines == 0) user_error("{} is empty: it must hold one prompt a line", options.prompts.string());
  if (list.prompts.empty()) {
    user_error("{}: none of its {} lines is a prompt ({} empty, {} not UTF-8, {} with control characters)",
               options.prompts.string(), list.lines, list.empty, list.invalid, list.control);
  }
  return list;
}

}  // namespace

void run_corpus_pairs(const PairsOptions& options) {
  if (!(options.copy_share >= 0 && options.copy_share <= 0.9)) {
    user_error("--copy-share must be between 0 and 0.9, got {:g}", options.copy_share);
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
    user_error("{}: no pair can be made of its {} prompts: each is a single word", options.prompts.string(),
               list.prompts.size());
  }
  out.commit();

  fmt::print("{} pairs from {} prompts -> {}\n{}", counts.total(), list.prompts.size() - without_pairs,
             options.out.string(), counts.text());
  fmt::print("  dropped   {} queries that are the whole prompt, {} prompts that no query can be made of\n",
             whole_prompt, without_pairs);
  fmt::print("  lines     {}: {} empty, {} not UTF-8, {} with control characters, {} repeated\n", list.lines,
             list.empty, list.invalid, list.control, list.repeated);
  if (options.copy_share > 0 && copy_sources == 0) {
    fmt::print("  no copy pairs: no prompt has two flavors, and copy pairs borrow them\n");
  }
  std::fflush(stdout);
}

}  // namespace unfurl::train
