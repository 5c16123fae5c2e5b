// Pre-training on plain text: what is read, what is refused, and that it is a run like any other.
#include <gtest/gtest.h>

#include <filesystem>
#include <map>
#include <set>

#include "core/files.h"
#include "tests/support/temporary_folder.h"
#include "tests/train/data/fixture.h"
#include "tests/train/trainer/fixture.h"
#include "train/data/denoise.h"
#include "train/data/documents.h"
#include "train/data/prepare.h"
#include "train/recipe/pipeline.h"
#include "train/trainer/checkpoint.h"
#include "train/trainer/evaluate_run.h"
#include "train/trainer/trainer.h"

namespace unfurl::train {
namespace {

namespace fs = std::filesystem;
using tests::has;
using tests::spill;

template <class Body>
std::string mistake_of(const Body& body) {
  testing::internal::CaptureStderr();
  std::string mistake;
  try {
    body();
  } catch (const UserError& error) {
    mistake = error.what();
  }
  testing::internal::GetCapturedStderr();
  return mistake;
}

class PretrainTest : public testing::Test {
 protected:
  /// The prompts of the tiny corpus as text, with a tokenizer that has sentinels.
  PretrainTest() {
    std::string lines;
    std::vector<std::string_view> texts;
    std::set<std::string> prompts;
    const std::vector<Pair> pairs = read_pairs(tests::tiny_corpus() / "pairs.jsonl");
    for (const Pair& pair : pairs) {
      if (prompts.insert(pair.prompt).second) lines += pair.prompt + '\n';
      texts.push_back(pair.prompt);
    }
    spill(folder / "text.txt", lines);
    TokenizerConfig config;
    config.vocab_size = 420;
    config.sentinels = 16;
    Tokenizer::train(config, texts, folder / "tokenizer.model");
  }
  Recipe recipe(const fs::path& output, std::vector<std::string> sets) const {
    const std::vector<std::string> all = {"objective=ul2",
                                          "data.sources.0.path=" + (folder / "text.txt").string(),
                                          "tokenizer.path=" + (folder / "tokenizer.model").string(),
                                          "data.split.similarity=0",
                                          "batch.micro_batches=1",
                                          "model.dropout=0"};
    sets.insert(sets.begin(), all.begin(), all.end());
    return tests::tiny_recipe(output, sets);
  }
  void train(const Recipe& of) const {
    testing::internal::CaptureStderr();
    train_stage(of);
    testing::internal::GetCapturedStderr();
  }

  const tests::TemporaryFolder folder;
};

TEST_F(PretrainTest, TheTokenizersSentinelsAreNoText) {
  const Tokenizer tokenizer(folder / "tokenizer.model"), without(tests::tiny_corpus() / "tokenizer.model");
  EXPECT_EQ(tokenizer.sentinels(), 16);
  EXPECT_EQ(without.sentinels(), 0);
  EXPECT_EQ(tokenizer.piece(16), "<extra_id_0>");
  EXPECT_EQ(tokenizer.piece(31), "<extra_id_15>");
  EXPECT_EQ(tokenizer.first_learnt(), 16 + 16 + 256);
  const std::string text = "a <extra_id_3> fox [X]";
  const auto ids = tokenizer.encode(text);
  for (const std::int32_t id : ids) EXPECT_GE(id, tokenizer.controls());
  EXPECT_EQ(tokenizer.decode(ids), text);
  EXPECT_EQ(tokenizer.bytes(20), "");
}

TEST_F(PretrainTest, DocumentsAreLinesOrParagraphs) {
  spill(folder / "t.txt", "one two\nthree\r\n\n  four  \n\n\nfive\nsix\nfive\n");
  const auto prompts = [&](DocumentsIn documents) {
    std::vector<std::string> out;
    for (const Pair& pair : read_documents(folder / "t.txt", documents, {})) out.push_back(pair.prompt);
    return out;
  };
  EXPECT_EQ(prompts(DocumentsIn::lines), (std::vector<std::string>{"one two", "three", "four", "five", "six"}));
  EXPECT_EQ(prompts(DocumentsIn::paragraphs), (std::vector<std::string>{"one two three", "four", "five six five"}));
  // Of pairs the prompts, each once, under the ids by which pairs are split.
  const auto of_pairs = read_documents(tests::tiny_corpus() / "pairs.jsonl", DocumentsIn::lines, {});
  const auto pairs = read_pairs(tests::tiny_corpus() / "pairs.jsonl");
  EXPECT_EQ(of_pairs.size(), pairs.size());
  EXPECT_EQ(of_pairs[0].id, pairs[0].id);
  EXPECT_EQ(of_pairs[0].query, "");
}

TEST_F(PretrainTest, LongDocumentsAreCutBetweenWords) {
  const Tokenizer tokenizer(folder / "tokenizer.model");
  std::string text;
  for (int i = 0; i < 60; ++i) text += fmt::format("{}fox{} in the snow", i == 0 ? "" : " ", i);
  const auto parts = cut_document(text, tokenizer, 50);
  std::string joined;
  for (const std::string& part : parts) {
    joined += (joined.empty() ? "" : " ") + part;
    const auto tokens = static_cast<Index>(tokenizer.encode(part).size());
    EXPECT_LE(tokens, 50);
    EXPECT_GE(tokens, 15);
  }
  EXPECT_EQ(joined, text);
  EXPECT_EQ(cut_document("a fox", tokenizer, 50), std::vector<std::string>{"a fox"});
}

TEST_F(PretrainTest, EveryObjectiveLearnsAndAPairModelStartsFromIt) {
  for (const char* objective : {"ul2", "causal", "prefix_lm"}) {
    SCOPED_TRACE(objective);
    const std::string set = std::string("objective=") + objective;
    train(recipe(folder / objective, {set, "train.steps=30", "train.validate_every=30"}));
    const auto steps = tests::losses(folder / objective);
    EXPECT_LT(steps.back().second, steps.front().second - 0.8);
    EXPECT_EQ(tests::losses(folder / objective, "validation").size(), 1u);
  }
  Recipe pairs = tests::tiny_recipe(folder / "pairs", {"start=" + (folder / "ul2").string(), "train.steps=4",
                                                       "tokenizer.path=" + (folder / "tokenizer.model").string()});
  train(pairs);
  EXPECT_LT(tests::losses(folder / "pairs")[0].second, 5.7);  // a random model has log(420) = 6.04
  const std::string mistake = mistake_of([&] { evaluate_run(folder / "ul2", {}); });
  EXPECT_TRUE(has(mistake, "name pairs to evaluate it on with --pairs")) << mistake;
  EXPECT_GT(
      evaluate_run(folder / "ul2", {"eval.queries=0"}, tests::tiny_corpus() / "pairs.jsonl").likelihood.all.targets, 0);
}

TEST_F(PretrainTest, AStoppedRunGoesOnWithTheBitsOfOneThatWasNot) {
  const std::vector<std::string> sets = {"train.steps=6", "train.checkpoint_every=3", "train.keep=9"};
  train(recipe(folder / "a", sets));
  fs::copy(folder / "a", folder / "b", fs::copy_options::recursive);
  fs::remove_all(checkpoint_path(folder / "b", 6));
  train(recipe(folder / "b", sets));
  EXPECT_TRUE(read_file(checkpoint_path(folder / "a", 6) / "model.safetensors") ==
              read_file(checkpoint_path(folder / "b", 6) / "model.safetensors"));
  EXPECT_EQ(tests::losses(folder / "a"), tests::losses(folder / "b"));
}

// UL2's long spans take more than a short text has, so several stand in one document.
TEST_F(PretrainTest, ShortTextsAreJoinedUpToTheContext) {
  const auto tokenizer = std::make_shared<const Tokenizer>(folder / "tokenizer.model");
  const DataConfig data = recipe(folder / "x", {}).data;
  const PreparedData prepared = prepare_data(data, *tokenizer, folder.path());
  const std::vector<Source> sources = prepared.training(DataPart::all);
  std::map<std::vector<std::int32_t>, Index> all;
  for (const Source& source : sources) {
    for (Index i = 0; i < source.shard->size(); ++i) {
      const auto tokens = source.shard->prompt_tokens(i);
      ++all[{tokens.begin(), tokens.end()}];
    }
  }
  LoaderConfig config;
  config.tokens = 1024;
  config.max_documents = 64;
  config.context = 400;
  config.sentinels = tokenizer->sentinels();
  const Index most = document_tokens(Objective::ul2, config.context);
  const auto is_sentinel = [&](std::int32_t token) {
    return token >= Tokenizer::kControls && token < Tokenizer::kControls + config.sentinels;
  };
  // The texts of a document, put together again from what is seen and what is predicted.
  const auto texts_of = [&](const Batch& batch, Index d, Index& longest) {
    const auto at = static_cast<std::size_t>(d);
    const std::int32_t begin = batch.cu_seqlens[at], end = batch.cu_seqlens[at + 1];
    std::map<std::int32_t, std::vector<std::int32_t>> spans;
    std::int32_t last = 0;
    for (std::size_t t = 0; t < batch.targets.size(); ++t) {
      if (batch.target_rows[t] < begin || batch.target_rows[t] >= end) continue;
      if (is_sentinel(batch.targets[t])) {
        last = batch.targets[t];
      } else {
        spans[last].push_back(batch.targets[t]);
      }
    }
    spans[last].pop_back();  // the end of the whole
    std::vector<std::int32_t> whole;
    const auto put = [&](std::int32_t span) {
      longest = std::max(longest, static_cast<Index>(spans[span].size()));
      whole.insert(whole.end(), spans[span].begin(), spans[span].end());
    };
    for (std::int32_t row = begin + 1; row < begin + batch.prefix_lengths[at] - 1; ++row) {
      const std::int32_t token = batch.ids[static_cast<std::size_t>(row)];
      if (is_sentinel(token)) {
        put(token);
      } else {
        whole.push_back(token);
      }
    }
    put(0);
    EXPECT_LE(static_cast<Index>(whole.size()), most);
    std::vector<std::vector<std::int32_t>> texts(1);
    for (const std::int32_t token : whole) {
      if (token == Tokenizer::kEnd) {
        texts.emplace_back();
      } else {
        texts.back().push_back(token);
      }
    }
    return texts;
  };
  for (const Objective objective : {Objective::ul2, Objective::prefix_lm}) {
    config.objective = objective;
    BatchLoader loader(tokenizer, sources, config);
    const FixedBatches fixed(sources, config);
    for (const bool is_fixed : {false, true}) {
      std::map<std::vector<std::int32_t>, Index> met;
      Index documents = 0, longest = 0;
      const Index bins = is_fixed ? fixed.size() : loader.bins();
      for (Index i = 0; i < bins; ++i) {
        const Batch batch = is_fixed ? fixed.batch(i) : loader.next(1)[0];
        for (Index d = 0; d < batch.documents; ++d) {
          ++documents;
          if (objective == Objective::ul2) {
            for (const auto& text : texts_of(batch, d, longest)) ++met[text];
          }
        }
      }
      const Index texts = is_fixed ? fixed.examples() : loader.examples();
      if (objective == Objective::ul2) {
        EXPECT_EQ(met, all) << "every text is there once";
        EXPECT_LT(documents, texts / 2);
        EXPECT_GT(longest, most / 3) << "longer than most texts";
      } else {
        EXPECT_EQ(documents, texts);
      }
    }
  }
}

// The epoch changes which spans are left out, and nothing else does.
TEST_F(PretrainTest, ATextHasOtherSpansInEveryEpoch) {
  const auto tokenizer = std::make_shared<const Tokenizer>(folder / "tokenizer.model");
  const DataConfig data = recipe(folder / "x", {"objective=prefix_lm"}).data;
  const PreparedData prepared = prepare_data(data, *tokenizer, folder.path());
  LoaderConfig config;
  config.tokens = 256;
  config.max_documents = 16;
  config.context = data.context;
  config.objective = Objective::prefix_lm;
  BatchLoader one(tokenizer, prepared.training(DataPart::all), config),
      two(tokenizer, prepared.training(DataPart::all), config);
  const auto epoch = [](BatchLoader& loader) {
    std::map<std::int64_t, std::vector<std::int32_t>> out;
    const Index bins = loader.bins();
    for (Index i = 0; i < bins; ++i) {
      const Batch batch = loader.next(1, {.step = static_cast<std::uint32_t>(i)})[0];
      for (Index d = 0; d < batch.documents; ++d) {
        const auto at = static_cast<std::size_t>(d);
        out[batch.examples[at]] = {batch.ids.begin() + batch.cu_seqlens[at],
                                   batch.ids.begin() + batch.cu_seqlens[at + 1]};
      }
    }
    return out;
  };
  const auto first = epoch(one);
  one.seek({1, 0});
  const auto second = epoch(one);
  EXPECT_EQ(first.size(), second.size());
  Index changed = 0;
  for (const auto& [example, ids] : first) changed += second.at(example) != ids ? 1 : 0;
  EXPECT_GT(changed, static_cast<Index>(first.size()) * 8 / 10);
  two.seek({1, 0});
  EXPECT_EQ(epoch(two), second);
}

TEST_F(PretrainTest, RefusesWhatIsNoText) {
  const auto read = [&](const std::string& bytes) {
    spill(folder / "bad.txt", bytes);
    return mistake_of([&] { read_documents(folder / "bad.txt", DocumentsIn::lines, {}); });
  };
  EXPECT_TRUE(has(read("\n  \n\n"), "there is no text in it"));
  EXPECT_TRUE(has(read("fine\n\xFF\xFE\nfine too\n"), "bad.txt:2: invalid UTF-8"));
  EXPECT_TRUE(has(read(std::string("a\0b\n", 4)), "a control character"));
  EXPECT_TRUE(has(mistake_of([&] { read_documents(folder / "none.txt", DocumentsIn::lines, {}); }), "none.txt"));
  const std::string few = mistake_of([&] {
    train_stage(recipe(folder / "few", {"tokenizer.path=" + (tests::tiny_corpus() / "tokenizer.model").string()}));
  });
  EXPECT_TRUE(has(few, "train one with tokenizer.sentinels: ")) << few;
  spill(folder / "p.yaml", "stages:\n  - {name: p, kind: pretrain, objective: pairs}\n");
  EXPECT_TRUE(
      has(mistake_of([&] { load_pipeline(folder / "p.yaml"); }), "p.yaml:2: stage p: pre-training is on plain"));
  spill(folder / "q.yaml", "stages:\n  - {name: p, kind: pretrain}\n");
  EXPECT_EQ(load_pipeline(folder / "q.yaml").stages[0].recipe.data.objective, Objective::ul2);
}

}  // namespace
}  // namespace unfurl::train
