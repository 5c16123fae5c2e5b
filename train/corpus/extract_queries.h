// Queries of every type from one prompt, by a language model: few examples are shown, and each of the successive types
// is asked for with the query before it, so that queries get shorter and more abstract.
#pragma once
#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "train/corpus/chat_client.h"
#include "train/corpus/query_types.h"

namespace unfurl::train {

struct Exemplar {
  std::string type, text, query;  // the text that the query was made of: a prompt, or a longer query
};

/// Of a file of lines {"type", "prompt", "query"}. Throws UserError naming file and line for a bad one, and where one
/// of the types has none.
std::vector<Exemplar> read_exemplars(const std::filesystem::path& path, const std::vector<std::string>& types);

struct ExtractedQuery {
  const QueryType* type = nullptr;
  std::string text;
};

struct Extraction {
  std::vector<ExtractedQuery> queries;         // in the order of kQueryTypes
  std::map<std::string, std::size_t> dropped;  // queries, by reason: that of the last attempt
  std::size_t retried = 0;                     // attempts that were made again
};

struct ExtractionRules {
  std::vector<std::string> types;  // of kQueryTypes; all others are left out
  double temperature = 0.7;
  int attempts = 3;  // at one query, each with another seed
  std::uint64_t seed = 1;
};

/// Throws as ChatClient::ask() does.
Extraction extract_queries(ChatClient& client, const std::vector<Exemplar>& exemplars, const ExtractionRules& rules,
                           const std::string& prompt);

}  // namespace unfurl::train
