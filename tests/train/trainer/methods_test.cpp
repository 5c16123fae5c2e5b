// Runs by the methods that leave the base model as it is: what they change, how they go on, what they reach.
#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>

#include "core/files.h"
#include "core/json.h"
#include "core/safetensors.h"
#include "tests/support/temporary_folder.h"
#include "tests/train/data/fixture.h"
#include "tests/train/trainer/fixture.h"
#include "train/commands/export.h"
#include "train/model/merge.h"
#include "train/report/metrics.h"
#include "train/trainer/checkpoint.h"
#include "train/trainer/evaluate_run.h"
#include "train/trainer/load_run.h"
#include "train/trainer/plan.h"
#include "train/trainer/trainer.h"

namespace unfurl::train {
namespace {

namespace fs = std::filesystem;
using tests::has;
using tests::tiny_recipe;

using Sets = std::vector<std::string>;

Sets operator+(Sets a, const Sets& b) {
  a.insert(a.end(), b.begin(), b.end());
  return a;
}

std::string mistake_of(const Recipe& recipe) {
  testing::internal::CaptureStderr();
  std::string mistake;
  try {
    train_stage(recipe);
  } catch (const UserError& error) {
    mistake = error.what();
  }
  testing::internal::GetCapturedStderr();
  return mistake;
}

TrainOutcome train(const Recipe& recipe) {
  testing::internal::CaptureStderr();
  const TrainOutcome outcome = train_stage(recipe);
  testing::internal::GetCapturedStderr();
  return outcome;
}

std::uint64_t checksum(const FileTensor& tensor) {
  return hash_bytes({reinterpret_cast<const char*>(tensor.bytes.data()), tensor.bytes.size()});
}

/// The tensors of a checkpoint that a method trains must differ from those of `before` (or be new), all others not.
void expect_only_the_methods_changed(const fs::path& before, const fs::path& after) {
  const SafetensorsFile old(before / "model.safetensors"), now(after / "model.safetensors");
  Index same = 0, of_method = 0;
  for (const FileTensor& tensor : now.tensors()) {
    const auto found = std::find_if(old.tensors().begin(), old.tensors().end(),
                                    [&](const FileTensor& other) { return other.name == tensor.name; });
    if (is_of_method(tensor.name)) {
      ++of_method;
      if (found != old.tensors().end()) {
        EXPECT_NE(checksum(tensor), checksum(*found)) << tensor.name;
      }
    } else {
      ++same;
      ASSERT_NE(found, old.tensors().end()) << tensor.name;
      EXPECT_EQ(checksum(tensor), checksum(*found)) << tensor.name;
    }
  }
  EXPECT_GT(same, 10);
  EXPECT_GT(of_method, 0);
}

const Sets kPlain = {
    "batch.tokens=512",           "batch.micro_batches=1", "model.dropout=0",         "data.subword_sampling=0",
    "data.unconditional_share=0", "prefix.mode=always",    "prompt_tuning.tokens=20", "lora.rank=4"};
const Sets kPromptTuning = {"method=prompt_tuning", "optimizer.name=adafactor", "optimizer.learning_rate=0.3",
                            "optimizer.weight_decay=0.00001", "schedule.name=constant"};
const Sets kLora = {"method=lora", "optimizer.weight_decay=0"};

class MethodRunTest : public testing::Test {
 protected:
  /// A model that has seen prompts alone, and never a query: the base of the others.
  fs::path base() {
    train(tiny_recipe(folder / "base", kPlain + Sets{"train.steps=80", "train.validate_every=80", "samples.n=1",
                                                     "data.unconditional_share=1", "data.part=base"}));
    return resolve_checkpoint(folder / "base");
  }
  Sets on(const fs::path& start) const { return kPlain + Sets{"start=" + start.string()}; }

  const tests::TemporaryFolder folder;
};

TEST_F(MethodRunTest, TheBaseKeepsItsBitsThroughEveryStageAndTheLossFalls) {
  const fs::path start = base();
  const double untuned =
      evaluate_run(folder / "base", {"eval.side=validation", "eval.queries=0"}).likelihood.all.loss();
  const Sets some = {"train.steps=40", "train.validate_every=20", "samples.n=1"};
  const auto loss_of = [&](const std::string& name) {
    return evaluate_run(folder / name, {"eval.side=validation", "eval.queries=0"}).likelihood.all.loss();
  };
  train(tiny_recipe(folder / "full", on(start) + some));
  const double full = loss_of("full");
  for (const Sets& method : {kPromptTuning, kLora}) {
    SCOPED_TRACE(method[0]);
    const bool prompt = method[0] == "method=prompt_tuning";
    const std::string name = prompt ? "prompt" : "lora", second = name + "2";
    train(tiny_recipe(folder / name, on(start) + some + method));
    const fs::path first = resolve_checkpoint(folder / name);
    expect_only_the_methods_changed(start, first);
    const double tuned = loss_of(name);
    EXPECT_LT(tuned, untuned - 0.005);
    EXPECT_GT(tuned, full);
    // A later stage goes on with what was trained.
    train(tiny_recipe(folder / second, on(first) + some + method + Sets{"data.part=refine"}));
    expect_only_the_methods_changed(first, resolve_checkpoint(folder / second));
    EXPECT_LT(loss_of(second), tuned + 0.005);
    // The checkpoint generates: the best of the samples in its metrics came from it.
    Index samples = 0;
    for (const Json& line : read_metrics(folder / second / "metrics.jsonl")) {
      if (line.at("kind").as_string() == "sample") ++samples;
    }
    EXPECT_EQ(samples, 2);
    if (prompt) {
      EXPECT_TRUE(has(mistake_of(tiny_recipe(folder / "x", on(first))), "soft prompt, which method full would lose"));
      EXPECT_TRUE(has(mistake_of(tiny_recipe(folder / "x", on(first) + method + Sets{"prompt_tuning.tokens=7"})),
                      "set prompt_tuning.tokens: 20"));
    } else {  // merged
      train(tiny_recipe(folder / "merged", on(first) + Sets{"train.steps=1", "optimizer.learning_rate=0"}));
      EXPECT_NEAR(loss_of("merged"), tuned, 1e-5);
      testing::internal::CaptureStderr();
      run_export({first, folder / "exported"});
      testing::internal::GetCapturedStderr();
      EXPECT_NEAR(loss_of("exported"), tuned, 1e-5);
      const fs::path exported = resolve_checkpoint(folder / "exported");
      const SafetensorsFile file(exported / "model.safetensors");
      for (const FileTensor& tensor : file.tensors()) {
        EXPECT_FALSE(is_of_method(tensor.name)) << tensor.name;
      }
      EXPECT_THROW(run_export({first, folder / "exported"}), UserError);
      EXPECT_EQ(load_run(folder / "merged").decoder->parameters().count(),
                load_run(folder / "base").decoder->parameters().count());
    }
  }
}

TEST_F(MethodRunTest, AStoppedRunGoesOnWithTheBitsOfOneThatWasNot) {
  const fs::path start = base();
  for (const Sets& method : {kPromptTuning, kLora}) {
    SCOPED_TRACE(method[0]);
    const Sets sets = on(start) + method + Sets{"train.steps=6", "train.checkpoint_every=3", "train.keep=9"};
    const fs::path a = folder / ("a" + method[0]), b = folder / ("b" + method[0]);
    train(tiny_recipe(a, sets));
    fs::copy(a, b, fs::copy_options::recursive);
    fs::remove_all(checkpoint_path(b, 6));
    train(tiny_recipe(b, sets));
    EXPECT_TRUE(read_file(checkpoint_path(a, 6) / "model.safetensors") ==
                read_file(checkpoint_path(b, 6) / "model.safetensors"));
    EXPECT_TRUE(read_file(checkpoint_path(a, 6) / "optimizer-0-of-1.safetensors") ==
                read_file(checkpoint_path(b, 6) / "optimizer-0-of-1.safetensors"));
    EXPECT_EQ(tests::losses(a), tests::losses(b));
  }
}

// A frozen weight has neither a gradient nor optimiser state.
TEST_F(MethodRunTest, ThePlanCountsWhatIsTrained) {
  const Sets sets = {"model.width=64", "batch.tokens=512", "model.layers=4"};
  const RunPlan full = plan_run(tiny_recipe(folder / "a", sets), false);
  EXPECT_EQ(full.trained, full.parameters);
  for (const Sets& method : {kPromptTuning, kLora}) {
    const RunPlan plan = plan_run(tiny_recipe(folder / "a", sets + method), false);
    const Index width = 64, attention = 32, kv = 16, ff = 48, rank = 8;
    const Index per_layer =
        rank * (width + attention + 2 * (width + kv) + 2 * (width + ff) + attention + width + ff + width);
    EXPECT_EQ(plan.trained, method[0] == "method=lora" ? 4 * per_layer : 100 * width);
    EXPECT_EQ(plan.parameters - plan.trained, full.parameters);
    const auto bytes = [&](const RunPlan& of, const char* name) {
      const auto found = of.allocator_peak_by_name.find(name);
      return found == of.allocator_peak_by_name.end() ? 0.0 : static_cast<double>(found->second);
    };
    const double share = static_cast<double>(plan.trained) / static_cast<double>(full.trained);
    const double padding = 0.04;  // of small matrices, to the alignment of parameters
    EXPECT_LT(bytes(plan, "gradients"), (share + padding) * bytes(full, "gradients"));
    EXPECT_LE(bytes(plan, "optimizer"), (share + padding) * bytes(full, "optimizer"));
    EXPECT_GE(bytes(plan, "parameters"), bytes(full, "parameters"));
    EXPECT_LT(plan.flops_per_token, full.flops_per_token);
  }
}

TEST_F(MethodRunTest, RecipesAreChecked) {
  const Recipe recipe = parse_recipe("method: prompt_tuning\n", "r.yaml");
  EXPECT_EQ(recipe.optimizer.name, OptimizerKind::adafactor);
  EXPECT_EQ(recipe.optimizer.learning_rate, 0.3);
  EXPECT_EQ(recipe.optimizer.weight_decay, 1e-5);
  EXPECT_EQ(recipe.optimizer.adafactor.decay, 0.8);
  EXPECT_FALSE(recipe.optimizer.adafactor.parameter_scale);
  EXPECT_EQ(recipe.schedule.name, ScheduleKind::constant);
  EXPECT_EQ(recipe.schedule.warmup_steps, 0);
  EXPECT_EQ(recipe.batch.slots * recipe.batch.micro_batches * recipe.batch.documents, 32);
  EXPECT_EQ(recipe.model.tuning.prompt_tuning.tokens, 100);
  EXPECT_EQ(parse_recipe("method: prompt_tuning\noptimizer: {learning_rate: 0.1}\n", "r.yaml").optimizer.learning_rate,
            0.1);
  const auto mistake = [](const std::string& text) {
    try {
      parse_recipe(text, "r.yaml");
    } catch (const UserError& error) {
      return std::string(error.what());
    }
    return std::string();
  };
  EXPECT_TRUE(has(mistake("method: lora\nlora: {targets: [q, dwn]}\n"), "there is no \"dwn\""));
  EXPECT_TRUE(has(mistake("method: lora\nlora: {targets: [q, q]}\n"), "twice"));
  EXPECT_TRUE(has(mistake("method: lora\nlora: {targets: []}\n"), "lora.targets is empty"));
  EXPECT_TRUE(has(mistake("method: lora\nmodel: {activation: gelu}\n"), "no gate"));
  EXPECT_TRUE(has(mistake("method: prompt_tuning\nbatch: {tokens: 200}\n"), "behind the soft prompt"));
  EXPECT_TRUE(has(mistake("method: promt_tuning\n"), "method"));
}

}  // namespace
}  // namespace unfurl::train
