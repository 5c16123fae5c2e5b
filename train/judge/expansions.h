// The prompts of every system for every query, in a file that grows query by query: a killed judgement goes on.
#pragma once
#include <filesystem>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "train/judge/queries.h"

namespace unfurl::train {

/// Somebody who makes prompts of a query: a model, or a control.
struct System {
  std::string name;
  std::string about;
  /// Prompts for a query, `n` of them or, where it has no more, fewer.
  std::function<std::vector<std::string>(const TestQuery&)> prompts;
  std::size_t queries = SIZE_MAX;      // the first so many only
  std::vector<bool>* ended = nullptr;  // of the prompts last returned: whether the model ended them
};

struct SystemPrompt {
  std::string text;
  bool ended = true;
};

/// By name of the system, then by query, in the order of `queries`.
using Expanded = std::map<std::string, std::vector<std::vector<SystemPrompt>>>;

/// Reads what `file` has of this judgement and asks the systems for the rest. A file of another judgement (`identity`)
/// starts over. `simulated`: its first line says that the prompts are of models that have seen simulated pairs, or were
/// chosen by a simulated image side. `progress` is told how many of all are done.
Expanded expand_all(const std::filesystem::path& file, const std::string& identity, const std::vector<System>& systems,
                    const std::vector<TestQuery>& queries, bool simulated,
                    const std::function<void(std::size_t done, std::size_t total)>& progress);

/// What a judgement's file holds.
struct ExpansionsFile {
  std::vector<std::string> systems;                                              // in their order
  std::vector<TestQuery> queries;                                                // of the first system
  std::map<std::string, std::map<std::string, std::vector<std::string>>> texts;  // by system, by id of the query
};

/// Throws UserError for a file that is none.
ExpansionsFile read_judged_expansions(const std::filesystem::path& file);

}  // namespace unfurl::train
