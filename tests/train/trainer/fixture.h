// A corpus, a tokenizer and a recipe so small that a whole run takes a moment.
#pragma once
#include <filesystem>
#include <string>
#include <vector>

#include "core/json.h"
#include "train/recipe/recipe.h"

namespace unfurl::tests {

/// A folder with pairs.jsonl (300 synthetic pairs) and tokenizer.model (420 pieces), made once a process.
const std::filesystem::path& tiny_corpus();

/// The text of a recipe over tiny_corpus() that writes to `output`: some ten thousand weights, 12 steps, everything
/// random switched on. `sets` are laid over it as `--set` does.
std::string tiny_recipe_text(const std::filesystem::path& output);
train::Recipe tiny_recipe(const std::filesystem::path& output, const std::vector<std::string>& sets = {});

/// The path of the built program.
std::string unfurl_binary();

/// The "loss" of all lines of a run's metrics.jsonl with this "kind", by step.
std::vector<std::pair<std::int64_t, double>> losses(const std::filesystem::path& run, const std::string& kind = "step");

/// The paths below a folder, relative to it, sorted.
std::vector<std::string> files_below(const std::filesystem::path& folder);

}  // namespace unfurl::tests
