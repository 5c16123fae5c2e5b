// Prompts by a language model that sees a few training pairs: a control.
#pragma once
#include <cstdint>
#include <set>
#include <string>
#include <vector>

#include "train/corpus/chat_client.h"
#include "train/data/loader.h"

namespace unfurl::train {

struct ShownPair {
  std::string query, prompt;
};

/// At most `count` training pairs to show, drawn by the seed and evenly over the types of query: no copy pairs, no
/// query or prompt twice, and none of the queries in `without`, which the model is to be asked.
std::vector<ShownPair> shown_pairs(const std::vector<Source>& sources, std::size_t count,
                                   const std::set<std::string>& without, std::uint64_t seed);

/// An answer as a prompt: one line without quotes, label ("Prompt:") and a model's thoughts; "" where it is a refusal
/// or nothing.
std::string prompt_of_answer(std::string_view answer);

struct FewShotSettings {
  double temperature = 0.8;
  std::int64_t max_tokens = 96;
  std::uint64_t seed = 1;
};

/// `count` prompts, each asked with a seed of its own; an answer that is no prompt is asked for up to three times, and
/// then left out. Throws as ChatClient::ask() does.
std::vector<std::string> few_shot_prompts(ChatClient& client, const std::vector<ShownPair>& shown,
                                          const std::string& query, std::size_t count, const FewShotSettings& settings);

}  // namespace unfurl::train
