#include <gtest/gtest.h>

#include <cmath>
#include <cstdlib>
#include <limits>

#include "core/files.h"
#include "core/json.h"
#include "core/safetensors.h"
#include "tests/support/expect_error.h"
#include "tests/support/npy.h"
#include "tests/support/temporary_folder.h"
#include "train/corpus/aesthetic_head.h"
#include "train/corpus/commands.h"
#include "train/corpus/embeddings.h"

namespace unfurl::tests {
namespace {

using namespace unfurl::train;
namespace fs = std::filesystem;

struct Tensor {
  std::string name;
  std::vector<Index> shape;
  std::vector<float> values;
};

void write_tensors(const fs::path& path, const std::vector<Tensor>& tensors) {
  std::vector<SafetensorsWriter::Header> headers;
  for (const Tensor& tensor : tensors) headers.push_back({tensor.name, FileDType::F32, tensor.shape});
  SafetensorsWriter writer(path, headers);
  for (const Tensor& tensor : tensors) writer.write(tensor.values.data(), tensor.values.size() * sizeof(float));
  writer.commit();
}

std::vector<Json> lines_of(const fs::path& path) {
  std::vector<Json> lines;
  const std::string text = read_file(path);
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t end = text.find('\n', at);
    lines.push_back(Json::parse(text.substr(at, end - at)));
    at = end + 1;
  }
  return lines;
}

std::string ids(const fs::path& path) {
  std::string out;
  for (const Json& line : lines_of(path)) out += line.at("id").as_string();
  return out;
}

std::string run(const AestheticOptions& options) {
  testing::internal::CaptureStdout();
  try {
    run_corpus_aesthetic(options);
  } catch (...) {
    testing::internal::GetCapturedStdout();
    throw;
  }
  return testing::internal::GetCapturedStdout();
}

/// Six images on a circle; the head's score is the cosine with the x axis plus 5.
class Aesthetic : public testing::Test {
 protected:
  void SetUp() override {
    write_tensors(folder / "head.safetensors", {{"weight", {1, 2}, {1, 0}}, {"bias", {1}, {5}}});
    std::vector<float> rows;
    for (const double angle : {0.0, 1.0, 2.0, 3.0, 0.5, 1.5}) {
      rows.push_back(static_cast<float>(7 * std::cos(angle)));  // of any length
      rows.push_back(static_cast<float>(7 * std::sin(angle)));
    }
    write_rows(rows);
    write_file(
        folder / "images.jsonl",
        "{\"id\":\"a\",\"caption\":\"a fox\",\"x\":[1]}\n{\"id\":\"b\"}\n{\"id\":\"c\",\"source\":\"generated\"}\n"
        "{\"id\":\"d\",\"source\":\"generated\"}\n{\"id\":\"e\",\"source\":\"natural\"}\n{\"id\":\"f\"}\n");
    options.images = folder / "images.jsonl";
    options.embeddings = folder / "e.npy";
    options.head = folder / "head.safetensors";
    options.out = folder / "out";
  }
  void write_rows(const std::vector<float>& rows) {
    write_file(folder / "e.npy", npy_bytes(rows, static_cast<std::int64_t>(rows.size() / 2), 2));
  }

  TemporaryFolder folder;
  AestheticOptions options;
};

TEST_F(Aesthetic, KeepsByThreshold) {
  options.threshold = 5;
  const std::string report = run(options);
  EXPECT_EQ(ids(folder / "out/images.jsonl"), "abef");
  EXPECT_EQ(ids(folder / "out/dropped.jsonl"), "cd");
  const std::vector<Json> kept = lines_of(folder / "out/images.jsonl");
  EXPECT_EQ(kept[0].at("caption").as_string(), "a fox");
  EXPECT_EQ(kept[0].at("x").dump(), "[1]");
  EXPECT_EQ(kept[0].at("source").as_string(), "natural");
  EXPECT_NEAR(kept[1].at("aesthetic").as_number(), 5 + std::cos(1.0), 1e-6);
  const EmbeddingFile rows(folder / "out/embeddings.safetensors");
  ASSERT_EQ(rows.rows(), 4);
  float row[2];
  rows.read(2, 1, row);  // as it was given, not of length 1
  EXPECT_FLOAT_EQ(row[0], static_cast<float>(7 * std::cos(0.5)));
  EXPECT_NE(report.find("4 of 6 images -> "), std::string::npos) << report;
  EXPECT_NE(report.find("generated 0 of 2 kept (0 %)"), std::string::npos) << report;
  EXPECT_NE(report.find("natural   4 of 4 kept (100 %)"), std::string::npos) << report;
  EXPECT_NE(report.find("dropped   2: its score is below the threshold"), std::string::npos) << report;
  EXPECT_NE(report.find("<- threshold"), std::string::npos) << report;
}

TEST_F(Aesthetic, WhatIsMadeFromSimulatedEmbeddingsSaysSo) {
  options.threshold = 5;
  run(options);
  EXPECT_FALSE(EmbeddingFile(folder / "out/embeddings.safetensors").simulated());
  EXPECT_EQ(lines_of(folder / "out/images.jsonl")[0].find("simulated"), nullptr);
  const float rows[12] = {1, 0, 1, 0, 1, 0, -1, 0, 1, 0, 1, 0};
  SafetensorsWriter writer(folder / "e.safetensors", {{"embeddings", FileDType::F32, {6, 2}}}, {{"simulated", "true"}});
  writer.write(rows, sizeof rows);
  writer.commit();
  options.embeddings = folder / "e.safetensors";
  run(options);
  EXPECT_TRUE(EmbeddingFile(folder / "out/embeddings.safetensors").simulated());
  for (const char* file : {"out/images.jsonl", "out/dropped.jsonl"}) {
    for (const Json& line : lines_of(folder / file)) EXPECT_EQ(line.at("simulated"), Json(true)) << file;
  }
  // Of simulated images with embeddings that do not say so.
  options.embeddings = folder / "e.npy";
  std::string lines;
  for (const char id : std::string("abcdef")) lines += std::string("{\"id\":\"") + id + "\",\"simulated\":true}\n";
  write_file(folder / "images.jsonl", lines);
  run(options);
  EXPECT_TRUE(EmbeddingFile(folder / "out/embeddings.safetensors").simulated());
}

TEST_F(Aesthetic, KeepsByQuantile) {
  options.quantile = 0.5;
  run(options);
  EXPECT_EQ(ids(folder / "out/images.jsonl"), "abe");
  options.quantile = 0.99;
  run(options);
  EXPECT_EQ(ids(folder / "out/images.jsonl"), "a");
  options.quantile = 0;
  testing::internal::CaptureStderr();
  run(options);
  EXPECT_NE(testing::internal::GetCapturedStderr().find("keeps every image"), std::string::npos);
  EXPECT_EQ(ids(folder / "out/images.jsonl"), "abcdef");
}

TEST_F(Aesthetic, KeepsByVotes) {
  write_file(folder / "votes.jsonl",
             "{\"id\":\"a\",\"likes\":3,\"dislikes\":3}\n{\"id\":\"d\",\"liked\":true}\n{\"id\":\"d\",\"liked\":true}\n"
             "{\"id\":\"e\",\"likes\":1}\n{\"id\":\"none\",\"likes\":9}\n");
  options.likes = folder / "votes.jsonl";
  options.head.clear();
  options.embeddings.clear();
  const std::string report = run(options);
  EXPECT_EQ(ids(folder / "out/images.jsonl"), "de");
  EXPECT_FALSE(fs::exists(folder / "out/embeddings.safetensors"));
  EXPECT_NE(report.find("dropped   3: nobody voted for it"), std::string::npos) << report;
  EXPECT_NE(report.find("dropped   1: too few like it"), std::string::npos) << report;
  options.min_likes = 2;
  run(options);
  EXPECT_EQ(ids(folder / "out/images.jsonl"), "d");
  options.min_likes = 3;
  EXPECT_NE(error_of([&] { run(options); }).find("no image is kept"), std::string::npos);
}

TEST_F(Aesthetic, KeepsEachSourceByItsOwnRule) {
  write_file(folder / "votes.jsonl", "{\"id\":\"d\",\"likes\":2}\n{\"id\":\"b\",\"dislikes\":9}\n");
  options.likes = folder / "votes.jsonl";
  options.threshold = 5.5;
  run(options);
  EXPECT_EQ(ids(folder / "out/images.jsonl"), "abde");
}

TEST_F(Aesthetic, AnMlpIsItsLayersOneAfterTheOther) {
  write_tensors(folder / "mlp.safetensors", {{"layers.0.weight", {3, 2}, {1, 2, 3, 4, 5, 6}},
                                             {"layers.0.bias", {3}, {0.5f, -1, 2}},
                                             {"layers.2.weight", {1, 3}, {1, -1, 2}},
                                             {"layers.2.bias", {1}, {10}}});
  const AestheticHead head(folder / "mlp.safetensors");
  EXPECT_EQ(head.kind(), "mlp of 2 layers");
  const float unit[] = {0.6f, 0.8f};
  const double hidden[] = {0.6 + 1.6 + 0.5, 1.8 + 3.2 - 1, 3 + 4.8 + 2};
  EXPECT_NEAR(head.score(unit), hidden[0] - hidden[1] + 2 * hidden[2] + 10, 1e-6);
}

TEST_F(Aesthetic, EmbeddingsWithoutDirectionAreDropped) {
  write_rows({0, 0, std::numeric_limits<float>::quiet_NaN(), 1, 1, 0, 1, 1, 0, 1, -1, 0});
  options.threshold = 4.9;
  const std::string report = run(options);
  EXPECT_EQ(ids(folder / "out/images.jsonl"), "cde");
  EXPECT_NE(report.find("dropped   1: its embedding is zero"), std::string::npos) << report;
  EXPECT_NE(report.find("dropped   1: its embedding is not finite"), std::string::npos) << report;
}

TEST_F(Aesthetic, SaysWhatIsWrong) {
  const auto error = [&] {
    const std::string text = error_of([&] { run(options); });
    EXPECT_FALSE(fs::exists(folder / "out/images.jsonl"));
    return text;
  };
  const auto has = [&](const std::string& part) {
    const std::string text = error();
    EXPECT_NE(text.find(part), std::string::npos) << text;
  };
  has("needs one of --threshold X and --quantile Q");
  options.threshold = 7;
  has("no image of");
  has("the best has 6.0000");
  options.threshold = 5;
  write_rows({1, 2, 3, 4});
  has("has 6 lines, but " + (folder / "e.npy").string() + " has 2 rows");
  write_file(folder / "e.npy", npy_bytes(std::vector<float>(18), 6, 3));
  has("scores embeddings of 2 numbers, but those of " + (folder / "e.npy").string() + " have 3");
  write_tensors(folder / "head.safetensors", {{"other", {1}, {1}}});
  has("is no aesthetic head");
  write_tensors(folder / "head.safetensors", {{"weight", {2, 2}, {1, 0, 1, 0}}, {"bias", {2}, {5, 5}}});
  has("a head gives one score");
  write_file(folder / "images.jsonl", "{\"id\":\"a\"}\n{\"id\":\"a\"}\n{\"no\":1}\n[]\n");
  has("3 of 4 lines are not images");
  options.bad_line_share = 1;
  has("has 4 lines");
}

TEST(AestheticHeads, GiveTheGoldenValues) {
  const char* data = std::getenv("UNFURL_TEST_DATA");
  if (data == nullptr) GTEST_SKIP() << "UNFURL_TEST_DATA is not set";
  const fs::path folder = fs::path(data) / "aesthetic";
  const EmbeddingFile file(folder / "clip_l14_rating_embeddings.safetensors");
  const std::vector<float> rows = read_unit_rows(file);
  const auto check = [&](const char* name, const std::vector<double>& golden) {
    const AestheticHead head(folder / name);
    ASSERT_EQ(file.rows(), static_cast<Index>(golden.size()));
    for (std::size_t i = 0; i < golden.size(); ++i) {
      EXPECT_NEAR(head.score(std::span(rows).subspan(i * 768, 768)), golden[i], 1e-3) << head.kind() << ", image " << i;
    }
  };
  check("laion_vit_l_14_linear.safetensors",
        {-2.4579, -0.1379, 1.8951, 3.5849, 5.0997, 6.4701, 7.7870, 9.0480, 10.2264, 11.3044});
  check("improved_mlp_l14.safetensors",
        {1.6555, 2.3593, 3.0698, 3.6725, 4.2380, 4.7010, 5.0731, 5.3654, 5.5767, 5.7468});
}

}  // namespace
}  // namespace unfurl::tests
