#include "tests/train/trainer/fixture.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>

#include "core/files.h"
#include "tests/support/temporary_folder.h"
#include "train/corpus/commands.h"
#include "train/corpus/pair.h"
#include "train/data/tokenizer.h"
#include "train/report/metrics.h"

namespace unfurl::tests {

namespace fs = std::filesystem;

const fs::path& tiny_corpus() {
  static const TemporaryFolder folder;
  static const bool made = [] {
    testing::internal::CaptureStdout();
    train::run_corpus_synth({.pairs = 300, .seed = 5, .out = folder.path(), .heldout_pairs = 5});
    testing::internal::GetCapturedStdout();
    const std::vector<train::Pair> pairs = train::read_pairs(folder / "pairs.jsonl");
    std::vector<std::string_view> texts;
    for (const train::Pair& pair : pairs) texts.push_back(pair.prompt);
    train::TokenizerConfig config;
    config.vocab_size = 420;
    train::Tokenizer::train(config, texts, folder / "tokenizer.model");
    return true;
  }();
  static_cast<void>(made);
  return folder.path();
}

std::string tiny_recipe_text(const fs::path& output) {
  return fmt::format(R"(name: tiny
output: {}
seed: 3
device: cpu
model: {{width: 32, layers: 2, heads: 2, head_dim: 16, ff_width: 48, context: 96, dropout: 0.1}}
tokenizer: {{path: {}}}
data:
  sources: [{{path: {}}}]
  subword_sampling: 0.05
  unconditional_share: 0.1
batch: {{slots: 2, micro_batches: 2, tokens: 256, documents: 16}}
optimizer: {{learning_rate: 1.0e-2}}
schedule: {{warmup_steps: 2}}
train: {{steps: 12, log_every: 1, validate_every: 6, validation_tokens: 1000, checkpoint_every: 0}}
prefix: {{mode: dropout}}
samples: {{queries: [a fox], n: 2, max_tokens: 8}}
)",
                     output.string(), (tiny_corpus() / "tokenizer.model").string(),
                     (tiny_corpus() / "pairs.jsonl").string());
}

train::Recipe tiny_recipe(const fs::path& output, const std::vector<std::string>& sets) {
  train::Node node = train::parse_yaml(tiny_recipe_text(output), "tiny.yaml");
  for (const std::string& set : sets) train::set_value(node, set);
  return train::bind_recipe(node, "tiny.yaml");
}

std::string unfurl_binary() {
  const char* elsewhere = std::getenv("UNFURL_BINARY");
  return elsewhere != nullptr ? elsewhere : UNFURL_BINARY;
}

std::vector<std::pair<std::int64_t, double>> losses(const fs::path& run, const std::string& kind) {
  std::vector<std::pair<std::int64_t, double>> out;
  for (const Json& line : train::read_metrics(run / "metrics.jsonl")) {
    if (line.at("kind").as_string() == kind) {
      out.emplace_back(line.at("step").as_integer(), line.at("loss").as_number());
    }
  }
  return out;
}

std::vector<std::string> files_below(const fs::path& folder) {
  std::vector<std::string> out;
  for (const auto& entry : fs::recursive_directory_iterator(folder)) {
    out.push_back(entry.path().lexically_relative(folder).string());
  }
  std::sort(out.begin(), out.end());
  return out;
}

}  // namespace unfurl::tests
