#include "train/generate/expander.h"

#include <algorithm>
#include <cmath>
#include <optional>

#include "core/error.h"
#include "core/names.h"
#include "train/corpus/text.h"
#include "train/generate/characters.h"
#include "train/generate/cut.h"
#include "train/generate/diverse.h"
#include "train/generate/steps.h"
#include "train/generate/verbatim.h"

namespace unfurl::train {
namespace {

constexpr Index kLeastRoom = 8;  // tokens: with less room than this an expansion says nothing

/// What two expansions have in common that do not differ for a reader.
std::string comparable(std::string_view text) {
  const std::string plain = folded(text);
  return plain.substr(0, plain.find_last_not_of(" ,.;:!") + 1);
}

std::string list(const std::vector<std::string>& names) {
  std::string out;
  for (const std::string& name : names) out += fmt::format("{}\"{}\"", out.empty() ? "" : ", ", name);
  return out;
}

/// A sample on its way: its latest attempt, and whether it stands.
struct Slot {
  Index attempt = -1;
  std::optional<Expansion> candidate;
  std::string key;  // comparable(candidate)
  bool final = false;
  bool given_up = false;
};

}  // namespace

KeepMode parse_keep(std::string_view name) {
  if (name == "verbatim") return KeepMode::verbatim;
  if (name == "free") return KeepMode::free;
  user_error("keep must be verbatim or free, not \"{}\"", name);
}

ExpandSettings expand_settings(const SampleConfig& config, std::int64_t seed) {
  ExpandSettings settings;
  settings.count = config.n;
  settings.diverse = config.diverse;
  settings.prefix = config.prefix;
  settings.seed = static_cast<std::uint64_t>(seed);
  settings.sampling = {.temperature = static_cast<float>(config.temperature),
                       .top_k = config.top_k,
                       .top_p = static_cast<float>(config.top_p),
                       .min_p = static_cast<float>(config.min_p)};
  settings.max_tokens = config.max_tokens;
  settings.keep = config.keep;
  return settings;
}

void check(const ExpandSettings& settings) {
  const auto ask = [](bool fine, const char* what, const char* range, auto value) {
    if (!fine) user_error("{} must be {}, not {}", what, range, value);
  };
  const kernels::Sampling& sampling = settings.sampling;
  ask(settings.count >= 1 && settings.count <= 256, "n", "1 to 256", settings.count);
  ask(settings.diverse == 0 || (settings.diverse >= settings.count && settings.diverse <= 256), "diverse",
      "0 (off), or n to 256", settings.diverse);
  ask(settings.steps >= 1 && settings.steps <= 16, "steps", "1 to 16", settings.steps);
  ask(sampling.temperature >= 0 && sampling.temperature <= 100, "temperature", "0 to 100", sampling.temperature);
  ask(sampling.top_p > 0 && sampling.top_p <= 1, "top_p", "over 0 and at most 1", sampling.top_p);
  ask(sampling.min_p >= 0 && sampling.min_p <= 1, "min_p", "0 to 1", sampling.min_p);
  ask(sampling.top_k >= 0, "top_k", "0 (all) or more", sampling.top_k);
  ask(settings.max_tokens >= 0, "max_tokens", "0 (what the context has room for) or more", settings.max_tokens);
  ask(settings.max_words >= 0, "max_words", "0 (any number) or more", settings.max_words);
}

void Expander::check_prefix(std::string_view prefix) const {
  const std::vector<std::string> known = codec_.prefixes();
  if (prefix.empty() || std::find(known.begin(), known.end(), prefix) != known.end()) return;
  const std::vector<std::string_view> names(known.begin(), known.end());
  user_error("there is no prefix \"{}\"; there are {}{}", prefix, join(names, ", "), did_you_mean(prefix, names));
}

Expansions unexpanded(std::string_view query, const ExpandSettings& settings, std::string warning) {
  Expansions result;
  result.seed = settings.seed;
  result.items.emplace_back().text = query;
  if (!warning.empty()) result.warnings.push_back(std::move(warning));
  return result;
}

Expander::Expander(LanguageModel& model, const Codec& codec)
    : model_(model), codec_(codec), pieces_(codec, model.vocab_size()) {}

Expansions Expander::expand(std::string_view query, const ExpandSettings& settings) {
  check(settings);
  if (settings.diverse <= settings.count) return draw(query, settings, settings.count);
  Expansions all = draw(query, settings, settings.diverse);
  std::vector<std::string> texts;
  for (const Expansion& item : all.items) texts.push_back(item.text);
  std::vector<Expansion> chosen;
  for (const std::size_t i : most_different(texts, static_cast<std::size_t>(settings.count))) {
    chosen.push_back(std::move(all.items[i]));
  }
  all.items = std::move(chosen);
  return all;
}

/// The first `samples` samples; a warning says where they are fewer than settings.count.
Expansions Expander::draw(std::string_view query, const ExpandSettings& settings, Index samples) {
  check_prefix(settings.prefix);
  if (!valid_utf8(query)) user_error("the query is not valid UTF-8");
  if (folded(query).empty()) user_error("the query is empty");

  const LiftedQuery lifted = lift(query);
  const std::string cleaned = lifted.cleaned.substr(0, cut_spaces(lifted.cleaned, 0));
  const std::string asked = cleaned.substr(0, cut_separators(cleaned, 0));
  if (asked.empty()) {
    return unexpanded(query, settings, "the query has no words to expand: it is returned as it is");
  }
  const bool verbatim = settings.keep == KeepMode::verbatim;
  const Index own_words = verbatim ? count_words(cleaned) : 0;  // tags are no words
  if (settings.max_words > 0 && own_words >= settings.max_words) {
    return unexpanded(query, settings,
                      fmt::format("the query has {} {} already and --max-words is {}: it is returned as it is",
                                  own_words, plural(own_words, "word"), settings.max_words));
  }

  Condition condition = codec_.condition(asked, settings.prefix);
  if (verbatim) {
    const std::vector<std::int32_t> opening = codec_.encode(cleaned);
    condition.tokens.insert(condition.tokens.end(), opening.begin(), opening.end());
  }
  const Index room = model_.context() - static_cast<Index>(condition.tokens.size());
  if (room < kLeastRoom) {
    return unexpanded(query, settings,
                      fmt::format("the query takes {} tokens of a context of {}, too many to be expanded: it is "
                                  "returned as it is",
                                  condition.tokens.size(), model_.context()));
  }

  Expansions result;
  result.seed = settings.seed;
  Bans bans = settings.bans;
  if (const std::vector<std::string> own = bans.found_in(query); !own.empty()) {
    result.warnings.push_back(fmt::format("the query itself has what is banned ({}): its own words stay", list(own)));
    if (!verbatim) bans = bans.without(own);
  }
  DecodeSettings decoding;
  decoding.seed = settings.seed;
  decoding.sampling = settings.sampling;
  decoding.max_tokens_is_context = settings.max_tokens == 0 || settings.max_tokens > room;
  decoding.max_tokens = decoding.max_tokens_is_context ? room : settings.max_tokens;
  decoding.max_words = settings.max_words > 0 ? settings.max_words - own_words : 0;
  decoding.bans = bans.empty() ? nullptr : &bans;
  if (verbatim) {
    decoding.opening = query;
    decoding.read = cleaned;
    decoding.closed = is_word_character(last_character(cleaned).code);
  }
  model_.prefill(condition.tokens, condition.prefix_length);

  const auto finished = [&](const Continuation& continuation, const Draw& draw) {
    Expansion made;
    made.text = verbatim ? continue_verbatim(lifted, continuation.text) : restore_items(lifted, continuation.text);
    made.stop = continuation.stop;
    made.ended = continuation.stop == Stop::end;
    made.tokens = continuation.tokens;
    made.log_probability = continuation.log_probability;
    made.sample = draw.sample;
    made.attempt = draw.attempt;
    return made;
  };
  // Without chance a second attempt differs by not ending at once, a third by nothing.
  const Index attempts = settings.sampling.temperature == 0 ? 2 : 8;
  std::vector<Slot> slots(static_cast<std::size_t>(samples));
  const auto taken = [&](std::size_t i) {
    return std::any_of(slots.begin(), slots.begin() + static_cast<std::ptrdiff_t>(i),
                       [&](const Slot& earlier) { return earlier.final && earlier.key == slots[i].key; });
  };
  for (;;) {
    // A candidate stands when all samples before it stand and it differs from them; it falls as soon as it does not.
    bool settled = true;
    std::vector<Draw> draws;
    for (std::size_t i = 0; i < slots.size(); ++i) {
      Slot& slot = slots[i];
      if (slot.final || slot.given_up) continue;
      if (slot.candidate && taken(i)) slot.candidate.reset();
      if (slot.candidate) {
        slot.final = settled;
      } else if (slot.attempt + 1 >= attempts) {
        slot.given_up = true;
      } else {
        if (static_cast<Index>(draws.size()) < kMaxRows) draws.push_back({static_cast<Index>(i), slot.attempt + 1});
        settled = false;
      }
    }
    if (draws.empty()) break;
    const std::vector<Continuation> drawn = decode(model_, pieces_, decoding, draws);
    for (std::size_t k = 0; k < draws.size(); ++k) {
      Slot& slot = slots[static_cast<std::size_t>(draws[k].sample)];
      slot.attempt = draws[k].attempt;
      Expansion made = finished(drawn[k], draws[k]);
      slot.key = comparable(made.text);
      if (!comparable(drawn[k].text).empty() && slot.key != comparable(query)) slot.candidate = std::move(made);
    }
  }
  for (Slot& slot : slots) {
    if (slot.final) result.items.push_back(std::move(*slot.candidate));
  }
  if (result.items.empty()) {
    result.items = unexpanded(query, settings, "").items;
    result.warnings.push_back("the model adds nothing to the query: it is returned as it is");
  } else if (const auto wanted = static_cast<std::size_t>(settings.count); result.items.size() < wanted) {
    result.warnings.push_back(
        fmt::format("{} different expansion{} instead of {}: the model gave no others in {} "
                    "tries each",
                    result.items.size(), result.items.size() == 1 ? "" : "s", wanted, attempts));
  }
  return result;
}

Expansions expand_or_return(Expander& expander, std::string_view query, const ExpandSettings& settings) {
  try {
    return expand_in_steps(expander, query, settings);
  } catch (const UserError&) {
    throw;
  } catch (const std::exception& error) {
    return unexpanded(query, settings, fmt::format("{}: the query is returned as it is", error.what()));
  }
}

}  // namespace unfurl::train
