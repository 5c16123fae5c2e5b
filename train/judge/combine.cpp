#include <fmt/format.h>

#include <cstdio>
#include <map>
#include <set>

#include "core/error.h"
#include "core/files.h"
#include "train/judge/judge.h"
#include "train/judge/judge_report.h"
#include "train/judge/scores.h"

namespace unfurl::train {

namespace fs = std::filesystem;

void combine_judgements(const std::vector<fs::path>& folders, const std::vector<HypothesisConfig>& asked,
                        const JudgeConfig& config, std::uint64_t seed, const fs::path& folder) {
  for (const HypothesisConfig& hypothesis : asked) check_metric(hypothesis);
  if (folders.size() < 2) user_error("--combine needs the folders of at least two judgements, got {}", folders.size());
  std::vector<Scores> units;
  std::map<std::string, fs::path> met;  // by content: worlds and seeds that differ never judge alike
  for (const fs::path& path : folders) {
    const auto [same, is_new] = met.emplace(read_file(path / "queries.jsonl"), path);
    if (!is_new) {
      user_error("{} holds the same judgement as {}: each unit counts once", path.string(), same->second.string());
    }
    units.push_back(read_scores(path / "queries.jsonl"));
    if (units.back().systems != units[0].systems) {
      user_error("{} judged other systems than {}; combine judgements of one recipe", path.string(),
                 folders[0].string());
    }
  }
  const Bootstrap bootstrap{seed, config.resamples, config.confidence};
  JudgementPage page;
  page.title = "unfurl: judgements of several worlds" + std::string(units[0].simulated ? " (simulated)" : "");
  page.image_side = fmt::format("those of {} judgements", folders.size());
  std::set<std::string> worlds;
  for (const Scores& unit : units) worlds.insert(unit.world);
  page.inference = fmt::format("over worlds ({}), their training seeds ({} in all) and their queries", worlds.size(),
                               folders.size());
  if (folders.size() == 2) page.inference += "; intervals over two units say little";
  page.bootstrap = bootstrap;
  for (const std::string& system : units[0].systems) page.models.push_back(system);
  const Judgement shown = show_judgement(units, test_hypotheses(units, asked, bootstrap), page);
  make_folder(folder);
  write_file(folder / "judge.txt", shown.text);
  write_file(folder / "report.html", shown.html);
  write_file(folder / "judge.json", shown.json.dump(2) + "\n");
  fmt::print("{}\n{}\n", shown.text, (folder / "report.html").string());
  std::fflush(stdout);
}

}  // namespace unfurl::train
