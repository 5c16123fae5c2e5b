#include "train/trainer/checkpoint.h"
#include "train/trainer/checkpoint_writer.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <limits>

#include "core/copy.h"
#include "core/files.h"
#include "core/optim/adamw.h"
#include "core/safetensors.h"
#include "tests/support/rank_threads.h"
#include "tests/support/temporary_folder.h"
#include "tests/train/data/fixture.h"
#include "train/model/decoder.h"

namespace unfurl::train {
namespace {

namespace fs = std::filesystem;
using tests::has;
using tests::message_of;

constexpr const char* kFiles[] = {"model.safetensors", "optimizer-0-of-1.safetensors", "tokenizer.model"};

ModelConfig config_of(BlockKind block) {
  ModelConfig config;
  config.vocab_size = 41;
  config.width = 12;
  config.layers = 2;
  config.heads = 2;
  config.head_dim = 6;
  config.ff_width = 10;
  config.context = 16;
  config.block = block;
  return config;
}

/// A model with an optimiser that has something in its state.
struct Trained {
  explicit Trained(std::uint64_t seed, BlockKind block = BlockKind::parallel)
      : decoder(config_of(block), DType::f32, Device::cpu, true), optimizer(decoder.parameters(), {}) {
    decoder.initialise(seed);
    for (const Parameter& parameter : decoder.parameters().all()) {
      const Tensor gradient = parameter.value.gradient();
      std::fill_n(gradient.data<float>(), gradient.numel(), 0.1f * static_cast<float>(seed));
    }
    optimizer.step(1e-2);
  }

  CheckpointContent content(Index step, const fs::path& folder) const {
    CheckpointContent out;
    out.step = step;
    out.model = named_tensors(decoder.parameters());
    out.optimizer = optimizer.state();
    out.tokenizer = folder / "source.model";
    if (!fs::exists(out.tokenizer)) tests::spill(out.tokenizer, "the tokenizer's bytes");
    out.state["seconds"] = 1.5;
    return out;
  }

  Decoder decoder;
  AdamW optimizer;
};

std::vector<std::vector<float>> values_of(const std::vector<NamedTensor>& tensors) {
  std::vector<std::vector<float>> out;
  for (const NamedTensor& named : tensors) out.push_back(named.tensor.values<float>());
  return out;
}

std::vector<std::vector<float>> values_of(const std::vector<StateTensor>& state) {
  std::vector<std::vector<float>> out;
  for (const StateTensor& s : state) out.push_back(s.tensor.values<float>());
  return out;
}

std::vector<std::string> names_in(const fs::path& folder) {
  std::vector<std::string> out;
  for (const auto& entry : fs::directory_iterator(folder)) out.push_back(entry.path().filename().string());
  std::sort(out.begin(), out.end());
  return out;
}

class CheckpointTest : public testing::Test {
 protected:
  fs::path write(Index step, std::uint64_t seed = 3) {
    return write_checkpoint(folder.path(), Trained(seed).content(step, folder.path()), alone);
  }
  Communicator alone;
  const tests::TemporaryFolder folder;
};

TEST_F(CheckpointTest, GivesBackEveryBit) {
  for (const BlockKind block : {BlockKind::parallel, BlockKind::serial}) {
    const Trained written(3, block), read(4, block);
    const CheckpointContent from = written.content(7, folder.path()), to = read.content(7, folder.path());
    ASSERT_NE(values_of(from.model), values_of(to.model));
    const fs::path path = write_checkpoint(folder.path(), from, alone);
    EXPECT_EQ(path, folder / "step-000007");
    EXPECT_EQ(names_in(path), (std::vector<std::string>{"model.safetensors", "optimizer-0-of-1.safetensors",
                                                        "state.json", "tokenizer.model"}));
    const Json state = verify_checkpoint(path);
    EXPECT_EQ(state.at("step").as_integer(), 7);
    EXPECT_EQ(state.at("seconds").as_number(), 1.5);
    read_tensors(path / kFiles[0], to.model);
    read_optimizer(path, to.optimizer);
    EXPECT_EQ(values_of(from.model), values_of(to.model));
    EXPECT_EQ(values_of(from.optimizer), values_of(to.optimizer));
    // The whole joint matrices too, not only their parts.
    for (std::size_t i = 0; i < written.decoder.parameters().all().size(); ++i) {
      EXPECT_EQ(written.decoder.parameters()[i].values<float>(), read.decoder.parameters()[i].values<float>());
    }
    EXPECT_EQ(read_file(path / kFiles[2]), "the tokenizer's bytes");
  }
}

TEST_F(CheckpointTest, JointProjectionsAreNamedByTheirParts) {
  const Trained trained(3);
  const fs::path path = write_checkpoint(folder.path(), trained.content(1, folder.path()), alone);
  const SafetensorsFile file(path / kFiles[0]);
  EXPECT_EQ(file.find("layers.0.input.weight"), nullptr);
  const std::vector<std::pair<const char*, std::vector<Index>>> shapes = {
      {"embedding.weight", {41, 12}},     {"layers.0.norm.weight", {12}},
      {"layers.0.q.weight", {12, 12}},    {"layers.0.k.weight", {6, 12}},
      {"layers.0.v.weight", {6, 12}},     {"layers.0.gate.weight", {10, 12}},
      {"layers.0.up.weight", {10, 12}},   {"layers.1.attention_output.weight", {12, 12}},
      {"layers.1.down.weight", {12, 10}}, {"final_norm.weight", {12}}};
  for (const auto& [name, shape] : shapes) EXPECT_EQ(file.at(name).shape, shape) << name;
  // "down" is the columns of the joint output matrix behind attention's.
  std::vector<float> down(120);
  file.copy_to(file.at("layers.1.down.weight"), down.data(), 120);
  EXPECT_EQ(down, trained.decoder.block(1).output.columns(12, 22).values<float>());
}

TEST_F(CheckpointTest, TensorsOfAnotherModelAreRefused) {
  const fs::path path = write(1) / kFiles[0];
  const auto error_into = [&](const Decoder& decoder) {
    return message_of<UserError>([&] { read_tensors(path, named_tensors(decoder.parameters())); });
  };
  ModelConfig config = config_of(BlockKind::parallel);
  config.ff_width = 11;
  EXPECT_TRUE(has(error_into(Decoder(config, DType::f32, Device::cpu, false)), "\"layers.0.gate.weight\" is [10, 12]"));
  config = config_of(BlockKind::parallel);
  config.layers = 1;
  EXPECT_TRUE(has(error_into(Decoder(config, DType::f32, Device::cpu, false)), "no tensor \"layers.1"));
  config.layers = 3;
  EXPECT_TRUE(has(error_into(Decoder(config, DType::f32, Device::cpu, false)), "layers.2"));
  // As many tensors, but not the same.
  config = config_of(BlockKind::parallel);
  config.activation = ActivationKind::gelu;
  config.qk_norm = true;
  EXPECT_NE(error_into(Decoder(config, DType::f32, Device::cpu, false)), "");
}

TEST_F(CheckpointTest, DamageIsFound) {
  for (const char* name : kFiles) {
    SCOPED_TRACE(name);
    const fs::path path = write(1), file = path / name;
    const std::string whole = read_file(file);
    const auto expect_damaged = [&] {
      const std::string error = message_of<UserError>([&] { verify_checkpoint(path); });
      EXPECT_TRUE(has(error, file.string())) << error;
    };
    tests::spill(file, whole.substr(0, whole.size() / 2));
    expect_damaged();
    tests::spill(file, "");
    expect_damaged();
    tests::spill(file, whole + "x");
    expect_damaged();
    for (const std::size_t at : {std::size_t{0}, whole.size() / 2, whole.size() - 1}) {
      std::string flipped = whole;
      flipped[at] = static_cast<char>(flipped[at] ^ 16);
      tests::spill(file, flipped);
      expect_damaged();
    }
    fs::remove(file);
    expect_damaged();
    if (name == kFiles[1]) {
      EXPECT_NO_THROW(verify_checkpoint(path, Checked::model)) << "the optimiser's";
    } else {
      EXPECT_NE(message_of<UserError>([&] { verify_checkpoint(path, Checked::model); }), "");
    }
  }
}

TEST_F(CheckpointTest, DamagedStateIsFound) {
  const fs::path path = write(1), file = path / "state.json";
  const std::string whole = read_file(file);
  const auto expect_damaged = [&](const std::string& text, const std::string& what) {
    tests::spill(file, text);
    const std::string error = message_of<UserError>([&] { verify_checkpoint(path); });
    EXPECT_TRUE(has(error, file.string()) && has(error, what)) << error;
    EXPECT_EQ(error.find('\n'), std::string::npos) << error;
  };
  expect_damaged(whole.substr(0, whole.size() / 2), "is damaged");
  expect_damaged("", "is damaged");
  expect_damaged("[]", "is damaged");
  expect_damaged("{}", "is damaged");
  expect_damaged("{\"format\": 1}", "is damaged");
  expect_damaged("{\"format\": 1, \"files\": {\"model.safetensors\": 5}}", "is damaged");
  expect_damaged("{\"format\": \"one\"}", "is damaged");
  Json foreign = Json::parse(whole);
  foreign["format"] = 9;
  expect_damaged(sealed(foreign), "format 9 is of a newer version");
  // Any bit, in a line that shows nothing of the text.
  for (std::size_t at = 0; at < whole.size(); ++at) {
    std::string flipped = whole;
    flipped[at] = static_cast<char>(flipped[at] ^ (1 << at % 8));
    tests::spill(file, flipped);
    EXPECT_EQ(message_of<UserError>([&] { verify_checkpoint(path); }),
              file.string() + " is damaged: its checksum is not that of its text");
  }
  tests::spill(file, whole);
  EXPECT_NO_THROW(verify_checkpoint(path));
  fs::remove(file);
  EXPECT_TRUE(has(message_of<UserError>([&] { verify_checkpoint(path); }), file.string()));
}

TEST_F(CheckpointTest, NewestIsTheNewestWholeOne) {
  EXPECT_FALSE(newest_checkpoint(folder.path()));
  EXPECT_FALSE(newest_checkpoint(folder / "nowhere"));
  for (const Index step : {2, 10, 1000000, 9}) write(step);
  fs::create_directories(folder / "step-abc");
  fs::create_directories(folder / "step-99");  // a checkpoint's name has six digits
  EXPECT_EQ(checkpoint_steps(folder.path()), (std::vector<Index>{2, 9, 10, 1000000}));
  EXPECT_EQ(newest_checkpoint(folder.path()), folder / "step-1000000");
  tests::spill(folder / "step-1000000" / kFiles[0], "short");
  tests::spill(folder / "step-000010" / "state.json", "{");
  testing::internal::CaptureStderr();
  EXPECT_EQ(newest_checkpoint(folder.path()), folder / "step-000009");
  const std::string warnings = testing::internal::GetCapturedStderr();
  EXPECT_EQ(std::count(warnings.begin(), warnings.end(), '\n'), 2) << warnings;
  EXPECT_TRUE(has(warnings, "step-1000000") && has(warnings, "step-000010")) << warnings;
}

TEST_F(CheckpointTest, OneOfAnotherStepOrWithoutItsStateIsPassedOver) {
  for (const Index step : {1, 2}) write(step);
  fs::copy(folder / "step-000002", folder / "step-000003", fs::copy_options::recursive);
  fs::create_directories(folder / "step-000004");
  testing::internal::CaptureStderr();
  EXPECT_EQ(newest_checkpoint(folder.path()), folder / "step-000002");
  const std::string warnings = testing::internal::GetCapturedStderr();
  EXPECT_EQ(std::count(warnings.begin(), warnings.end(), '\n'), 2) << warnings;
  EXPECT_TRUE(has(warnings, "step-000003 is of step 2; step 2 is tried\n")) << warnings;
  EXPECT_EQ(newest_checkpoint(folder.path(), [](Index step) { return step < 2; }), folder / "step-000001");
  remove_checkpoints_after(folder.path(), 2);
  EXPECT_EQ(checkpoint_steps(folder.path()), (std::vector<Index>{1, 2}));
  EXPECT_FALSE(fs::exists(folder / "step-000004.old"));
}

TEST_F(CheckpointTest, WhereNoneIsWholeNoneIsPromised) {
  for (const Index step : {2, 4}) tests::spill(write(step) / kFiles[0], "short");
  testing::internal::CaptureStderr();
  EXPECT_FALSE(newest_checkpoint(folder.path()));
  const std::string warnings = testing::internal::GetCapturedStderr();
  EXPECT_TRUE(has(warnings, "; step 2 is tried\n")) << warnings;
  EXPECT_TRUE(warnings.ends_with("; no checkpoint is left to go back to\n")) << warnings;
  testing::internal::CaptureStderr();
  EXPECT_TRUE(has(message_of<UserError>([&] { resolve_checkpoint(folder.path()); }),
                  "no checkpoint in " + folder.path().string() + " is whole; copy one back, or train again"));
  testing::internal::GetCapturedStderr();
}

TEST_F(CheckpointTest, ResolvesRunsAndCheckpoints) {
  EXPECT_TRUE(has(message_of<UserError>([&] { resolve_checkpoint(folder / "none"); }), "there is no run"));
  EXPECT_TRUE(has(message_of<UserError>([&] { resolve_checkpoint(folder.path()); }), "holds no checkpoint"));
  write(2);
  write(4);
  EXPECT_EQ(resolve_checkpoint(folder / "step-000002"), folder / "step-000002");
  EXPECT_EQ(resolve_checkpoint(folder.path()), folder / "step-000004");
  tests::spill(folder / "run.json", "{\"best_step\": 2}");
  EXPECT_EQ(resolve_checkpoint(folder.path()), folder / "step-000002");
  tests::spill(folder / "run.json", "{\"best_step\": 3}");
  EXPECT_EQ(resolve_checkpoint(folder.path()), folder / "step-000004");
  tests::spill(folder / "run.json", "{\"best_st");
  EXPECT_EQ(resolve_checkpoint(folder.path()), folder / "step-000004");
}

TEST_F(CheckpointTest, PruningKeepsTheNewestTheBestAndMilestones) {
  for (const Index step : {1, 2, 3, 4, 5}) write(step);
  prune_checkpoints(folder.path(), {.newest = 2, .best = 1});
  EXPECT_EQ(checkpoint_steps(folder.path()), (std::vector<Index>{1, 4, 5}));
  for (const Index step : {6, 7, 8}) write(step);
  prune_checkpoints(folder.path(), {.newest = 1, .every = 3, .best = 4});
  EXPECT_EQ(checkpoint_steps(folder.path()), (std::vector<Index>{4, 6, 8}));
}

TEST_F(CheckpointTest, WhatAKilledRunLeftGoes) {
  write(5);
  fs::create_directories(folder / "step-000006.tmp");
  tests::spill(folder / "step-000006.tmp" / kFiles[0], "half");
  fs::create_directories(folder / "step-000004.old");
  fs::create_directories(folder / "other.tmp");
  remove_unfinished_checkpoints(folder.path());
  EXPECT_EQ(names_in(folder.path()), (std::vector<std::string>{"other.tmp", "source.model", "step-000005"}));
}

/// A rank's parts of two states, each element its own number.
std::vector<StateTensor> numbered(Index bucket_blocks, int ranks, int rank, bool filled) {
  constexpr Index kBlock = kernels::kNormBlock;
  std::vector<StateTensor> out;
  for (const auto& [name, count] : {std::pair{"m.decayed", 9 * kBlock + 128}, {"m.undecayed", 2 * kBlock}}) {
    const Buckets whole{count, bucket_blocks * kBlock, ranks, rank};
    out.push_back({name, Tensor::zeros({whole.own_count()}, DType::f32), whole});
    float* to = out.back().tensor.data<float>();
    for (const Range& part : whole.own()) {
      for (Index i = part.begin; filled && i < part.end; ++i) *to++ = static_cast<float>(i + 1);
    }
  }
  return out;
}

TEST_F(CheckpointTest, PartsOfAnyRanksAndBucketsBecomeThoseOfOthers) {
  struct Share {
    Index blocks;
    int ranks;
  };
  Index step = 0;
  for (const Share from : {Share{0, 4}, {1, 4}, {3, 2}, {0, 1}}) {
    ++step;
    tests::on_ranks(from.ranks, [&](Communicator& communicator) {
      CheckpointContent content;
      content.step = step;
      content.state = Json::object();
      content.optimizer = numbered(from.blocks, from.ranks, communicator.rank(), true);
      content.tokenizer = folder / "source.model";
      if (communicator.rank() == 0) tests::spill(content.tokenizer, "the tokenizer's bytes");
      write_checkpoint(folder.path(), content, communicator);
    });
    const fs::path path = checkpoint_path(folder.path(), step);
    const Json told = verify_checkpoint(path);
    EXPECT_EQ(told.find("optimizer_buckets") != nullptr, from.ranks > 1);
    if (from.blocks == 0 && from.ranks > 1) {  // as they were before there were buckets
      Json state = Json::parse(read_file(path / "state.json"));
      Json before = Json::object();
      for (const auto& [key, value] : state.as_object()) {
        if (key != "optimizer_buckets" && key != "xxh3") before[key] = value;
      }
      before["format"] = 1;
      write_file(path / "state.json", before.dump(2));
      verify_checkpoint(path);
    }
    for (const Share to : {Share{0, 1}, {2, 2}, {1, 4}, {0, 4}, {4, 8}}) {
      SCOPED_TRACE(testing::Message() << from.ranks << " ranks in " << from.blocks << " blocks to " << to.ranks
                                      << " in " << to.blocks);
      for (int rank = 0; rank < to.ranks; ++rank) {
        const auto state = numbered(to.blocks, to.ranks, rank, false);
        read_optimizer(path, state);
        EXPECT_EQ(values_of(state), values_of(numbered(to.blocks, to.ranks, rank, true)));
      }
    }
  }
  // Buckets that are none, and those of another share.
  const fs::path path = checkpoint_path(folder.path(), 2);
  const std::string text = read_file(path / "state.json");
  for (const auto& [bucket, message] :
       {std::pair{"5", "buckets of 5 elements"}, {"-65536", "is damaged"}, {"131072", "\"m.decayed\" is ["}}) {
    std::string other = text;
    other.replace(other.find("65536"), 5, bucket);
    write_file(path / "state.json", sealed(Json::parse(other)));
    const auto state = numbered(1, 2, 0, false);
    EXPECT_TRUE(has(message_of<UserError>([&] { read_optimizer(path, state); }), message)) << bucket;
  }
}

TEST_F(CheckpointTest, IsOfTheMomentItWasBegun) {
  const Trained trained(3), read(4);
  const CheckpointContent content = trained.content(1, folder.path()), into = read.content(1, folder.path());
  const auto model = values_of(content.model), state = values_of(content.optimizer);
  CheckpointWriter writer(folder.path(), alone);
  for (const Index step : {1, 2}) {  // the second into the memory of the first
    CheckpointContent next = content;
    next.step = step;
    writer.begin(next, CheckpointWriter::Tensors::copied);
    EXPECT_TRUE(writer.busy());
    for (const NamedTensor& named : content.model) fill(named.tensor, static_cast<double>(step));
    for (const StateTensor& s : content.optimizer) fill(s.tensor, static_cast<double>(step));
    const fs::path path = writer.finish();
    EXPECT_FALSE(writer.busy());
    verify_checkpoint(path);
    read_tensors(path / kFiles[0], into.model);
    read_optimizer(path, into.optimizer);
    if (step == 1) {
      EXPECT_EQ(values_of(into.model), model);
      EXPECT_EQ(values_of(into.optimizer), state);
    } else {
      EXPECT_EQ(into.model[0].tensor.values<float>(),
                std::vector<float>(into.model[0].tensor.values<float>().size(), 1));
    }
  }
}

TEST_F(CheckpointTest, AnUnfinishedOneLeavesNothing) {
  const Trained trained(3);
  {
    CheckpointWriter writer(folder.path(), alone);
    writer.begin(trained.content(1, folder.path()), CheckpointWriter::Tensors::copied);
  }
  EXPECT_EQ(names_in(folder.path()), (std::vector<std::string>{"source.model"}));
}

TEST_F(CheckpointTest, AFailedWriteLeavesNothing) {
  CheckpointContent content = Trained(3).content(1, folder.path());
  content.tokenizer = folder / "none.model";
  const std::string error = message_of<Error>([&] { write_checkpoint(folder.path(), content, alone); });
  EXPECT_TRUE(has(error, "checkpoint of step 1: ") && has(error, "none.model")) << error;
  EXPECT_EQ(names_in(folder.path()), (std::vector<std::string>{"source.model"}));
  // Another one of that step stays until the new one is whole.
  write(1);
  EXPECT_NE(message_of<Error>([&] { write_checkpoint(folder.path(), content, alone); }), "");
  EXPECT_NO_THROW(verify_checkpoint(folder / "step-000001"));
}

TEST_F(CheckpointTest, WeightsThatAreNotFiniteAreNotWritten) {
  for (const float bad : {std::numeric_limits<float>::quiet_NaN(), -std::numeric_limits<float>::infinity()}) {
    const Trained trained(3);
    const CheckpointContent content = trained.content(9, folder.path());
    trained.decoder.parameters()[trained.decoder.parameters().all().size() - 1].data<float>()[0] = bad;
    const std::string error = message_of<NotFinite>([&] { write_checkpoint(folder.path(), content, alone); });
    EXPECT_TRUE(error.starts_with("step 9: the weights \"")) << error;
    EXPECT_TRUE(has(error, "are not finite") && !has(error, "start: ")) << error;
    EXPECT_EQ(names_in(folder.path()), (std::vector<std::string>{"source.model"}));
  }
  // A part of a joint matrix is named, and the checkpoints before stay.
  write(4);
  const Trained trained(3);
  trained.decoder.block(1).output.columns(12, 22).matrix<float>().row(5)[3] = std::numeric_limits<float>::quiet_NaN();
  const CheckpointContent content = trained.content(9, folder.path());
  const std::string error = message_of<NotFinite>([&] { write_checkpoint(folder.path(), content, alone); });
  EXPECT_TRUE(has(error, "\"layers.1.down.weight\"")) << error;
  EXPECT_TRUE(has(error, "start: " + (folder / "step-000004").string())) << error;
  EXPECT_EQ(checkpoint_steps(folder.path()), (std::vector<Index>{4}));
}

TEST_F(CheckpointTest, WritesOverWhatAKilledRunLeft) {
  fs::create_directories(folder / "step-000001.tmp");
  tests::spill(folder / "step-000001.tmp/stray", "half");
  write(1);
  EXPECT_EQ(names_in(folder / "step-000001").size(), 4u);
  EXPECT_FALSE(fs::exists(folder / "step-000001.tmp"));
}

}  // namespace
}  // namespace unfurl::train
