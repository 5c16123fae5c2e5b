#include "train/report/metrics.h"

#include <gtest/gtest.h>
#include <sys/resource.h>

#include <csignal>
#include <limits>

#include "core/error.h"
#include "core/files.h"
#include "tests/support/temporary_folder.h"

namespace unfurl::tests {
namespace {

using namespace unfurl::train;

StepMetrics step(std::int64_t number) { return {.step = number, .loss = 1.0 / static_cast<double>(number)}; }

TEST(Metrics, LinesAreReadBack) {
  const TemporaryFolder folder;
  const auto path = folder / "metrics.jsonl";
  MetricsWriter writer(path);
  writer.write(StepMetrics{.step = 3,
                           .loss = 2.5,
                           .learning_rate = 1e-3,
                           .gradient_norm = std::numeric_limits<double>::infinity(),
                           .tokens = 1'000'000'000'000,
                           .tokens_per_second = 4812.5,
                           .seconds = 9});
  writer.write(
      ValidationMetrics{.step = 3, .loss = 2.75, .bits_per_byte = 1.5, .targets = 99, .seconds = 9, .best = true});
  writer.write(SampleMetrics{.step = 3, .query = "a \"fox\"\n", .prefix = "FLV", .expansions = {"x", "\xff"}});
  const std::vector<Json> lines = read_metrics(path);  // while the writer is open: lines are there at once
  ASSERT_EQ(lines.size(), 3u);
  EXPECT_EQ(lines[0].at("kind").as_string(), "step");
  EXPECT_EQ(lines[0].at("step").as_integer(), 3);
  EXPECT_EQ(lines[0].at("tokens").as_integer(), 1'000'000'000'000);
  EXPECT_EQ(lines[0].at("tokens_per_second").as_number(), 4812.5);
  EXPECT_TRUE(lines[0].at("gradient_norm").is_null());
  EXPECT_EQ(lines[1].at("bits_per_byte").as_number(), 1.5);
  EXPECT_TRUE(lines[1].at("best").as_bool());
  EXPECT_EQ(lines[2].at("query").as_string(), "a \"fox\"\n");
  EXPECT_EQ(lines[2].at("expansions").as_array().size(), 2u);
}

TEST(Metrics, ResumingDropsWhatTheCheckpointHasNotSeen) {
  const TemporaryFolder folder;
  const auto path = folder / "metrics.jsonl";
  {
    MetricsWriter writer(path);
    for (int i = 1; i <= 9; ++i) writer.write(step(i));
  }
  write_file(path, read_file(path) + "{\"kind\": \"step\", \"step\": 1");  // killed inside a line
  {
    MetricsWriter writer(path, 6);
    writer.write(step(7));
  }
  const auto lines = read_metrics(path);
  ASSERT_EQ(lines.size(), 7u);
  for (std::size_t i = 0; i < 7; ++i) EXPECT_EQ(lines[i].at("step").as_integer(), static_cast<std::int64_t>(i) + 1);

  { const MetricsWriter fresh(path, 0); }
  EXPECT_TRUE(read_metrics(path).empty());
}

TEST(Metrics, ANewRunBeginsANewFileAndAMissingOneIsFine) {
  const TemporaryFolder folder;
  const auto path = folder / "metrics.jsonl";
  MetricsWriter(path, 5).write(step(6));
  EXPECT_EQ(read_metrics(path).size(), 1u);
  MetricsWriter(path).write(step(1));
  EXPECT_EQ(read_metrics(path).size(), 1u);
}

TEST(Metrics, BadFiles) {
  const TemporaryFolder folder;
  write_file(folder / "m.jsonl", "{\"step\": 1}\nnonsense\n[1]\n\n{\"step\": 2}\n");
  EXPECT_EQ(read_metrics(folder / "m.jsonl").size(), 2u);
  EXPECT_THROW(read_metrics(folder / "none.jsonl"), UserError);
  EXPECT_THROW(MetricsWriter(folder / "no/such/folder.jsonl"), Error);
}

TEST(Metrics, AFullDiskCostsNoLineNorLeavesHalfOfOne) {
  const TemporaryFolder folder;
  const auto path = folder / "metrics.jsonl";
  MetricsWriter writer(path);
  writer.write(step(1));
  rlimit before{};
  ASSERT_EQ(::getrlimit(RLIMIT_FSIZE, &before), 0);
  const auto size = std::filesystem::file_size(path);
  const rlimit tight{.rlim_cur = size + 10, .rlim_max = before.rlim_max};
  const auto old_handler = std::signal(SIGXFSZ, SIG_IGN);
  ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &tight), 0);
  writer.write(step(2));
  writer.write(step(3));
  ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &before), 0);
  std::signal(SIGXFSZ, old_handler);
  EXPECT_EQ(std::filesystem::file_size(path), size);
  writer.sync();
  ASSERT_EQ(read_metrics(path).size(), 3u);
  writer.write(step(4));
  const auto lines = read_metrics(path);
  ASSERT_EQ(lines.size(), 4u);
  for (int i = 0; i < 4; ++i) EXPECT_EQ(lines[static_cast<std::size_t>(i)].at("step").as_integer(), i + 1);
}

}  // namespace
}  // namespace unfurl::tests
