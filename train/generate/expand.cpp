#include "train/generate/expand.h"

#include <unistd.h>

#include <chrono>
#include <iostream>

#include "core/error.h"
#include "core/files.h"
#include "core/lines.h"
#include "train/corpus/text.h"
#include "train/generate/characters.h"
#include "train/generate/diverse.h"
#include "train/generate/expand_service.h"
#include "train/generate/expand_session.h"
#include "train/image_side/image_side.h"
#include "train/log.h"

namespace unfurl::train {
namespace {

/// A query as a line of text must be.
void check_query(std::string_view query) {
  if (!valid_utf8(query)) user_error("the query is not valid UTF-8");
  if (folded(query).empty()) user_error("the query is empty");
}

class Command {
 public:
  Command(const ExpandOptions& options, const Loader& loader, std::ostream& out)
      : options_(options), settings_(expand_settings(options)), out_(out) {
    if (!options.image_side.empty()) {
      if (options.diverse == 0) user_error("--image-side says which prompts differ: it needs --diverse");
      if (options.jsonl || (options.file.empty() && !options.query)) user_error("--image-side needs a query or --file");
      ImageSideConfig side;
      (options.image_side.starts_with("http://") ? side.url : side.command) = options.image_side;
      side_ = std::make_unique<ImageSide>(std::move(side));
    }
    if (!options.expand) return;
    loaded_ = loader(options.run);
    expander_.emplace(*loaded_.model, *loaded_.codec);
    expander_->check_prefix(settings_.prefix);
    if (loaded_.with_prefixes) settings_.step_prefix = "MSTP";
    if (!settings_.prefix.empty() && loaded_.without_prefixes) {
      warn("{} was trained without prefixes: {} says little to it", loaded_.name, settings_.prefix);
    }
  }

  int serve(std::istream& in) {
    return serve_requests(expander_ ? &*expander_ : nullptr, settings_, options_.seed, in, out_);
  }

  int converse(std::istream& in, bool terminal) { return run_session(*expander_, settings_, in, out_, terminal); }

  int expand_one(const std::string& query) {
    check_query(query);
    write(query, expansions(query, ""));
    tell_seed();
    return finish();
  }

  /// One query a line, in order. Lines that are no query stay as they are, so that answers stand where queries stood.
  int expand_file() {
    const std::string text = read_file(options_.file);
    if (trim(text).empty()) user_error("{} is empty: one query a line is expected", options_.file.string());
    for (const auto& [number, line] : Lines(text)) {
      if (!out_) break;
      std::string query(line);
      if (query.ends_with('\r')) query.pop_back();
      const std::string place = fmt::format("{}:{}: ", options_.file.string(), number);
      if (number > 1 && !options_.json && settings_.count > 1) out_ << '\n';
      if (!valid_utf8(query)) {
        write(query, unexpanded(query, settings_, place + "not valid UTF-8, left as it is"));
      } else if (folded(query).empty()) {
        write(query, unexpanded(query, settings_, place + "an empty query, left as it is"));
      } else {
        write(query, expansions(query, place));
      }
      out_ << std::flush;
    }
    tell_seed();
    return finish();
  }

 private:
  Expansions expansions(const std::string& query, const std::string& place) {
    Expansions result;
    if (!expander_) {
      result = unexpanded(query, settings_, "");
    } else if (side_) {
      result = differing(query);
    } else {
      result = expand_or_return(*expander_, query, settings_);
    }
    for (std::string& warning : result.warnings) warning = place + warning;
    return result;
  }

  /// Of settings_.diverse expansions those whose prompts the image side embeds farthest apart.
  Expansions differing(const std::string& query) {
    ExpandSettings many = settings_;
    many.count = settings_.diverse;
    many.diverse = 0;
    Expansions result = expand_or_return(*expander_, query, many);
    std::vector<ImageRequest> requests;
    for (const Expansion& item : result.items) {
      requests.push_back({fmt::format("expansion {}", item.sample), query, item.text, settings_.seed >> 1});
    }
    std::vector<std::vector<float>> embeddings;
    for (ImageAnswer& answer : side_->render(requests)) {
      if (!answer.refused.empty()) fail("the image side makes no image of {}: {}", answer.id, answer.refused);
      embeddings.push_back(std::move(answer.prompt));
    }
    std::vector<Expansion> chosen;
    for (const std::size_t i : most_different(embeddings, static_cast<std::size_t>(settings_.count))) {
      chosen.push_back(std::move(result.items[i]));
    }
    result.items = std::move(chosen);
    return result;
  }

  void write(std::string_view query, const Expansions& result) {
    for (const std::string& warning : result.warnings) warn("{}", warning);
    if (options_.json) {
      out_ << to_json(query, settings_.prefix, result).dump() << '\n';
    } else {
      for (const Expansion& item : result.items) out_ << item.text << '\n';
    }
  }

  void tell_seed() const {
    if (!options_.seed && expander_) info("seed {} (--seed {} gives the same again)", settings_.seed, settings_.seed);
  }

  int finish() {
    out_ << std::flush;
    if (!out_) fail("the expansions cannot be written: standard output is closed or full");
    return 0;
  }

  const ExpandOptions& options_;
  ExpandSettings settings_;
  std::ostream& out_;
  LoadedModel loaded_;
  std::optional<Expander> expander_;
  std::unique_ptr<ImageSide> side_;  // that says which expansions differ
};

}  // namespace

std::uint64_t fresh_seed() {
  const auto now = std::chrono::system_clock::now().time_since_epoch().count();
  const auto here = std::chrono::steady_clock::now().time_since_epoch().count();
  return hash_bytes(fmt::format("{} {} {}", now, here, ::getpid())) & 0xFFFFFFFFu;
}

ExpandSettings expand_settings(const ExpandOptions& options) {
  ExpandSettings settings;
  settings.count = options.n;
  settings.diverse = options.diverse;
  settings.steps = options.steps;
  settings.prefix = options.prefix;
  settings.seed = options.seed ? *options.seed : fresh_seed();
  settings.sampling.temperature = static_cast<float>(options.temperature);
  settings.sampling.top_k = options.top_k;
  settings.sampling.top_p = static_cast<float>(options.top_p);
  settings.sampling.min_p = static_cast<float>(options.min_p);
  settings.max_tokens = options.max_tokens;
  settings.max_words = options.max_words;
  settings.keep = options.keep;
  check(settings);
  std::vector<std::string> phrases;
  for (const std::string& ban : options.bans) {
    for (std::string& phrase : Bans::read(ban)) phrases.push_back(std::move(phrase));
  }
  settings.bans = Bans(std::move(phrases));
  return settings;
}

Json to_json(std::string_view query, std::string_view prefix, const Expansions& expansions) {
  Json json = Json::object();
  json["query"] = query;
  json["seed"] = expansions.seed;
  if (!prefix.empty()) json["prefix"] = prefix;
  Json items = Json::array();
  for (const Expansion& expansion : expansions.items) {
    Json item = Json::object();
    item["text"] = expansion.text;
    item["ended"] = expansion.ended;
    item["stopped_by"] = stop_name(expansion.stop);
    item["tokens"] = expansion.tokens;
    item["log_probability"] = expansion.log_probability;
    item["sample"] = expansion.sample;
    item["attempt"] = expansion.attempt;
    if (!expansion.earlier.empty()) {
      item["earlier"] = Json(Json::Array(expansion.earlier.begin(), expansion.earlier.end()));
    }
    items.push_back(std::move(item));
  }
  json["expansions"] = std::move(items);
  if (!expansions.warnings.empty()) {
    std::string text;
    for (const std::string& warning : expansions.warnings) text += (text.empty() ? "" : "; ") + warning;
    json["warning"] = std::move(text);
  }
  return json;
}

int run_expand(const ExpandOptions& options, const Loader& loader, std::istream& in, std::ostream& out, bool terminal) {
  if (options.jsonl + !options.file.empty() + options.query.has_value() > 1) {
    user_error("expand takes a query, --file or --jsonl: one of them");
  }
  if (options.query) check_query(*options.query);
  const bool converse = !options.jsonl && options.file.empty() && !options.query;
  if (converse && !options.expand) user_error("--no-expand needs a query, --file or --jsonl");
  if (converse && options.json) user_error("--json needs a query or --file; --jsonl serves requests");
  Command command(options, loader, out);
  if (options.jsonl) return command.serve(in);
  if (!options.file.empty()) return command.expand_file();
  if (options.query) return command.expand_one(*options.query);
  return command.converse(in, terminal);
}

}  // namespace unfurl::train
