#include "train/refine/expansions.h"

#include <fmt/format.h>

#include <algorithm>
#include <unordered_set>

#include "core/error.h"
#include "core/files.h"
#include "kernels/thread_pool.h"
#include "train/corpus/fields.h"
#include "train/corpus/text.h"
#include "train/generate/expand_many.h"
#include "train/generate/steps.h"
#include "train/generate/tokenizer_codec.h"
#include "train/log.h"
#include "train/model/open_session.h"
#include "train/refine/line_log.h"
#include "train/report/work_progress.h"
#include "train/trainer/checkpoint.h"
#include "train/trainer/load_run.h"

namespace unfurl::train {
namespace {

constexpr std::size_t kBlock = 32;  // queries between two appends: what a kill may cost

std::string to_line(const ExpandedQuery& query) {
  Json line = Json::object();
  line["key"] = query.key;
  line["query"] = query.query;
  for (const auto& [name, text] : {std::pair{"type", &query.type}, {"id", &query.id}, {"source", &query.source}}) {
    if (!text->empty()) line[name] = *text;
  }
  Json prompts = Json::array();
  for (const ExpandedPrompt& prompt : query.prompts) {
    prompts.push_back(Json(Json::Object{{"text", prompt.text}, {"sample", prompt.sample}, {"ended", prompt.ended}}));
  }
  line["prompts"] = std::move(prompts);
  if (query.simulated) line["simulated"] = true;
  return line.dump() + '\n';
}

ExpandedQuery parse_line(std::string_view text) {
  const Json line = parse_object_line(text);
  ExpandedQuery query;
  query.key = required_text(line, "key");
  query.query = required_text(line, "query");
  query.type = optional_text(line, "type");
  query.id = optional_id(line);
  query.source = optional_text(line, "source");
  query.simulated = is_simulated(line);
  for (const Json& prompt : line.at("prompts").as_array()) {
    query.prompts.push_back(
        {required_text(prompt, "text"), prompt.at("sample").as_integer(), prompt.at("ended").as_bool()});
  }
  return query;
}

ExpandedQuery parse_line(std::string_view text, const std::filesystem::path& file, std::size_t number) {
  try {
    return parse_line(text);
  } catch (const Error& error) {
    fail("{}:{}: {}; remove the file, and it is made again", file.string(), number, error.what());
  }
}

}  // namespace

std::vector<ExpandedQuery> queries_of(const SplitPairs& data, Side side, Index max_queries, std::uint64_t seed,
                                      bool pairs) {
  std::vector<ExpandedQuery> out;
  std::unordered_set<std::string> known, of_test;
  for (std::size_t i = 0; i < data.pairs.size(); ++i) {
    if (data.split.sides[i] == Side::test) of_test.insert(lower(trim(data.pairs[i].query)));
  }
  for (std::size_t i = 0; i < data.pairs.size(); ++i) {
    const Pair& pair = data.pairs[i];
    if (data.split.sides[i] != side || pair.type == "copy") continue;
    if (of_test.contains(lower(trim(pair.query)))) continue;
    const std::string what = pairs ? pair.query + '\n' + pair.prompt : pair.query;
    ExpandedQuery query{.key = fmt::format("{:016x}", hash_bytes(what)),
                        .query = pair.query,
                        .type = pair.type,
                        .id = pair.id,
                        .source = pair.source,
                        .prompts = {},
                        .simulated = pair.simulated};
    if (pairs) query.prompts.push_back({pair.prompt, 0, true});
    if (known.insert(query.key).second) out.push_back(std::move(query));
  }
  if (max_queries == 0 || static_cast<Index>(out.size()) <= max_queries) return out;
  std::vector<std::uint64_t> drawn, limits;
  for (const ExpandedQuery& query : out) drawn.push_back(hash_bytes(query.key, seed));
  limits = drawn;
  const auto last = limits.begin() + (max_queries - 1);
  std::nth_element(limits.begin(), last, limits.end());
  std::vector<ExpandedQuery> chosen;
  for (std::size_t i = 0; i < out.size(); ++i) {
    if (drawn[i] <= *last) chosen.push_back(std::move(out[i]));
  }
  return chosen;
}

struct RunExpander::State {
  LoadedRun run;
  std::unique_ptr<TokenizerCodec> codec;
  std::unique_ptr<ManyExpander> expander;
};

RunExpander::RunExpander(const std::filesystem::path& run, const Recipe& recipe) : state_(std::make_unique<State>()) {
  const Placement placement = placement_of(recipe);
  state_->run = load_run(run, placement);
  state_->codec = std::make_unique<TokenizerCodec>(state_->run.tokenizer);
  const bool on_cpu = placement.device == Device::cpu;
  state_->expander = std::make_unique<ManyExpander>([&] { return open_session(*state_->run.decoder); }, *state_->codec,
                                                    on_cpu ? kernels::ThreadPool::global().threads() : 1);
}

RunExpander::~RunExpander() = default;

void RunExpander::expand(std::vector<ExpandedQuery>& queries, const ExpandSettings& settings,
                         const std::filesystem::path& file, const std::string& what) {
  LineLog log(file);
  if (log.lines().size() > queries.size()) {
    fail("{} has {} lines for {} queries; remove it, and it is made again", file.string(), log.lines().size(),
         queries.size());
  }
  for (std::size_t i = 0; i < log.lines().size(); ++i) {
    ExpandedQuery done = parse_line(log.lines()[i], file, i + 1);
    require(done.key == queries[i].key, "{}:{} is of another query; remove the file, and it is made again",
            file.string(), i + 1);
    queries[i].prompts = std::move(done.prompts);
    queries[i].simulated = queries[i].simulated || done.simulated;
  }
  if (!log.lines().empty() && log.lines().size() < queries.size()) {
    info("goes on behind {} of {} {}", log.lines().size(), queries.size(), what);
  }
  WorkProgress progress(what, static_cast<std::int64_t>(log.lines().size()), static_cast<std::int64_t>(queries.size()));
  for (std::size_t begin = log.lines().size(); begin < queries.size(); begin += kBlock) {
    const std::size_t end = std::min(begin + kBlock, queries.size());
    std::vector<ExpandRequest> requests;
    for (std::size_t i = begin; i < end; ++i) {
      requests.push_back({queries[i].query, settings});
      requests.back().settings.seed = hash_bytes(fmt::format("{} {}", settings.seed, queries[i].key));
    }
    const std::vector<Expansions> answers = state_->expander->expand(requests);
    std::string lines;
    for (std::size_t i = begin; i < end; ++i) {
      const Expansions& answer = answers[i - begin];
      if (!is_unexpanded(answer)) {
        for (const Expansion& item : answer.items) queries[i].prompts.push_back({item.text, item.sample, item.ended});
      }
      queries[i].simulated = queries[i].simulated || state_->run.simulated;
      lines += to_line(queries[i]);
    }
    log.append(lines);
    progress.update(static_cast<std::int64_t>(end));
  }
  log.sync();
}

std::uint64_t run_hash(const std::filesystem::path& run) {
  return hash_bytes(read_file(resolve_checkpoint(run) / "state.json"));
}

void write_expansions(const std::filesystem::path& file, std::span<const ExpandedQuery> queries) {
  FileWriter out(file);
  for (const ExpandedQuery& query : queries) out.write(to_line(query));
  out.commit();
}

std::vector<ExpandedQuery> read_expansions(const std::filesystem::path& file) {
  const MappedFile mapped(file);
  std::string_view text = mapped.text();
  std::vector<ExpandedQuery> out;
  while (!text.empty()) {
    const std::size_t end = std::min(text.find('\n'), text.size());
    out.push_back(parse_line(text.substr(0, end), file, out.size() + 1));
    text.remove_prefix(std::min(end + 1, text.size()));
  }
  return out;
}

}  // namespace unfurl::train
