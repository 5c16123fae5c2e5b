#include "train/judge/few_shot.h"

#include <algorithm>
#include <future>
#include <map>
#include <tuple>

#include "core/files.h"
#include "train/corpus/query_types.h"
#include "train/corpus/text.h"

namespace unfurl::train {
namespace {

constexpr std::size_t kAtOnce = 4;
constexpr std::uint64_t kAttempts = 3;

std::string one_prompt(ChatClient& client, ChatQuestion question, std::uint64_t seed) {
  for (std::uint64_t attempt = 0; attempt < kAttempts; ++attempt) {
    question.seed = (seed + attempt) & 0x7FFFFFFF;  // some servers take 32 bits with a sign
    const ChatAnswer answer = client.ask(question);
    if (!answer.fault.empty()) continue;
    std::string prompt = prompt_of_answer(answer.text);
    if (!prompt.empty()) return prompt;
  }
  return "";
}

}  // namespace

std::vector<ShownPair> shown_pairs(const std::vector<Source>& sources, std::size_t count,
                                   const std::set<std::string>& without, std::uint64_t seed) {
  struct Ranked {
    std::uint64_t rank;
    ShownPair pair;
  };
  std::map<std::string, std::vector<Ranked>> by_type;
  for (const Source& source : sources) {
    for (Index i = 0; i < source.shard->size(); ++i) {
      const std::string query(source.shard->query(i)), prompt(source.shard->prompt(i)), type(source.shard->type(i));
      if (type == "copy" || query.empty() || prompt.empty() || without.contains(query)) continue;
      by_type[type].push_back({hash_bytes(query + "\n" + prompt, seed), {query, prompt}});
    }
  }
  for (auto& [type, pairs] : by_type) {
    std::sort(pairs.begin(), pairs.end(), [](const Ranked& a, const Ranked& b) {
      return std::tie(a.rank, a.pair.query, a.pair.prompt) < std::tie(b.rank, b.pair.query, b.pair.prompt);
    });
  }
  std::vector<ShownPair> out;
  std::set<std::string> said;
  std::map<std::string, std::size_t> next;
  for (bool any = true; any && out.size() < count;) {
    any = false;
    for (const auto& [type, pairs] : by_type) {
      std::size_t& at = next[type];
      while (at < pairs.size() && (said.contains(pairs[at].pair.query) || said.contains(pairs[at].pair.prompt))) ++at;
      if (at == pairs.size() || out.size() == count) continue;
      out.push_back(pairs[at++].pair);
      said.insert({out.back().query, out.back().prompt});
      any = true;
    }
  }
  return out;
}

std::string prompt_of_answer(std::string_view answer) {
  const std::string text = cleaned_answer(answer);
  const std::string line(trim(std::string_view(text).substr(0, text.find('\n'))));
  return is_refusal(line) || plain_words(line).empty() || !valid_utf8(line) ? "" : line;
}

std::vector<std::string> few_shot_prompts(ChatClient& client, const std::vector<ShownPair>& shown,
                                          const std::string& query, std::size_t count,
                                          const FewShotSettings& settings) {
  ChatQuestion question{
      .messages = {{"system",
                    "People type short queries into a text-to-image system. You get such a query and "
                    "answer with one long prompt for it, which keeps what the query asks for and adds "
                    "detail and style, as in the examples. Answer with the prompt alone, on one "
                    "line."}},
      .temperature = settings.temperature,
      .max_tokens = settings.max_tokens};
  for (const ShownPair& pair : shown) {
    question.messages.push_back({"user", pair.query});
    question.messages.push_back({"assistant", pair.prompt});
  }
  question.messages.push_back({"user", query});
  std::vector<std::string> out;
  for (std::size_t first = 0; first < count; first += kAtOnce) {
    std::vector<std::future<std::string>> answers;
    for (std::size_t i = first; i < std::min(count, first + kAtOnce); ++i) {
      answers.push_back(
          std::async(std::launch::async, one_prompt, std::ref(client), question, settings.seed * 1000 + i * kAttempts));
    }
    for (auto& answer : answers) {
      if (std::string prompt = answer.get(); !prompt.empty()) out.push_back(std::move(prompt));
    }
  }
  return out;
}

}  // namespace unfurl::train
