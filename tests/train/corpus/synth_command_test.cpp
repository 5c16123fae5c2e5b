#include <gtest/gtest.h>

#include <cmath>
#include <map>
#include <set>

#include "core/error.h"
#include "core/files.h"
#include "tests/support/temporary_folder.h"
#include "train/corpus/commands.h"
#include "train/corpus/held_out.h"
#include "train/corpus/pair.h"

namespace unfurl::tests {
namespace {

using namespace unfurl::train;

std::string run(const SynthOptions& options) {
  testing::internal::CaptureStdout();
  try {
    run_corpus_synth(options);
  } catch (...) {
    testing::internal::GetCapturedStdout();
    throw;
  }
  return testing::internal::GetCapturedStdout();
}

TEST(CorpusSynth, WritesWhatWasAskedFor) {
  const TemporaryFolder folder;
  const std::string summary = run({.pairs = 3000, .seed = 5, .out = folder / "new" / "corpus"});
  const auto pairs = read_pairs(folder / "new" / "corpus" / "pairs.jsonl");
  const auto heldout = read_pairs(folder / "new" / "corpus" / "heldout.jsonl");
  EXPECT_EQ(pairs.size(), 3000u);
  EXPECT_EQ(heldout.size(), 300u);
  EXPECT_NE(summary.find("3000 pairs -> "), std::string::npos) << summary;
  EXPECT_NE(summary.find("300 pairs whose query has one of "), std::string::npos) << summary;

  const HeldOutWords held_out(0.1, 5);
  std::map<std::string, std::size_t> types;
  std::set<std::string> prompts, ids;
  for (const Pair& pair : pairs) {
    ++types[pair.type];
    prompts.insert(pair.prompt);
    ids.insert(pair.id);
    EXPECT_FALSE(held_out.in(pair.query)) << pair.query;
    EXPECT_FALSE(held_out.in(pair.prompt)) << pair.prompt;
    EXPECT_FALSE(pair.id.empty() || pair.content.empty() || pair.flavors.empty());
  }
  EXPECT_EQ(types.size(), 8u);
  EXPECT_NEAR(static_cast<double>(types["copy"]), 1200, 3);
  EXPECT_GT(prompts.size(), 2990u);
  EXPECT_GT(ids.size(), 300u);
  for (const Pair& pair : heldout) EXPECT_TRUE(held_out.in(pair.query)) << pair.query;
}

TEST(CorpusSynth, IsDeterministic) {
  const TemporaryFolder folder;
  run({.pairs = 500, .seed = 1, .out = folder / "a"});
  run({.pairs = 500, .seed = 1, .out = folder / "b"});
  run({.pairs = 500, .seed = 2, .out = folder / "c"});
  for (const char* name : {"pairs.jsonl", "heldout.jsonl"}) {
    EXPECT_EQ(read_file(folder / "a" / name), read_file(folder / "b" / name));
    EXPECT_NE(read_file(folder / "a" / name), read_file(folder / "c" / name));
  }
}

TEST(CorpusSynth, KeepsTheSharesAsked) {
  const TemporaryFolder folder;
  run({.pairs = 400, .out = folder / "a", .copy_share = 0, .heldout_share = 0});
  for (const Pair& pair : read_pairs(folder / "a" / "pairs.jsonl")) EXPECT_NE(pair.type, "copy");
  EXPECT_EQ(read_file(folder / "a" / "heldout.jsonl"), "");
  run({.pairs = 1, .out = folder / "b", .heldout_pairs = 7});
  EXPECT_EQ(read_pairs(folder / "b" / "pairs.jsonl").size(), 1u);
  EXPECT_EQ(read_pairs(folder / "b" / "heldout.jsonl").size(), 7u);
}

TEST(CorpusSynth, EndsWhereHardlyAWordIsHeldOut) {
  const TemporaryFolder folder;
  for (const double share : {0.0002, 0.0005}) run({.pairs = 10, .out = folder.path(), .heldout_share = share});
}

TEST(CorpusSynth, RefusesBadOptions) {
  const TemporaryFolder folder;
  EXPECT_THROW(run({.pairs = 0, .out = folder.path()}), UserError);
  EXPECT_THROW(run({.pairs = 10, .out = folder.path(), .copy_share = -0.1}), UserError);
  EXPECT_THROW(run({.pairs = 10, .out = folder.path(), .copy_share = std::nan("")}), UserError);
  EXPECT_THROW(run({.pairs = 10, .out = folder.path(), .heldout_share = 0.6}), UserError);
  EXPECT_THROW(run({.pairs = 10, .out = folder.path(), .heldout_pairs = -1}), UserError);
  write_file(folder / "file", "x");
  EXPECT_THROW(run({.pairs = 10, .out = folder / "file" / "below"}), Error);
  EXPECT_FALSE(std::filesystem::exists(folder / "pairs.jsonl"));
}

}  // namespace
}  // namespace unfurl::tests
