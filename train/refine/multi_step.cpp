#include "train/refine/multi_step.h"

#include <fmt/format.h>

#include <filesystem>
#include <optional>

#include "core/error.h"
#include "core/files.h"
#include "core/names.h"
#include "train/data/prepare.h"
#include "train/log.h"
#include "train/refine/expansions.h"
#include "train/refine/keys.h"
#include "train/refine/steps.h"

namespace unfurl::train {
namespace {

namespace fs = std::filesystem;

Side side_of(QuerySide side) {
  return side == QuerySide::base ? Side::base : side == QuerySide::refine ? Side::refine : Side::validation;
}

/// What the next step expands.
std::vector<ExpandedQuery> prompts_as_queries(const std::vector<ExpandedQuery>& step, bool only_ended) {
  std::vector<ExpandedQuery> out;
  for (const ExpandedQuery& from : step) {
    for (const ExpandedPrompt& prompt : from.prompts) {
      if (only_ended && !prompt.ended) continue;
      out.push_back({.key = fmt::format("{}/{}", from.key, prompt.sample),
                     .query = prompt.text,
                     .type = from.type,
                     .id = from.id,
                     .source = from.source,
                     .prompts = {},
                     .simulated = from.simulated});
    }
  }
  return out;
}

class MultiStep {
 public:
  explicit MultiStep(const Recipe& recipe, bool fresh)
      : recipe_(recipe), folder_(recipe.output), steps_(begun(folder_, fresh)) {}

  void run() {
    const MultiStepRecipe& config = recipe_.multi_step;
    from_ = hash_bytes(fmt::format("multi_step {} {} {} {} {:x} {:x} {}", recipe_.seed, config.only_ended,
                                   to_string(config.queries), config.max_queries, data_hash(recipe_.data),
                                   run_hash(recipe_.start), sampling_keys(recipe_.samples)));
    queries_ = queries_of(read_and_split(recipe_.data), side_of(config.queries), config.max_queries,
                          static_cast<std::uint64_t>(recipe_.seed));
    if (queries_.empty()) {
      user_error("{}: the {} side of the data holds no queries; set multi_step.queries or data.split", recipe_.name,
                 to_string(config.queries));
    }
    Json counts = Json::array();
    counts.push_back(static_cast<std::int64_t>(queries_.size()));
    std::vector<Pair> pairs;
    for (Index step = 1; step <= config.steps; ++step) {
      expand(step);
      Index ended = 0;
      for (const ExpandedQuery& from : queries_) {
        for (const ExpandedPrompt& prompt : from.prompts) {
          if (config.only_ended && !prompt.ended) continue;
          ++ended;
          if (step == 1) continue;
          pairs.push_back({.query = from.query,
                           .prompt = prompt.text,
                           .prefix = "MSTP",
                           .id = from.id,
                           .type = from.type,
                           .content = {},
                           .flavors = {},
                           .source = from.source,
                           .simulated = from.simulated});
        }
      }
      info("step {}: {} {} from {}", step, ended, plural(ended, "prompt"), queries_.size());
      counts.push_back(ended);
      queries_ = prompts_as_queries(queries_, config.only_ended);
    }
    if (pairs.empty()) {
      user_error(
          "{}: no prompt could be expanded twice; shorten samples.max_tokens, so that two steps fit the model's "
          "context, or train {} longer",
          recipe_.name, recipe_.start);
    }
    PairWriter writer(folder_ / "pairs.jsonl");
    for (const Pair& pair : pairs) writer.write(pair);
    writer.commit();
    Json report = Json::object();
    report["queries"] = to_string(config.queries);
    report["steps"] = config.steps;
    report["prompts_by_step"] = std::move(counts);
    report["pairs"] = static_cast<std::int64_t>(pairs.size());
    write_file(folder_ / "multi_step.json", report.dump(2) + "\n");
    fmt::print("{} pairs of a prompt and its further expansion -> {}\n", pairs.size(),
               (folder_ / "pairs.jsonl").string());
    std::fflush(stdout);
  }

 private:
  static Steps begun(const fs::path& folder, bool fresh) {
    make_folder(folder);
    if (fresh) fs::remove(folder / "steps.json");
    return Steps(folder);
  }

  void expand(Index step) {
    const std::string name = fmt::format("step-{}", step), file = name + ".jsonl";
    from_ = hash_bytes(fmt::format("{:x} {}", from_, step));
    if (steps_.begin(name, from_, {file})) {
      queries_ = read_expansions(folder_ / file);
      return;
    }
    if (!expander_) expander_.emplace(recipe_.start, recipe_);
    ExpandSettings settings = expand_settings(recipe_.samples, recipe_.seed);
    if (step > 1) {
      settings.count = 1;
      settings.diverse = 0;
    }
    expander_->expand(queries_, settings, folder_ / file, step == 1 ? "queries" : "prompts");
    steps_.finish(name);
  }

  const Recipe& recipe_;
  const fs::path folder_;
  Steps steps_;
  std::vector<ExpandedQuery> queries_;  // of the step that is under way
  std::optional<RunExpander> expander_;
  std::uint64_t from_ = 0;
};

}  // namespace

void run_multi_step(const Recipe& recipe, bool fresh) { MultiStep(recipe, fresh).run(); }

}  // namespace unfurl::train
