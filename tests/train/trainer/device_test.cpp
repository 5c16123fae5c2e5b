// Training on devices that run CUDA kernels: the GPU where there is one, and CUDA executed on the CPU in binaries that
// have it.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>

#include "core/device.h"
#include "core/files.h"
#include "core/json.h"
#include "core/safetensors.h"
#include "tests/support/expect_error.h"
#include "tests/support/sanitizers.h"
#include "tests/support/subprocess.h"
#include "tests/support/temporary_folder.h"
#include "tests/train/data/fixture.h"
#include "tests/train/trainer/fixture.h"
#include "train/trainer/checkpoint.h"
#include "train/trainer/placement.h"
#include "train/trainer/plan.h"
#include "train/trainer/step.h"
#include "train/trainer/trainer.h"
#if defined(UNFURL_HOST_CUDA)
#include "kernels/host/engine.h"
#endif

namespace unfurl::train {
namespace {

namespace fs = std::filesystem;
using tests::has;
using tests::losses;
using tests::message_of;
using tests::tiny_recipe;

/// Those of this binary that can be used here.
std::vector<std::string> devices() {
  std::vector<std::string> out;
  for (const Device device : {Device::host_cuda, Device::cuda}) {
    if (why_unusable(device).empty()) out.emplace_back(name_of(device));
  }
  return out;
}

class DeviceTest : public testing::Test {
 protected:
  void SetUp() override {
    if (devices().empty()) GTEST_SKIP() << "neither a GPU nor, in this binary, CUDA executed on the CPU";
  }

  /// What the run says on standard error.
  std::string train(const Recipe& recipe) {
    testing::internal::CaptureStderr();
    std::string error;
    try {
      train_stage(recipe);
    } catch (const std::exception& caught) {
      error = caught.what();
    }
    const std::string said = testing::internal::GetCapturedStderr();
    EXPECT_EQ(error, "") << said;
    return said;
  }

  /// A recipe of the shape of palm-tiny, but narrow, on `device`.
  Recipe narrow(const fs::path& output, const std::string& device, std::vector<std::string> sets = {}) {
    for (const char* set : {"model.width=64", "model.heads=2", "model.head_dim=64", "model.ff_width=128",
                            "model.dropout=0", "batch.tokens=128", "batch.documents=8", "data.subword_sampling=0"}) {
      sets.emplace(sets.begin(), set);
    }
    sets.push_back("device=" + device);
    return tiny_recipe(output, sets);
  }

  const tests::TemporaryFolder folder;
};

double relative_difference(const fs::path& a, const fs::path& b, const std::string& kind = "step") {
  const auto left = losses(a, kind), right = losses(b, kind);
  EXPECT_EQ(left.size(), right.size());
  double most = 0;
  for (std::size_t i = 0; i < std::min(left.size(), right.size()); ++i) {
    EXPECT_EQ(left[i].first, right[i].first);
    most = std::max(most, std::abs(left[i].second / right[i].second - 1));
  }
  return most;
}

/// All weights of a checkpoint.
std::vector<float> read_all(const fs::path& checkpoint) {
  const SafetensorsFile file(checkpoint / "model.safetensors");
  std::vector<float> out;
  for (const FileTensor& tensor : file.tensors()) {
    const std::size_t before = out.size();
    out.resize(before + static_cast<std::size_t>(tensor.count()));
    file.copy_to(tensor, out.data() + before, tensor.count());
  }
  return out;
}

TEST_F(DeviceTest, FiftyStepsFollowTheCpu) {
  const std::vector<std::string> steps = {"train.steps=50", "train.validate_every=25", "batch.slots=1",
                                          "batch.micro_batches=2", "optimizer.learning_rate=1.0e-3"};
  train(narrow(folder / "cpu", "cpu", steps));
  for (const std::string& device : devices()) {
    for (const auto& [precision, tolerance] : {std::pair{"f32", 1e-3}, {"bf16", 1e-2}}) {
      const fs::path run = folder / (device + precision);
      auto sets = steps;
      sets.push_back(std::string("precision=") + precision);
      const std::string said = train(narrow(run, device, sets));
      EXPECT_TRUE(device == "cuda" || has(said, std::string("on CUDA executed on the CPU in ") + precision)) << said;
      for (const char* kind : {"step", "validation"}) {
        const double difference = relative_difference(run, folder / "cpu", kind);
        RecordProperty(device + "_" + precision + "_" + kind, fmt::format("{:.2g}", difference));
        EXPECT_LE(difference, tolerance) << device << " " << precision << " " << kind;
      }
    }
  }
}

/// Every micro-batch drops its own elements, in graphs too.
TEST_F(DeviceTest, DropoutDropsWhatTheCpuDrops) {
  const std::vector<std::string> sets = {"model.dropout=0.3", "train.steps=6",         "train.validate_every=6",
                                         "batch.slots=2",     "batch.micro_batches=2", "optimizer.learning_rate=1.0e-3",
                                         "precision=f32"};
  train(narrow(folder / "cpu", "cpu", sets));
  for (const std::string& device : devices()) {
    train(narrow(folder / device, device, sets));
    EXPECT_LE(relative_difference(folder / device, folder / "cpu"), 1e-4);
  }
}

/// palm-tiny as it is, 256 tokens a step: half a minute on CUDA executed on the CPU.
#if defined(UNFURL_HOST_CUDA)
// A batch that is overwritten before it is copied, or a result that is read before it is there, gives other bits.
TEST_F(DeviceTest, NothingIsUsedBeforeItIsWaitedFor) {
  using kernels::host::Streams;
  kernels::host::Settings settings = kernels::host::settings();
  for (const auto& [name, streams] : {std::pair{"at_once", Streams::at_once}, std::pair{"late", Streams::late}}) {
    settings.streams = streams;
    const kernels::host::SettingsScope scope(settings);
    train(narrow(folder / name, "host_cuda",
                 {"model.dropout=0.3", "train.steps=5", "train.validate_every=5", "train.checkpoint_every=5",
                  "batch.slots=2", "batch.micro_batches=2", "optimizer.learning_rate=1.0e-3"}));
    synchronize(Device::host_cuda);
  }
  for (const char* kind : {"step", "validation"}) {
    EXPECT_EQ(losses(folder / "at_once", kind), losses(folder / "late", kind)) << kind;
  }
  const auto weights = [&](const char* run) { return read_file(folder / run / "step-000005/model.safetensors"); };
  EXPECT_TRUE(weights("at_once") == weights("late"));
}
#endif

TEST_F(DeviceTest, FiftyStepsOfPalmTinyFollowTheCpu) {
  if (tests::kReduced) GTEST_SKIP() << "too slow under a sanitizer, where FiftyStepsFollowTheCpu runs all its kernels";
  const std::vector<std::string> sets = {"model.width=128",           "model.layers=4",
                                         "model.ff_width=512",        "model.context=128",
                                         "data.context=128",          "tokenizer.path=\"\"",
                                         "tokenizer.vocab_size=4096", "batch.slots=1",
                                         "batch.micro_batches=1",     "batch.tokens=256",
                                         "batch.documents=16",        "train.steps=50",
                                         "train.validate_every=50",   "optimizer.learning_rate=1.0e-3"};
  train(narrow(folder / "cpu", "cpu", sets));
  for (const std::string& device : devices()) {
    for (const auto& [precision, tolerance] : {std::pair{"f32", 1e-3}, {"bf16", 1e-2}}) {
      const fs::path run = folder / (device + precision);
      auto all = sets;
      all.push_back(std::string("precision=") + precision);
      train(narrow(run, device, all));
      const double difference = relative_difference(run, folder / "cpu");
      RecordProperty(device + "_" + precision, fmt::format("{:.2g}", difference));
      EXPECT_LE(difference, tolerance) << device << " " << precision;
    }
  }
}

/// With several slots, whose gradients take turns in several buffers, and all that a step can hold.
TEST_F(DeviceTest, ARunThatWasStoppedGoesOnWithTheSameBits) {
  for (const std::string& device : devices()) {
    for (const char* kind : {"model.block=parallel", "model.block=serial"}) {
      const std::vector<std::string> sets = {kind,
                                             "train.steps=6",
                                             "train.checkpoint_every=1",
                                             "train.keep=100",
                                             "batch.slots=4",
                                             "batch.micro_batches=1",
                                             "train.validate_every=6"};
      const fs::path a = folder / (device + "a"), b = folder / (device + "b");
      fs::remove_all(a);
      fs::remove_all(b);
      train(narrow(a, device, sets));
      fs::copy(a, b, fs::copy_options::recursive);
      for (Index step = 4; step <= 6; ++step) fs::remove_all(checkpoint_path(b, step));
      EXPECT_TRUE(has(train(narrow(b, device, sets)), "goes on from"));
      for (const char* file : {"model.safetensors", "optimizer-0-of-1.safetensors"}) {
        EXPECT_TRUE(read_file(a / "step-000006" / file) == read_file(b / "step-000006" / file)) << file;
      }
      EXPECT_EQ(losses(a), losses(b));
      EXPECT_EQ(losses(a, "validation"), losses(b, "validation"));
    }
  }
}

TEST_F(DeviceTest, RunsGoOnOnAnotherDevice) {
  const std::vector<std::string> sets = {
      "train.steps=6", "train.checkpoint_every=1", "train.keep=100",    "precision=f32",
      "batch.slots=1", "train.validate_every=100", "prefix.mode=always"};
  train(narrow(folder / "cpu", "cpu", sets));
  for (const std::string& device : devices()) {
    for (const auto& [from, to] : {std::pair<std::string, std::string>{"cpu", device}, {device, "cpu"}}) {
      const fs::path run = folder / (from + "-" + to);
      if (from == "cpu") {
        fs::copy(folder / "cpu", run, fs::copy_options::recursive);
      } else {
        train(narrow(run, from, sets));
      }
      for (Index step = 4; step <= 6; ++step) fs::remove_all(checkpoint_path(run, step));
      const std::string said = train(narrow(run, to, sets));
      EXPECT_TRUE(has(said, "goes on from") && has(said, "its numbers are not those it would have had there")) << said;
      EXPECT_LE(relative_difference(run, folder / "cpu"), 1e-4);
      const auto here = read_all(run / "step-000006"), there = read_all(folder / "cpu" / "step-000006");
      ASSERT_EQ(here.size(), there.size());
      for (std::size_t i = 0; i < here.size(); ++i) ASSERT_NEAR(here[i], there[i], 2e-3) << i;
    }
  }
}

TEST_F(DeviceTest, ADeviceReadsAndWritesTheFilesOfTheCpu) {
  Recipe recipe = narrow(folder / "unused", "cpu");
  recipe.model.vocab_size = 420;
  for (const std::string& device : devices()) {
    const Device there = device == "cuda" ? Device::cuda : Device::host_cuda;
    for (const DType dtype : {DType::f32, DType::bf16}) {
      TrainStep cpu(recipe, Device::cpu), step(recipe, there, dtype);
      cpu.decoder().initialise(5);
      step.decoder().initialise(5);
      write_tensors(folder / "cpu", named_tensors(cpu.decoder().parameters()));
      write_tensors(folder / "there", named_tensors(step.decoder().parameters()));
      EXPECT_TRUE(read_file(folder / "cpu") == read_file(folder / "there"));
      cpu.decoder().initialise(6);
      write_tensors(folder / "cpu", named_tensors(cpu.decoder().parameters()));
      read_tensors(folder / "cpu", named_tensors(step.decoder().parameters()));
      write_tensors(folder / "there", named_tensors(step.decoder().parameters()));
      EXPECT_TRUE(read_file(folder / "cpu") == read_file(folder / "there"));
    }
  }
}

TEST_F(DeviceTest, AStepThatIsNotFiniteIsSkippedAndEndsTheRunAtItsLimit) {
  for (const std::string& device : devices()) {
    const fs::path run = folder / device;
    testing::internal::CaptureStderr();
    std::string failure;
    try {
      train_stage(narrow(run, device,
                         {"model.init_std=1.0e+39", "train.validate_every=100", "batch.slots=1", "train.steps=20",
                          "train.non_finite_limit=3"}));
    } catch (const Error& error) {
      failure = error.what();
    }
    const std::string said = testing::internal::GetCapturedStderr();
    EXPECT_TRUE(has(said, "step 1: not finite: ")) << said;
    EXPECT_TRUE(has(said, "; the update is skipped")) << said;
    EXPECT_TRUE(has(failure, "step 3: not finite: ") && has(failure, "3 times in a row")) << failure;
    EXPECT_FALSE(has(said, "step 4")) << said;
    EXPECT_TRUE(checkpoint_steps(run).empty());
  }
}

TEST_F(DeviceTest, MemoryAndPlaceAreReported) {
  for (const std::string& device : devices()) {
    Recipe recipe = narrow(folder / device, device, {"batch.slots=2", "train.steps=3", "train.validate_every=0"});
    train(recipe);
    const Json run = Json::parse(read_file(folder / device / "run.json"));
    EXPECT_TRUE(has(run.at("placement").as_string(), " in bf16"));
    const RunPlan plan = plan_run(recipe, false);
    const double ratio = run.at("peak_allocated_bytes").as_number() / static_cast<double>(plan.allocator_peak);
    EXPECT_NEAR(ratio, 1, 0.1);
    EXPECT_EQ(plan.placement.dtype, DType::bf16);
  }
}

TEST(Placement, IsWhatTheRecipeSaysOrWhatIsThere) {
  Recipe recipe;
  EXPECT_EQ(placement_of(recipe).device, best_device());
  EXPECT_EQ(placement_of(recipe).dtype, best_device() == Device::cpu ? DType::f32 : DType::bf16);
  recipe.device = DeviceChoice::cpu;
  EXPECT_EQ(placement_of(recipe).device, Device::cpu);
  EXPECT_EQ(described(placement_of(recipe)), "the CPU in f32");
  recipe.precision = Precision::bf16;
  EXPECT_EQ(message_of<UserError>([&] { placement_of(recipe); }),
            "precision is bf16, which the CPU does not compute in; set precision: f32, or leave it out");
  EXPECT_EQ(message_of<UserError>([] { placement_of(DeviceChoice::cpu, Precision::bf16); }),
            "precision is bf16, which the CPU does not compute in; use --precision f32, or leave it out");
  recipe.device = DeviceChoice::cuda;
  EXPECT_EQ(placement_of(recipe, true).device, Device::cuda);
  if (const std::string why = why_unusable(Device::cuda); !why.empty()) {
    EXPECT_EQ(message_of<UserError>([&] { placement_of(recipe); }), "device is cuda, but " + why + "; set device: cpu");
    EXPECT_EQ(message_of<UserError>([] { placement_of(DeviceChoice::cuda, Precision::automatic); }),
              "device is cuda, but " + why + "; use --device cpu");
  }
}

TEST(Placement, RefusesCudnnsAttentionWhereItIsNotToBeHad) {
  Recipe recipe;
  recipe.model.head_dim = 64;
  recipe.data.objective = Objective::causal;
  recipe.device = DeviceChoice::cpu;
  EXPECT_EQ(training_placement_of(recipe).attention, AttentionKind::own);
  recipe.attention = AttentionKind::cudnn;
  const auto refusal = [&] { return message_of<UserError>([&] { training_placement_of(recipe, true); }); };
  EXPECT_EQ(refusal(),
            "attention is cudnn, which computes on a GPU alone, and this is the CPU in f32; set attention: own");
  recipe.device = DeviceChoice::host_cuda;
  EXPECT_EQ(refusal(),
            "attention is cudnn, which computes on a GPU alone, and this is CUDA executed on the CPU in bf16; set "
            "attention: own");
  recipe.device = DeviceChoice::cuda;
  EXPECT_EQ(training_placement_of(recipe, true).attention, AttentionKind::cudnn);
  EXPECT_TRUE(has(described(training_placement_of(recipe, true)), " in bf16, attention by cuDNN"));
  recipe.precision = Precision::f32;
  EXPECT_EQ(refusal(), "attention is cudnn, which computes in bf16 alone, and precision is f32; set attention: own");
  recipe.precision = Precision::bf16;
  recipe.data.objective = Objective::pairs;
  EXPECT_EQ(refusal(),
            "attention is cudnn, which is causal alone, and in objective pairs the start of a text attends both ways; "
            "set attention: own");
  recipe.data.objective = Objective::causal;
  recipe.model.tuning.method = Method::prompt_tuning;
  EXPECT_EQ(refusal(),
            "attention is cudnn, which is causal alone, and a soft prompt attends both ways; set attention: own");
  recipe.model.tuning.method = Method::full;
  recipe.model.head_dim = 96;
  EXPECT_EQ(refusal(),
            "attention is cudnn, which has heads of 64 or 128 elements, and model.head_dim is 96; set attention: own");
}

TEST(MicroBatch, ThatIsNotCausalIsToldBeforeCudnnGetsIt) {
  Batch batch;
  batch.cu_seqlens = {0, 3, 8, 8};
  batch.prefix_lengths = {0, 1, 0};
  check_causal(batch, 5);
  EXPECT_EQ(message_of<Error>([&] { check_causal(batch, 4); }),
            "micro-batch: document 1 has 5 rows, and attention is causal over at most 4");
  batch.prefix_lengths[0] = 2;
  EXPECT_EQ(message_of<Error>([&] { check_causal(batch, 5); }),
            "micro-batch: document 0 has a prefix of 2 that attends both ways, and attention is causal");
}

}  // namespace
}  // namespace unfurl::train
