#include <fmt/format.h>

#include <cstdio>
#include <unordered_set>

#include "core/error.h"
#include "core/files.h"
#include "core/lines.h"
#include "core/names.h"
#include "train/corpus/bad_lines.h"
#include "train/corpus/commands.h"
#include "train/corpus/text.h"
#include "train/report/work_progress.h"

namespace unfurl::train {
namespace {

/// Calls use(line) for every good line that is not blank; returns the bad ones.
template <class Use>
std::size_t each_line(const std::filesystem::path& path, const char* what, double bad_line_share, bool shows_progress,
                      const Use& use) {
  const MappedFile file(path);
  const std::string_view text = file.text();
  if (text.empty()) user_error("{} is empty: it must hold one {} a line", path.string(), what);
  const std::size_t lines = count_lines(text);
  BadLines bad(path, what, lines, {.max_bad_share = bad_line_share});
  WorkProgress progress("lines", 0, static_cast<std::int64_t>(lines));
  for (const auto& [number, whole] : Lines(text)) {
    const std::string_view line = trim(whole);
    if (const std::string_view fault = fault_of_text(line); !fault.empty()) {
      bad.note(number, fault);
    } else if (!line.empty()) {
      use(line);
    }
    if (shows_progress && number % 4096 == 0) progress.update(static_cast<std::int64_t>(number));
  }
  if (bad.too_many()) bad.refuse();
  bad.warn();
  return bad.count();
}

FlavorScore compare(const FlavorMiner& miner, const std::vector<MinedFlavor>& mined,
                    const std::unordered_set<std::string>& reference) {
  FlavorScore score{.mined = mined.size()};
  for (const MinedFlavor& flavor : mined) score.found += reference.contains(flavor.text);
  for (const std::string& flavor : reference) score.occurring += miner.occurs(flavor);
  return score;
}

void print_scores(const MineFlavorsOptions& options, const FlavorMiner& miner,
                  const std::unordered_set<std::string>& reference) {
  std::size_t occurring = 0;
  for (const std::string& flavor : reference) occurring += miner.occurs(flavor);
  fmt::print("  reference {} flavors, of which {} are a segment of a prompt: recall is over these\n", reference.size(),
             occurring);
  fmt::print("  min-count  compose     mined  precision  recall\n");
  const auto row = [&](const MiningRules& rules, const char* mark) {
    const FlavorScore score = compare(miner, miner.mine(rules).flavors, reference);
    fmt::print("  {:>9}  {:>7}  {:>8}     {:6.3f}  {:6.3f}{}\n", rules.min_count, rules.compose ? "yes" : "no",
               score.mined, score.precision(), score.recall(), mark);
  };
  row(options.rules, "  <- written");
  for (const std::int64_t count : {1, 2, 3, 5, 10}) {
    for (const bool compose : {true, false}) {
      if (count == 1 && compose) continue;  // nothing is rarer
      MiningRules rules = options.rules;
      rules.min_count = count;
      rules.compose = compose;
      if (count != options.rules.min_count || compose != options.rules.compose) row(rules, "");
    }
  }
}

}  // namespace

void run_corpus_mine_flavors(const MineFlavorsOptions& options) {
  if (options.rules.min_count < 1) user_error("--min-count must be 1 or more, got {}", options.rules.min_count);
  if (options.rules.max_words < 1) user_error("--max-words must be 1 or more, got {}", options.rules.max_words);
  for (const auto* out : {&options.out, &options.counts}) {
    if (out->empty()) continue;
    require_other_file(*out, options.prompts);
    for (const auto& reference : options.reference) require_other_file(*out, reference);
    if (const auto folder = out->parent_path(); !folder.empty()) make_folder(folder);
  }
  std::unordered_set<std::string> reference;
  for (const auto& path : options.reference) {
    each_line(path, "flavor", options.bad_line_share, false, [&](std::string_view line) {
      if (std::string form = flavor_form(line); !form.empty()) reference.insert(std::move(form));
    });
  }
  FlavorMiner miner;
  const std::size_t bad = each_line(options.prompts, "prompt", options.bad_line_share, true,
                                    [&](std::string_view line) { miner.add(line); });
  const FlavorMiner::Result mined = miner.mine(options.rules);
  if (mined.flavors.empty()) {
    user_error("{}: none of its {} different segments is a flavor by these rules; try --min-count 1",
               options.prompts.string(), miner.segments());
  }
  FileWriter out(options.out);
  for (const MinedFlavor& flavor : mined.flavors) out.write(flavor.text + "\n");
  if (!options.counts.empty()) {
    FileWriter counts(options.counts);
    for (const MinedFlavor& flavor : mined.flavors) counts.write(fmt::format("{}\t{}\n", flavor.prompts, flavor.text));
    counts.commit();
  }
  out.commit();

  fmt::print("{} {} from {} {} with {} different segments -> {}\n", mined.flavors.size(),
             plural(static_cast<std::int64_t>(mined.flavors.size()), "flavor"), miner.prompts(),
             plural(miner.prompts(), "prompt"), miner.segments(), options.out.string());
  for (const auto& [why, count] : mined.dropped) {
    fmt::print("  dropped   {:>8}: {} (\"{}\")\n", count, why, mined.an_example.at(why));
  }
  if (bad > 0) fmt::print("  dropped   {:>8}: no text (lines)\n", bad);
  if (!options.reference.empty()) print_scores(options, miner, reference);
  std::fflush(stdout);
}

}  // namespace unfurl::train
