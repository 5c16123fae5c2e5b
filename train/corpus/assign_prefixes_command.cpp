#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <map>

#include "core/error.h"
#include "core/files.h"
#include "core/lines.h"
#include "core/names.h"
#include "train/corpus/commands.h"
#include "train/corpus/contrast_pairs.h"
#include "train/corpus/fields.h"
#include "train/corpus/prefix_rules.h"
#include "train/corpus/text.h"

namespace unfurl::train {
namespace {

constexpr std::uint32_t kContrastPurpose = 0xC0D1;

void check(const AssignPrefixesOptions& options) {
  if (options.threshold && options.quantile) user_error("--hast-threshold and --hast-quantile: give one of them");
  if (options.threshold && !std::isfinite(*options.threshold)) user_error("--hast-threshold must be a number");
  if (options.quantile && !(*options.quantile > 0 && *options.quantile < 1)) {
    user_error("--hast-quantile must be above 0 and below 1, got {:g}", *options.quantile);
  }
  if (!(options.contrast >= 0 && options.contrast <= 1)) {
    user_error("--contrast must be between 0 and 1, got {:g}", options.contrast);
  }
  require_other_file(options.out, options.pairs);
}

std::optional<double> score_of(const Json& line, const std::string& field) {
  const Json* found = line.find(field);
  if (found == nullptr || found->is_null()) return std::nullopt;
  if (!found->is_number() || !std::isfinite(found->as_number())) {
    fail("{} must be a number, got {}", field, found->kind());
  }
  return found->as_number();
}

/// Calls use(line as JSON, pair, score) for every good line; returns the bad ones. `says`: bad lines are told of.
template <class Use>
std::size_t each_pair(const AssignPrefixesOptions& options, bool says, const Use& use) {
  const MappedFile file(options.pairs);
  const std::string_view text = file.text();
  if (trim(text).empty()) user_error("{} is empty: it must hold one pair a line", options.pairs.string());
  BadLines bad(options.pairs, "pair", count_lines(text), {.max_bad_share = options.bad_line_share});
  for (const auto& [number, line] : Lines(text)) {
    try {
      const Pair pair = parse_pair(line);
      Json object = parse_object_line(line);
      const std::optional<double> score = score_of(object, options.score);
      use(std::move(object), pair, score);
    } catch (const Error& error) {
      bad.note(number, error.what());
    }
  }
  if (says && bad.too_many()) bad.refuse();
  if (says) bad.warn();
  return bad.count();
}

}  // namespace

void run_corpus_assign_prefixes(const AssignPrefixesOptions& options) {
  check(options);
  PromptStatistics statistics;
  std::vector<double> scores;
  std::string last;
  std::size_t pairs = 0;
  const std::size_t bad = each_pair(options, true, [&](Json&&, const Pair& pair, std::optional<double> score) {
    ++pairs;
    if (pair.prompt != last) statistics.add(pair.prompt);  // the pairs of a prompt mostly stand together
    last = pair.prompt;
    if (score) scores.push_back(*score);
  });
  std::optional<double> threshold = options.threshold;
  if ((options.threshold || options.quantile) && scores.empty()) {
    user_error("{}: no pair has a {}: HAST needs scores; name their field with --score", options.pairs.string(),
               options.score);
  }
  std::sort(scores.begin(), scores.end());
  if (options.quantile) {
    const auto place = static_cast<std::size_t>(*options.quantile * static_cast<double>(scores.size()));
    threshold = scores[std::min(place, scores.size() - 1)];
  }
  if (const auto folder = options.out.parent_path(); !folder.empty()) make_folder(folder);
  FileWriter out(options.out);
  std::map<std::string, std::size_t> counts;
  std::map<std::pair<std::string, std::string>, std::size_t> by_type;
  std::size_t changed = 0, written = 0;
  std::map<std::string, std::size_t> contrasts;
  each_pair(options, false, [&](Json&& line, const Pair& pair, std::optional<double> score) {
    const std::string prefix = prefix_by_rules(pair, statistics, score, threshold);
    const std::string name = prefix.empty() ? "none" : prefix;
    ++counts[name];
    ++by_type[{pair.type.empty() ? "unknown" : pair.type, name}];
    changed += prefix != pair.prefix;
    if (prefix.empty()) {
      std::erase_if(line.as_object(), [](const auto& member) { return member.first == "prefix"; });
    } else {
      line["prefix"] = prefix;
    }
    out.write(line.dump() + '\n');
    Draw draw(options.seed, kContrastPurpose, written++);
    if (!draw.chance(options.contrast)) return;
    Pair labelled = pair;
    labelled.prefix = prefix;
    if (const std::optional<Pair> contrast = contrast_pair(labelled, statistics, draw)) {
      ++contrasts[contrast->prefix];
      out.write(to_json(*contrast).dump() + '\n');
    }
  });
  out.commit();

  fmt::print("{} {} with {} other labels than before -> {}\n", pairs, plural(static_cast<std::int64_t>(pairs), "pair"),
             changed, options.out.string());
  const auto percent = [&](std::size_t count) {
    return 100.0 * static_cast<double>(count) / static_cast<double>(pairs);
  };
  for (const auto& [name, count] : counts) {
    std::string types;
    for (const auto& [key, of_type] : by_type) {
      if (key.second == name) types += fmt::format("{}{} {}", types.empty() ? "" : ", ", key.first, of_type);
    }
    fmt::print("  {:<5} {:>8} ({:4.1f} %)  {}\n", name, count, percent(count), types);
  }
  for (const auto& [name, count] : contrasts) {
    fmt::print("  {:<5} {:>8}           added as contrast\n", name, count);
  }
  if (threshold) {
    const auto high = scores.end() - std::lower_bound(scores.begin(), scores.end(), *threshold);
    fmt::print("  HAST from {} {:.6g} on: {} of {} scored pairs{}\n", options.score, *threshold, high, scores.size(),
               scores.size() < pairs ? fmt::format(", {} have none", pairs - scores.size()) : "");
  }
  if (bad > 0) fmt::print("  dropped   {:>8}: not a pair (lines)\n", bad);
  std::fflush(stdout);
}

}  // namespace unfurl::train
