#include "train/corpus/extract_queries.h"

#include <fmt/format.h>

#include <algorithm>

#include "core/error.h"
#include "core/files.h"
#include "core/lines.h"
#include "train/corpus/fields.h"
#include "train/corpus/text.h"

namespace unfurl::train {
namespace {

constexpr std::size_t kShown = 4;  // exemplars of a type

std::vector<ChatMessage> conversation(const QueryType& type, const std::vector<Exemplar>& exemplars,
                                      const std::string& text) {
  std::vector<ChatMessage> messages = {
      {"system",
       fmt::format("People type short queries into a text-to-image system. You get a text that describes an image and "
                   "answer with the query that somebody might have typed for it. {} The query is shorter than the "
                   "text and has at most {} words. Answer with the query alone.",
                   type.instruction, type.max_words)}};
  std::size_t shown = 0;
  for (const Exemplar& exemplar : exemplars) {
    if (exemplar.type != type.name || shown++ == kShown) continue;
    messages.push_back({"user", exemplar.text});
    messages.push_back({"assistant", exemplar.query});
  }
  messages.push_back({"user", text});
  return messages;
}

}  // namespace

std::vector<Exemplar> read_exemplars(const std::filesystem::path& path, const std::vector<std::string>& types) {
  if (!std::filesystem::exists(path)) {
    user_error(
        "there are no exemplars at {}; name a file with --exemplars (unfurl's own is recipes/query_exemplars.jsonl)",
        path.string());
  }
  const std::string text = read_file(path);
  std::vector<Exemplar> exemplars;
  for (const auto& [number, whole] : Lines(text)) {
    const std::string_view line = trim(whole);
    if (line.empty()) continue;
    try {
      const Json object = parse_object_line(line);
      Exemplar exemplar{required_text(object, "type"), required_text(object, "prompt"), required_text(object, "query")};
      const QueryType* type = find_query_type(exemplar.type);
      if (type == nullptr) fail("there is no type \"{}\"", exemplar.type);
      // An example that breaks the rules would teach to break them.
      const CheckedQuery checked = check_query(exemplar.query, *type, exemplar.text, exemplar.text);
      if (!checked.fault.empty()) fail("its query is {}", checked.fault);
      exemplars.push_back(std::move(exemplar));
    } catch (const Error& error) {
      user_error("{}:{}: {}", path.string(), number, error.what());
    }
  }
  for (const std::string& type : types) {
    if (std::ranges::find(exemplars, type, &Exemplar::type) == exemplars.end()) {
      user_error("{} has no exemplar of type {}", path.string(), type);
    }
  }
  return exemplars;
}

Extraction extract_queries(ChatClient& client, const std::vector<Exemplar>& exemplars, const ExtractionRules& rules,
                           const std::string& prompt) {
  Extraction made;
  std::string previous = prompt;
  for (const QueryType& type : kQueryTypes) {
    if (std::ranges::find(rules.types, type.name) == rules.types.end()) continue;
    const std::string& text = type.successive ? previous : prompt;
    if (split_words(text).size() < 2) {
      ++made.dropped["nothing shorter is left"];
      continue;
    }
    ChatQuestion question{.messages = conversation(type, exemplars, text), .temperature = rules.temperature};
    std::string fault;
    for (int attempt = 0; attempt < rules.attempts; ++attempt) {
      question.seed = rules.seed + static_cast<std::uint64_t>(attempt);
      made.retried += attempt > 0;
      const ChatAnswer answer = client.ask(question);
      if (!answer.fault.empty()) {
        fault = answer.fault.substr(0, answer.fault.find(':'));  // without what the server says: it is counted
        continue;
      }
      CheckedQuery checked = check_query(answer.text, type, prompt, text);
      fault = checked.fault;
      const bool said = std::ranges::any_of(
          made.queries, [&](const ExtractedQuery& other) { return lower(other.text) == lower(checked.text); });
      if (fault.empty() && said) fault = "said before";
      if (!fault.empty()) continue;
      if (type.successive) previous = checked.text;
      made.queries.push_back({&type, std::move(checked.text)});
      break;
    }
    if (!fault.empty()) ++made.dropped[fault];
  }
  return made;
}

}  // namespace unfurl::train
