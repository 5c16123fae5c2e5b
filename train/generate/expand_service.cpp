#include "train/generate/expand_service.h"

#include <array>
#include <istream>
#include <ostream>
#include <string>

#include "core/error.h"
#include "core/names.h"
#include "train/corpus/text.h"
#include "train/generate/characters.h"
#include "train/generate/expand.h"

namespace unfurl::train {
namespace {

struct Request {
  std::string query;
  ExpandSettings settings;
  bool expand = true;
};

Index whole_number(const Json& value) { return value.as_integer(); }

float number(const Json& value) { return static_cast<float>(value.as_number()); }

std::uint64_t seed_number(const Json& value) {
  if (!value.is_integer() || value.as_integer() < 0) {
    user_error("seed: must be a whole number from 0 to {}, got {}", INT64_MAX, value.dump());
  }
  return static_cast<std::uint64_t>(value.as_integer());
}

struct Key {
  std::string_view name;
  void (*read)(Request& request, const Json& value);
};

constexpr std::array kKeys = {
    Key{"id", [](Request&, const Json&) {}},
    Key{"query", [](Request& request, const Json& value) { request.query = value.as_string(); }},
    Key{"n", [](Request& request, const Json& value) { request.settings.count = whole_number(value); }},
    Key{"diverse", [](Request& request, const Json& value) { request.settings.diverse = whole_number(value); }},
    Key{"steps", [](Request& request, const Json& value) { request.settings.steps = whole_number(value); }},
    Key{"prefix", [](Request& request, const Json& value) { request.settings.prefix = value.as_string(); }},
    Key{"seed", [](Request& request, const Json& value) { request.settings.seed = seed_number(value); }},
    Key{"temperature",
        [](Request& request, const Json& value) { request.settings.sampling.temperature = number(value); }},
    Key{"top_p", [](Request& request, const Json& value) { request.settings.sampling.top_p = number(value); }},
    Key{"top_k", [](Request& request, const Json& value) { request.settings.sampling.top_k = whole_number(value); }},
    Key{"min_p", [](Request& request, const Json& value) { request.settings.sampling.min_p = number(value); }},
    Key{"max_tokens", [](Request& request, const Json& value) { request.settings.max_tokens = whole_number(value); }},
    Key{"max_words", [](Request& request, const Json& value) { request.settings.max_words = whole_number(value); }},
    Key{"keep", [](Request& request, const Json& value) { request.settings.keep = parse_keep(value.as_string()); }},
    Key{"ban",
        [](Request& request, const Json& value) {
          std::vector<std::string> phrases = request.settings.bans.phrases();
          if (value.is_string()) {
            phrases.push_back(value.as_string());
          } else {
            for (const Json& phrase : value.as_array()) phrases.push_back(phrase.as_string());
          }
          request.settings.bans = Bans(std::move(phrases));
        }},
    Key{"expand", [](Request& request, const Json& value) { request.expand = value.as_bool(); }},
};

void read_member(Request& request, const std::string& name, const Json& value) {
  for (const Key& key : kKeys) {
    if (key.name != name) continue;
    if (value.is_null()) return;  // as if it were not there
    try {
      key.read(request, value);
    } catch (const UserError&) {
      throw;
    } catch (const Error& error) {
      user_error("{}: {}", name, error.what());
    }
    return;
  }
  std::vector<std::string_view> names;
  for (const Key& key : kKeys) names.push_back(key.name);
  user_error("unknown key \"{}\"{}", name, did_you_mean(name, names));
}

Expansions answer(const Request& request, Expander* expander) {
  if (folded(request.query).empty()) user_error("the query is missing or empty");
  if (expander == nullptr || !request.expand) {
    check(request.settings);
    return unexpanded(request.query, request.settings, "");
  }
  expander->check_prefix(request.settings.prefix);
  return expand_or_return(*expander, request.query, request.settings);
}

}  // namespace

Json answer_request(std::string_view line, Expander* expander, const ExpandSettings& defaults,
                    std::optional<std::uint64_t> fixed_seed) {
  Json reply = Json::object();
  try {
    const Json parsed = Json::parse_line(line);
    if (!parsed.is_object()) user_error("a request is a JSON object, not {}", parsed.kind());
    if (const Json* id = parsed.find("id")) reply["id"] = *id;
    if (const Json* query = parsed.find("query"); query != nullptr && query->is_string()) reply["query"] = *query;
    Request request;
    request.settings = defaults;
    request.settings.seed = fixed_seed ? *fixed_seed : fresh_seed();
    for (const auto& [name, value] : parsed.as_object()) read_member(request, name, value);
    const Expansions expansions = answer(request, expander);
    const Json answered = to_json(request.query, request.settings.prefix, expansions);
    for (const auto& [name, value] : answered.as_object()) reply[name] = value;
  } catch (const std::exception& error) {
    if (reply.find("query") != nullptr) {
      const ExpandSettings none;
      reply["expansions"] = to_json("", "", unexpanded(reply.at("query").as_string(), none, "")).at("expansions");
    }
    reply["error"] = std::string(error.what());
  }
  return reply;
}

int serve_requests(Expander* expander, const ExpandSettings& defaults, std::optional<std::uint64_t> fixed_seed,
                   std::istream& in, std::ostream& out) {
  for (std::string line; std::getline(in, line);) {
    if (trim(line).empty()) continue;
    out << answer_request(line, expander, defaults, fixed_seed).dump() << '\n' << std::flush;
    if (!out) return 1;
  }
  return 0;
}

}  // namespace unfurl::train
