#include "train/judge/judge.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <limits>
#include <memory>
#include <set>
#include <unordered_set>

#include "core/error.h"
#include "core/files.h"
#include "core/names.h"
#include "train/corpus/text.h"
#include "train/generate/expander.h"
#include "train/generate/tokenizer_codec.h"
#include "train/judge/content_change.h"
#include "train/judge/controls.h"
#include "train/judge/expansions.h"
#include "train/judge/few_shot.h"
#include "train/judge/images.h"
#include "train/judge/judge_report.h"
#include "train/judge/text_metrics.h"
#include "train/log.h"
#include "train/model/session.h"
#include "train/refine/terms.h"
#include "train/trainer/open_run.h"

namespace unfurl::train {
namespace {

namespace fs = std::filesystem;

constexpr std::size_t kFrequentFlavors = 200;
constexpr std::size_t kShownPairs = 8;
constexpr const char* kFewShot = "few_shot";
constexpr const char* kBestOf = "best_of";

/// A run that draws prompts.
struct Model {
  explicit Model(OpenRun opened)
      : open(std::move(opened)),
        session(*open.run.decoder, DecodePrecision::int8),
        codec(open.run.tokenizer),
        expander(session, codec) {}
  OpenRun open;
  DecoderSession session;
  TokenizerCodec codec;
  Expander expander;
  std::vector<bool> ended;
};

/// Messages about long work, now and then.
class Meter {
 public:
  explicit Meter(std::string what) : what_(std::move(what)) {}
  void operator()(std::size_t done, std::size_t total) {
    const auto now = std::chrono::steady_clock::now();
    const double passed = std::chrono::duration<double>(now - started_).count();
    if (std::chrono::duration<double>(now - said_).count() < 10) return;
    said_ = now;
    info("{}: {} of {}, about {:.0f} seconds left", what_, done, total,
         passed / static_cast<double>(std::max<std::size_t>(done, 1)) * static_cast<double>(total - done));
  }

 private:
  std::string what_;
  std::chrono::steady_clock::time_point started_ = std::chrono::steady_clock::now(), said_ = started_;
};

std::vector<std::string> training_prompts(const std::vector<Source>& sources) {
  std::vector<std::string> out;
  for (const Source& source : sources) {
    for (Index i = 0; i < source.shard->size(); ++i) {
      if (source.shard->type(i) != "copy") out.emplace_back(source.shard->prompt(i));
    }
  }
  std::sort(out.begin(), out.end());
  out.erase(std::unique(out.begin(), out.end()), out.end());
  return out;
}

/// Queries that are all of their prompts' content, with the prompts.
std::vector<std::pair<std::string, std::string>> concrete_pairs(const std::vector<Source>& sources) {
  std::vector<std::pair<std::string, std::string>> out;
  for (const Source& source : sources) {
    for (Index i = 0; i < source.shard->size(); ++i) {
      if (source.shard->type(i) == "concrete") out.emplace_back(source.shard->query(i), source.shard->prompt(i));
    }
  }
  return out;
}

class Judge {
 public:
  explicit Judge(const JudgeSettings& settings) : settings_(settings), config_(settings.config) {}

  void run() {
    if (settings_.runs.empty()) user_error("there is no run to judge; name its folder");
    make_folder(settings_.folder);
    const FolderLock lock(settings_.folder);
    for (const fs::path& path : settings_.runs) models_.push_back(std::make_unique<Model>(open_run(path, {})));
    const std::vector<Source>& held_out = models_[0]->open.held_out;
    if (config_.queries.empty()) {
      queries_ = held_out_queries(held_out, config_.max_queries);
    } else {
      SeenTexts seen;
      for (const auto& model : models_) seen.add(model->open.training);
      queries_ = read_queries(config_.queries, config_.max_queries, seen);
    }
    prompts_ = training_prompts(models_[0]->open.training);
    for (const std::string& prompt : prompts_) {
      for (const std::string& word : plain_words(prompt)) known_words_.insert(word);
    }
    content_ = std::make_unique<ContentChange>(prompts_, concrete_pairs(models_[0]->open.training));
    flavors_ = std::make_unique<FrequentFlavors>(prompts_, kFrequentFlavors);
    nearest_ = std::make_unique<NearestPrompts>(prompts_);
    make_systems();
    check_hypotheses();
    Meter meter("expansions");
    const bool simulated = std::ranges::any_of(models_, [](const auto& model) { return model->open.run.simulated; }) ||
                           (chooser_ && chooser_->hello().simulated);
    expanded_ =
        expand_all(settings_.folder / "expansions.jsonl", identity(), systems_, queries_, simulated, std::ref(meter));
    score();
    show();
  }

 private:
  std::uint64_t seed_of(const TestQuery& query) const {
    return hash_bytes(query.text, settings_.seed) & 0xFFFFFFFF;  // to be typed again
  }

  std::uint64_t image_seed(const TestQuery& query, std::size_t image) const { return (seed_of(query) << 8) + image; }

  std::vector<std::string> draw(Model& model, const TestQuery& query, const SampleConfig& samples,
                                std::int64_t times = 1) {
    ExpandSettings expand = expand_settings(samples, 0);
    expand.seed = seed_of(query);
    expand.count = config_.n * times;
    std::vector<std::string> out;
    model.ended.clear();
    for (const Expansion& expansion : expand_or_return(model.expander, query.text, expand).items) {
      out.push_back(expansion.text);
      model.ended.push_back(expansion.ended);
    }
    return out;
  }

  /// What the first model says by itself, which the random flavors match in number.
  std::vector<std::string> first_model_prompts(const TestQuery& query) {
    std::vector<std::string>& known = of_first_model_[query.id];
    if (known.empty()) {
      SampleConfig samples = settings_.samples;
      samples.prefix.clear();
      known = draw(*models_[0], query, samples);
    }
    return known;
  }

  void add_model(Model& model, const std::string& name, const std::string& about, const SampleConfig& samples,
                 std::size_t queries = SIZE_MAX) {
    systems_.push_back({name, about, [this, &model, samples](const TestQuery& q) { return draw(model, q, samples); },
                        queries, &model.ended});
  }

  void add_few_shot() {
    const FewShotRecipe& few_shot = config_.few_shot;
    chat_ = std::make_unique<ChatClient>(ChatConfig{.endpoint = few_shot.endpoint,
                                                    .model = few_shot.model,
                                                    .api_key_env = few_shot.api_key_env,
                                                    .cache = settings_.folder / kFewShot});
    std::set<std::string> asked;
    for (const TestQuery& query : queries_) asked.insert(query.text);
    const std::vector<ShownPair> shown = shown_pairs(models_[0]->open.training, kShownPairs, asked, settings_.seed);
    systems_.push_back(
        {kFewShot, fmt::format("the language model {}, shown {} training pairs", few_shot.model, shown.size()),
         [this, shown](const TestQuery& query) {
           std::vector<std::string> out =
               few_shot_prompts(*chat_, shown, query.text, static_cast<std::size_t>(config_.n),
                                {settings_.samples.temperature, settings_.samples.max_tokens, seed_of(query)});
           if (out.empty()) warn("{} has no prompt for \"{}\"", config_.few_shot.model, query.text);
           return out;
         }});
  }

  /// Of prompts i, n + i, 2n + i, ... of the first model, the one whose image scores best: of the seed that the i-th
  /// image has in the judgement, so that the image judged is the image that was chosen.
  std::vector<std::string> best_prompts(const TestQuery& query, const SampleConfig& samples) {
    const std::vector<std::string> drawn = draw(*models_[0], query, samples, config_.best_of.of);
    const auto n = static_cast<std::size_t>(config_.n);
    std::vector<ImageRequest> requests;
    for (std::size_t i = 0; i < drawn.size(); ++i) {
      requests.push_back(
          {fmt::format("{}/{}/{}", kBestOf, query.id, i), query.text, drawn[i], image_seed(query, i % n)});
    }
    const std::vector<ImageAnswer> answers = chooser_->render(requests);
    std::vector<std::string> out(std::min(n, drawn.size()));
    std::vector<double> best(out.size(), -std::numeric_limits<double>::infinity());
    for (std::size_t i = 0; i < drawn.size(); ++i) {
      if (!answers[i].refused.empty()) {
        if (out[i % n].empty()) out[i % n] = drawn[i];  // of several that are all refused, the first
        continue;
      }
      check_embeddings(answers[i]);
      const double score = score_of(query.text, drawn[i], answers[i], config_.best_of.score);
      if (score <= best[i % n]) continue;
      best[i % n] = score;
      out[i % n] = drawn[i];
    }
    return out;
  }

  void add_best_of(const SampleConfig& samples) {
    const BestOfRecipe& best_of = config_.best_of;
    if (best_of.side.command.empty() && best_of.side.url.empty()) return;
    chooser_ = std::make_unique<ImageSide>(image_side_config(best_of.side, settings_.folder / kBestOf));
    systems_.push_back({kBestOf,
                        fmt::format("of {} prompts of {} each time the one whose image a filter scores best, as "
                                    "re-fine-tuning does; {} times the cost",
                                    best_of.of, model_names_[0], best_of.of),
                        [this, samples](const TestQuery& query) { return best_prompts(query, samples); }});
  }

  /// Before anything is drawn.
  void check_hypotheses() const {
    std::vector<std::string> names;
    for (const System& system : systems_) names.push_back(system.name);
    for (const HypothesisConfig& hypothesis : config_.hypotheses) {
      check_metric(hypothesis);
      for (const std::string* system : {&hypothesis.better, &hypothesis.worse}) {
        const std::string& name = *system;
        if ((name.empty() && system == &hypothesis.worse) || std::ranges::find(names, name) != names.end()) continue;
        user_error("the hypothesis \"{}\" is on the system \"{}\", which is not judged{}", hypothesis.name, name,
                   did_you_mean(name, names));
      }
    }
  }

  void make_systems() {
    const auto n = static_cast<std::size_t>(config_.n);
    systems_.push_back({"straight", "the query itself, with N seeds",
                        [n](const TestQuery& query) { return std::vector<std::string>(n, query.text); }});
    SampleConfig samples = settings_.samples;
    samples.prefix.clear();
    for (auto& model : models_) {
      std::string name = model->open.recipe.name;
      for (const std::string& taken : model_names_) {
        if (taken == name) user_error("two of the runs are named \"{}\"; give one another name in its recipe", name);
      }
      model_names_.push_back(name);
      add_model(*model, name,
                fmt::format("the model {}{}", model->open.run.checkpoint.string(),
                            model->open.run.simulated ? ", trained on SIMULATED data" : ""),
                samples);
    }
    systems_[1].prompts = [this](const TestQuery& query) { return first_model_prompts(query); };
    Model& last = *models_.back();
    if (!config_.prefixes.empty() && last.open.run.without_prefixes) {
      warn("{} was trained without prefixes: {} {} little to it; name a run last that was trained with them",
           model_names_.back(), fmt::join(config_.prefixes, ", "), config_.prefixes.size() == 1 ? "says" : "say");
    }
    for (const std::string& prefix : config_.prefixes) {
      last.expander.check_prefix(prefix);
      SampleConfig with = samples;
      with.prefix = prefix;
      add_model(last, model_names_.back() + " +" + prefix,
                fmt::format("{} with the prefix {}", model_names_.back(), prefix), with);
    }
    systems_.push_back(
        {"random_flavors",
         fmt::format("the query and as many flavors as {} adds, drawn from the {} that are most frequent",
                     model_names_[0], flavors_->size()),
         [this, n](const TestQuery& query) {
           std::vector<std::string> out;
           const std::vector<std::string> like = first_model_prompts(query);
           for (std::size_t i = 0; i < n; ++i) {
             const std::size_t count = like.empty() ? 0 : added_segments(query.text, like[i % like.size()]);
             out.push_back(flavors_->prompt(query.text, count, settings_.seed, i));
           }
           return out;
         }});
    systems_.push_back({"nearest", "the N training prompts that share most with the query",
                        [this, n](const TestQuery& query) { return nearest_->find(query.text, n); }});
    add_best_of(samples);
    if (!config_.few_shot.endpoint.empty()) add_few_shot();
    for (std::int64_t point = 0; point < config_.frontier_points; ++point) {
      const double share = config_.frontier_points == 1
                               ? 0
                               : static_cast<double>(point) / static_cast<double>(config_.frontier_points - 1);
      SampleConfig at = samples;
      at.temperature = config_.frontier_from + share * (config_.frontier_to - config_.frontier_from);
      for (std::size_t m = 0; m < models_.size(); ++m) {
        add_model(*models_[m], fmt::format("{} @{:.2f}", model_names_[m], at.temperature),
                  fmt::format("{} at temperature {:.2f}, on the first {} queries", model_names_[m], at.temperature,
                              config_.frontier_queries),
                  at, static_cast<std::size_t>(config_.frontier_queries));
      }
    }
  }

  /// Of what the expansions follow from.
  std::string identity() const {
    std::string all = fmt::format("{} {}", settings_.seed, config_.n);
    for (const auto& model : models_) {
      all += '\n' + read_file(model->open.run.checkpoint / "state.json");
    }
    for (const TestQuery& query : queries_) all += '\n' + query.text;
    for (const System& system : systems_) all += '\n' + system.name;
    if (chooser_) {
      const BestOfRecipe& best_of = config_.best_of;
      all += fmt::format("\n{}\n{}\n{}", best_of.side.command, best_of.side.url, best_of.of);
      for (const ScoreTermRecipe& term : best_of.score) all += fmt::format("\n{} {}", term.term, term.weight);
    }
    if (chat_) all += '\n' + config_.few_shot.endpoint + '\n' + config_.few_shot.model;
    Recipe recipe;
    recipe.samples = settings_.samples;
    recipe.samples.queries.clear();
    return fmt::format("{:016x}", hash_bytes(all + dump_recipe(recipe)));
  }

  void score() {
    ImageSide side(image_side_config(config_.side, settings_.folder / "images"));
    const ImageSideHello& hello = side.hello();
    side_name_ = hello.name + " " + hello.version;
    scores_.queries = queries_;
    scores_.simulated = hello.simulated;
    scores_.world = side_name_;
    if (hello.simulated) info("the image side {} is simulated: no real image is behind any of the figures", side_name_);
    std::vector<ImageRequest> requests;
    for (const System& system : systems_) {
      const auto& mine = expanded_.at(system.name);
      for (std::size_t q = 0; q < mine.size(); ++q) {
        for (std::size_t i = 0; i < mine[q].size(); ++i) {
          requests.push_back({fmt::format("{}/{}/{}", system.name, queries_[q].id, i), queries_[q].text,
                              mine[q][i].text, image_seed(queries_[q], i)});
        }
      }
    }
    Meter meter("images");
    const std::vector<ImageAnswer> answers =
        side.render(requests, [&](const RenderProgress& progress) { meter(progress.done, progress.total); });
    write_image_files(answers);
    std::size_t at = 0;
    std::map<std::string, std::vector<ImageMetrics>> metrics;
    for (const System& system : systems_) {
      scores_.systems.push_back(system.name);
      Numbers& numbers = scores_.of[system.name];
      const auto& mine = expanded_.at(system.name);
      for (std::size_t q = 0; q < mine.size(); ++q) {
        const ImageMetrics found = image_metrics(std::span(answers).subspan(at, mine[q].size()));
        at += mine[q].size();
        numbers["alignment"].push_back(found.alignment);
        numbers["prompt_alignment"].push_back(found.prompt_alignment);
        numbers["aesthetic"].push_back(found.aesthetic);
        numbers["diversity"].push_back(found.diversity);
        metrics[system.name].push_back(found);
        const ImageMetrics& straight = metrics["straight"][q];
        numbers["win_aesthetic"].push_back(wins(found.aesthetics, straight.aesthetics));
        numbers["win_alignment"].push_back(wins(found.alignments, straight.alignments));
        numbers["best_aesthetic"].push_back(best_wins(found.aesthetics, straight.aesthetics));
        numbers["best_alignment"].push_back(best_wins(found.alignments, straight.alignments));
        score_texts(queries_[q], mine[q], numbers);
      }
    }
  }

  /// For the sheet that people vote on.
  void write_image_files(const std::vector<ImageAnswer>& answers) const {
    std::string text = Json(Json::Object{{"image_side", side_name_}, {"simulated", scores_.simulated}}).dump() + "\n";
    std::size_t at = 0;
    for (const System& system : systems_) {
      const auto& mine = expanded_.at(system.name);
      for (std::size_t q = 0; q < mine.size(); ++q) {
        Json files = Json::array();
        bool any = false;
        for (std::size_t i = 0; i < mine[q].size(); ++i) {
          const std::string& file = answers[at++].image_file;
          any = any || !file.empty();
          files.push_back(file);
        }
        if (!any) continue;
        text +=
            Json(Json::Object{{"system", system.name}, {"query_id", queries_[q].id}, {"files", files}}).dump() + "\n";
      }
    }
    write_file(settings_.folder / "image_files.jsonl", text);
  }

  void score_texts(const TestQuery& query, const std::vector<SystemPrompt>& prompts, Numbers& numbers) {
    std::vector<std::string> texts;
    double words = 0, kept = 0, unknown = 0, ended = 0, unchanged = 0, added = 0, flavors = 0;
    for (const SystemPrompt& prompt : prompts) {
      texts.push_back(prompt.text);
      words += length(prompt.text);
      kept += content_kept(query.text, prompt.text);
      unknown += unknown_share(prompt.text, known_words_);
      ended += prompt.ended ? 1 : 0;
      const ContentChange::Change change = content_->between(query.text, prompt.text);
      unchanged += change.unchanged() ? 1 : 0;
      added += static_cast<double>(change.added);
      flavors += static_cast<double>(change.flavors);
    }
    const auto count = static_cast<double>(prompts.size());
    numbers["words"].push_back(words / count);
    numbers["content_kept"].push_back(kept / count);
    numbers["unknown_words"].push_back(unknown / count);
    numbers["ended"].push_back(ended / count);
    numbers["content_unchanged"].push_back(unchanged / count);
    numbers["content_added"].push_back(added / count);
    numbers["flavors_added"].push_back(flavors / count);
    const auto where_any = [&](double value) {
      return prompts.empty() ? std::numeric_limits<double>::quiet_NaN() : value;
    };
    numbers["self_bleu"].push_back(where_any(self_bleu(texts)));
    numbers["distinct_1"].push_back(where_any(distinct_n(texts, 1)));
    numbers["distinct_2"].push_back(where_any(distinct_n(texts, 2)));
  }

  void show() {
    const Bootstrap bootstrap{settings_.seed, config_.resamples, config_.confidence};
    JudgementPage page;
    page.title = "unfurl: judgement" + std::string(scores_.simulated ? " (simulated)" : "");
    page.image_side = side_name_;
    page.inference = "over queries only, those of one prompt together: one world, one training seed";
    for (const System& system : systems_) page.about.emplace_back(system.name, system.about);
    if (!chat_) page.about.emplace_back(kFewShot, "a language model with examples: n/a, no endpoint was given");
    if (!chooser_) page.about.emplace_back(kBestOf, "the best of several prompts by score: n/a, no side was given");
    page.bootstrap = bootstrap;
    page.models = model_names_;
    const Judgement shown = show_judgement({scores_}, test_hypotheses({scores_}, config_.hypotheses, bootstrap), page);
    write_scores(settings_.folder / "queries.jsonl", scores_);
    write_file(settings_.folder / "judge.txt", shown.text);
    write_file(settings_.folder / "report.html", shown.html);
    write_file(settings_.folder / "judge.json", shown.json.dump(2) + "\n");
    fmt::print("{}\n{}\n", shown.text, (settings_.folder / "report.html").string());
    std::fflush(stdout);
  }

  const JudgeSettings& settings_;
  const JudgeConfig& config_;
  std::vector<std::unique_ptr<Model>> models_;
  std::vector<std::string> model_names_;
  std::vector<TestQuery> queries_;
  std::vector<std::string> prompts_;
  std::unordered_set<std::string> known_words_;
  std::unique_ptr<ContentChange> content_;
  std::unique_ptr<FrequentFlavors> flavors_;
  std::unique_ptr<NearestPrompts> nearest_;
  std::unique_ptr<ImageSide> chooser_;
  std::unique_ptr<ChatClient> chat_;
  std::vector<System> systems_;
  std::map<std::string, std::vector<std::string>> of_first_model_;  // by query
  Expanded expanded_;
  std::string side_name_;
  Scores scores_;
};

}  // namespace

ImageSideConfig image_side_config(const ImageSideRecipe& recipe, const fs::path& cache) {
  return {.command = recipe.command,
          .url = recipe.url,
          .workers = static_cast<int>(recipe.workers),
          .batch = static_cast<int>(recipe.batch),
          .timeout_seconds = recipe.timeout,
          .retries = static_cast<int>(recipe.retries),
          .cache = recipe.cache.empty() ? cache : fs::path(recipe.cache)};
}

void judge(const JudgeSettings& settings) { Judge(settings).run(); }

}  // namespace unfurl::train
