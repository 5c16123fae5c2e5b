// Training steps of several ranks, as threads of this process.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include "core/dispatch.h"
#include "tests/support/random.h"
#include "tests/support/rank_threads.h"
#include "tests/train/trainer/fixture.h"
#include "train/data/pack.h"
#include "train/trainer/checkpoint.h"
#include "train/trainer/step.h"

namespace unfurl::train {
namespace {

constexpr int kSteps = 2;

struct Numbers {
  std::vector<double> losses, norms;
  std::vector<Index> counts;  // tokens, prefixes and dropped ones of each step
  std::vector<std::vector<float>> weights;
};

/// A batch of documents of some lengths, others in each micro-batch.
std::vector<Batch> batches(const Recipe& recipe) {
  std::vector<Batch> out;
  const Index soft = recipe.model.soft_rows();
  for (Index n = 0; n < recipe.batch.slots * recipe.batch.micro_batches; ++n) {
    std::vector<Example> examples;
    for (const Index rows : {Index{7}, 3 + n % 4, Index{12}}) {
      Example& example = examples.emplace_back();
      for (const std::int32_t id : tests::integers(rows + 1, 400, static_cast<std::uint64_t>(50 * n + rows))) {
        example.tokens.push_back(id + 4);
      }
      example.prefix_length = 2;
    }
    out.push_back(
        make_batch(examples, std::vector<std::int64_t>{0, 1, 2}, recipe.batch.tokens, recipe.batch.documents, soft));
    out.back().prefixes = 3;
    out.back().dropped = n % 3;
  }
  return out;
}

Numbers train(const Recipe& recipe, Communicator* communicator) {
  kernels::ThreadPool pool(1);
  const kernels::CpuQueue queue(pool);
  const QueueScope scope(queue);
  TrainStep step(recipe, Device::cpu, DType::f32, communicator);
  step.decoder().initialise(3);
  std::vector<Batch> batch = batches(recipe);
  const Range own = step.own_micro_batches();
  for (Index i = 0; i < static_cast<Index>(batch.size()); ++i) {
    if (i < own.begin || i >= own.end) batch[static_cast<std::size_t>(i)] = {};  // another rank's
  }
  Numbers out;
  for (Index n = 1; n <= kSteps; ++n) {
    const StepResult result = step.run(batch, n);
    EXPECT_TRUE(result.updated);
    out.losses.push_back(result.loss);
    out.norms.push_back(result.gradient_norm);
    for (const Index count : {result.tokens, result.prefixes, result.dropped}) out.counts.push_back(count);
  }
  // An update that is skipped on all ranks leaves everything as it is, and the next step is right.
  EXPECT_FALSE(step.run(batch, kSteps + 1, 0).updated);
  out.losses.push_back(step.run(batch, kSteps + 2).loss);
  for (const NamedTensor& named : named_tensors(step.decoder().parameters())) {
    out.weights.push_back(named.tensor.values<float>());
  }
  EXPECT_EQ(step.communication().steps, kSteps + 2);
  EXPECT_EQ(step.communication().collectives > 0, communicator != nullptr);
  return out;
}

TEST(StepRanksTest, AnyBucketsAndRanksGiveTheSameBits) {
  struct Case {
    std::vector<std::string> sets;
    Method method = Method::full;
  };
  const std::vector<Case> models = {
      {},
      {{"train.recompute=true"}},
      {{"optimizer.name=adafactor", "model.tied=false"}},
      {{"model.block=serial", "model.norm=layer", "model.qk_norm=true", "train.recompute=true"}},
      {{}, Method::lora},
      {{"train.recompute=true"}, Method::prompt_tuning}};
  for (const auto& model : models) {
    // Some 240,000 weights: four blocks.
    std::vector<std::string> sets = {"model.width=96", "model.heads=2",   "model.head_dim=48", "model.ff_width=160",
                                     "batch.slots=4",  "batch.tokens=96", "batch.documents=4", "model.vocab_size=420"};
    sets.insert(sets.end(), model.sets.begin(), model.sets.end());
    const auto recipe_of = [&](const std::vector<std::string>& all) {
      Recipe recipe = tests::tiny_recipe("unused", all);
      recipe.model.tuning.method = model.method;
      recipe.model.tuning.prompt_tuning.tokens = 5;
      return recipe;
    };
    const Numbers alone = train(recipe_of(sets), nullptr);
    for (const auto& [ranks, set] : {std::pair{2, "train.bucket_blocks=1"},
                                     {4, "train.bucket_blocks=3"},
                                     {4, "train.bucket_blocks=1000"},
                                     {2, "train.overlap=false"}}) {
      SCOPED_TRACE(fmt::format("{}: {} ranks, {}", fmt::join(sets, " "), ranks, set));
      std::vector<std::string> all = sets;
      all.emplace_back(set);
      const Recipe recipe = recipe_of(all);
      tests::on_ranks(ranks, [&](Communicator& communicator) {
        const Numbers found = train(recipe, &communicator);
        EXPECT_EQ(found.losses, alone.losses);
        EXPECT_EQ(found.norms, alone.norms);
        EXPECT_EQ(found.counts, alone.counts);
        EXPECT_TRUE(found.weights == alone.weights);
      });
    }
  }
}

}  // namespace
}  // namespace unfurl::train
