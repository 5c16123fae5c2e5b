#include "train/refine/refine.h"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <optional>

#include "core/error.h"
#include "core/files.h"
#include "core/names.h"
#include "train/corpus/pair.h"
#include "train/data/prepare.h"
#include "train/judge/judge.h"
#include "train/log.h"
#include "train/refine/expansions.h"
#include "train/refine/keys.h"
#include "train/refine/refine_report.h"
#include "train/refine/scores.h"
#include "train/refine/select.h"
#include "train/refine/steps.h"
#include "train/trainer/checkpoint.h"
#include "train/trainer/trainer.h"

namespace unfurl::train {
namespace {

namespace fs = std::filesystem;

constexpr const char* kExpansions = "expansions.jsonl";
constexpr const char* kScores = "scores.jsonl";
constexpr const char* kKept = "kept.jsonl";

class Refine {
 public:
  Refine(const Recipe& recipe, bool fresh)
      : recipe_(recipe), config_(recipe.refine), folder_(recipe.output), fresh_(fresh), steps_(begun(folder_, fresh)) {}

  int run() {
    expand();
    score();
    filter();
    return train();
  }

 private:
  static Steps begun(const fs::path& folder, bool fresh) {
    make_folder(folder);
    if (fresh) fs::remove(folder / "steps.json");  // then every step begins anew
    return Steps(folder);
  }

  std::uint64_t seed() const { return static_cast<std::uint64_t>(recipe_.seed); }

  /// A step that the stage `like` has done from the same: its file, so that nothing is drawn or rendered twice.
  bool take_over(std::string_view step, std::uint64_t from, const char* file) {
    if (config_.like.empty()) return false;
    const fs::path other = config_.like;
    const Steps theirs(other);
    if (!theirs.done(step, from, {file})) return false;
    write_file(folder_ / file, read_file(other / file));
    if (const Json& note = theirs.note(step); !note.is_null()) steps_.keep(step, note);
    steps_.finish(step);
    info("{}: the {} are those of {}", recipe_.name, step, config_.like);
    return true;
  }

  void expand() {
    const bool real = config_.pairs == PairKind::real;
    std::string from = fmt::format("expansions {} {} {} {:x}", recipe_.seed, to_string(config_.pairs),
                                   config_.max_queries, data_hash(recipe_.data));
    if (!real) from += fmt::format(" {:x} {}", run_hash(recipe_.start), sampling_keys(recipe_.samples));
    expansions_from_ = hash_bytes(from);
    if (steps_.begin("expansions", expansions_from_, {kExpansions}) ||
        take_over("expansions", expansions_from_, kExpansions)) {
      queries_ = read_expansions(folder_ / kExpansions);
      info("{} {} expanded already", queries_.size(), queries());
      return;
    }
    queries_ = queries_of(read_and_split(recipe_.data), Side::refine, config_.max_queries, seed(), real);
    if (queries_.empty()) {
      user_error(
          "{}: the re-fine-tune half of the data holds no queries; set data.split.base below 1, or give more pairs",
          recipe_.name);
    }
    if (real) {
      write_expansions(folder_ / kExpansions, queries_);
    } else {
      info("{} {} of the re-fine-tune half, {} expansions each, by {}", queries_.size(), queries(), recipe_.samples.n,
           recipe_.start);
      RunExpander(recipe_.start, recipe_)
          .expand(queries_, expand_settings(recipe_.samples, recipe_.seed), folder_ / kExpansions, "queries");
    }
    steps_.finish("expansions");
  }

  void score() {
    prompts_ = prompts_of(queries_, config_.only_ended);
    if (prompts_.empty()) {
      user_error("{}: none of {} {} has an expansion {}; {}", recipe_.name, queries_.size(), queries(),
                 config_.only_ended ? "that the model ended itself" : "that says more than it",
                 config_.only_ended ? "raise samples.max_tokens, train longer before, or set refine.only_ended: false"
                                    : "train longer before");
    }
    if (!needs_scores(config_)) return;
    const bool images = needs_images(config_);
    const bool aesthetic = std::ranges::find(config_.score, "aesthetic", &ScoreTermRecipe::term) != config_.score.end();
    scores_from_ = hash_bytes(fmt::format("scores {:x} {} {} {} {} {}", expansions_from_, config_.only_ended, images,
                                          aesthetic, config_.side.command, config_.side.url));
    const bool done = steps_.begin("scores", scores_from_, {kScores}) || take_over("scores", scores_from_, kScores);
    std::optional<ImageSide> side;
    Json about = steps_.note("scores");
    if (images && !done) {
      if (config_.side.command.empty() && config_.side.url.empty()) {
        user_error("{}: the scores need images: set refine.side.command or refine.side.url", recipe_.name);
      }
      side.emplace(image_side_config(config_.side, folder_ / "images"));
      const ImageSideHello& hello = side->hello();
      if (hello.simulated) info("image side: {}; simulated: no image is made", hello.name);
      const Json before = std::move(about);
      about = Json(Json::Object{{"name", hello.name}, {"version", hello.version}, {"simulated", hello.simulated}});
      if (!before.is_null() && before != about) fs::remove(folder_ / kScores);  // of another side
      steps_.keep("scores", about);
    }
    score_prompts(prompts_, config_, side ? &*side : nullptr, seed(), folder_ / kScores);
    if (!done) steps_.finish("scores");
    if (const Json* name = about.find("name")) summary_.image_side = name->as_string();
    if (const Json* simulated = about.find("simulated")) summary_.simulated = simulated->as_bool();
    for (const ScoredPrompt& prompt : prompts_) summary_.scores.push_back(score_of(prompt, config_.score));
  }

  void filter() {
    std::vector<Candidate> candidates;
    for (std::size_t i = 0; i < prompts_.size(); ++i) {
      candidates.push_back({prompts_[i].query->type, prompts_[i].query->key,
                            summary_.scores.empty() ? 0 : summary_.scores[i], hash_bytes(prompts_[i].key())});
    }
    kept_from_ = hash_bytes(
        fmt::format("kept {:x} {:x} {} {}", expansions_from_, scores_from_, recipe_.seed, filter_keys(config_)));
    const bool done = steps_.begin("kept", kept_from_, {kKept, "refine.json", "refine.html"});
    summary_.selection = select_pairs(candidates, config_, seed());
    const std::vector<std::size_t>& kept = summary_.selection.kept;
    if (config_.select == SelectBy::score && kept.size() == prompts_.size()) {
      warn("the filter keeps all {} pairs: {}", kept.size(),
           config_.threshold == ThresholdKind::fixed
               ? fmt::format("refine.at_least {} is not above the lowest score, {:.6g}", config_.at_least,
                             *std::min_element(summary_.scores.begin(), summary_.scores.end()))
               : fmt::format("refine.keep is {}", config_.keep));
    }
    warn_of_small_groups();
    if (done) return;
    FileWriter out(folder_ / kKept);
    for (const std::size_t i : kept) {
      const ExpandedQuery& query = *prompts_[i].query;
      Json line = to_json(Pair{.query = query.query,
                               .prompt = prompts_[i].prompt,
                               .prefix = "RFT",
                               .id = query.id,
                               .type = query.type,
                               .content = {},
                               .flavors = {},
                               .source = query.source,
                               .simulated = query.simulated || summary_.simulated});
      if (!summary_.scores.empty()) line["score"] = summary_.scores[i];
      out.write(line.dump() + '\n');
    }
    out.commit();
    report();
    steps_.finish("kept");
  }

  /// Such a keep is not the share that is kept.
  void warn_of_small_groups() const {
    const std::vector<SelectionGroup>& groups = summary_.selection.groups;
    const auto raised = std::ranges::count_if(groups, &SelectionGroup::raised);
    if (raised == 0) return;
    const std::string of = config_.per == ThresholdScope::query  ? plural(raised, "query", "queries")
                           : config_.per == ThresholdScope::type ? plural(raised, "type")
                                                                 : "set";
    warn("refine.keep {} of the pairs of {} {} is less than half a pair: one of each is kept; {:.3g} % are kept in all",
         config_.keep, raised, of,
         100 * static_cast<double>(summary_.selection.kept.size()) / static_cast<double>(prompts_.size()));
  }

  void report() {
    summary_.queries = queries_.size();
    summary_.candidates = prompts_;
    for (const ExpandedQuery& query : queries_) {
      summary_.simulated_pairs = summary_.simulated_pairs || query.simulated;
      summary_.unexpanded += query.prompts.empty() ? 1 : 0;
      summary_.prompts += query.prompts.size();
    }
    summary_.not_ended = summary_.prompts - prompts_.size();
    write_refine_report(summary_, config_, recipe_.name, folder_);
  }

  int train() {
    Recipe recipe = recipe_;
    recipe.data.sources.push_back({(folder_ / kKept).string(), 1, SourceSide::train});
    recipe.data.part = DataPart::none;
    // What else matters for the pairs is in kept_from_.
    Recipe matters = recipe;
    matters.refine = {};
    matters.multi_step = {};
    matters.eval = {};
    matters.judge = {};
    const std::uint64_t from =
        hash_bytes(fmt::format("train {:x} {:x} {:x}", kept_from_, run_hash(recipe_.start), recipe_hash(matters)));
    const bool goes_on = !fresh_ && steps_.began_from("train", from);
    if (!goes_on) {  // a run on other pairs has no part in this one
      remove_checkpoints_after(folder_, -1);
      fs::remove(folder_ / "run.json");
      steps_.begin("train", from, {});
    }
    const TrainOutcome outcome = train_stage(recipe, {.fresh = !goes_on});
    if (outcome.finished) steps_.finish("train");
    return outcome.exit_code;
  }

  std::string queries() const { return plural(static_cast<std::int64_t>(queries_.size()), "query", "queries"); }

  const Recipe& recipe_;
  const RefineRecipe& config_;
  const fs::path folder_;
  const bool fresh_;
  Steps steps_;
  std::vector<ExpandedQuery> queries_;
  std::vector<ScoredPrompt> prompts_;  // of queries_
  RefineSummary summary_;
  std::uint64_t expansions_from_ = 0, scores_from_ = 0, kept_from_ = 0;
};

}  // namespace

int run_refine(const Recipe& recipe, bool fresh) { return Refine(recipe, fresh).run(); }

}  // namespace unfurl::train
