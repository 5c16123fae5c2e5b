// The files of a stage of several steps, and the terms of a score.
#include <gtest/gtest.h>

#include <cmath>
#include <fstream>

#include "core/error.h"
#include "core/files.h"
#include "tests/support/expect_error.h"
#include "tests/support/temporary_folder.h"
#include "train/refine/line_log.h"
#include "train/refine/refine_report.h"
#include "train/refine/steps.h"
#include "train/refine/terms.h"

namespace unfurl::tests {
namespace {

using namespace unfurl::train;

TEST(LineLog, GrowsAndCutsATornLine) {
  const TemporaryFolder folder;
  const auto path = folder / "log";
  {
    LineLog log(path);
    EXPECT_TRUE(log.lines().empty());
    log.append("one\ntwo\n");
    log.append("three\n");
  }
  std::ofstream(path, std::ios::app) << "torn";
  {
    LineLog log(path);
    EXPECT_EQ(log.lines(), (std::vector<std::string>{"one", "two", "three"}));
    log.append("four\n");
    log.sync();
  }
  EXPECT_EQ(read_file(path), "one\ntwo\nthree\nfour\n");
  EXPECT_FALSE(error_of([&] { LineLog log(folder / "none/log"); }).empty());
}

TEST(Steps, ASecondBeginningFromTheSameGoesOn) {
  const TemporaryFolder folder;
  {
    Steps steps(folder.path());
    EXPECT_FALSE(steps.begin("a", 1, {"a.txt"}));
    write_file(folder / "a.txt", "half");
  }
  {
    Steps steps(folder.path());
    EXPECT_FALSE(steps.begin("a", 1, {"a.txt"}));  // not done yet, but its file stays
    EXPECT_TRUE(std::filesystem::exists(folder / "a.txt"));
    steps.keep("a", "note");
    steps.finish("a");
    EXPECT_TRUE(steps.begin("a", 1, {"a.txt"}));
  }
  {
    Steps steps(folder.path());
    EXPECT_TRUE(steps.begin("a", 1, {"a.txt"}));
    EXPECT_EQ(steps.note("a"), Json("note"));
    EXPECT_TRUE(steps.note("b").is_null());
    EXPECT_FALSE(steps.begin("a", 1, {"a.txt", "missing.txt"}));
  }
  Steps steps(folder.path());
  EXPECT_FALSE(steps.begin("a", 2, {"a.txt"}));  // made from something else
  EXPECT_FALSE(std::filesystem::exists(folder / "a.txt"));
  write_file(folder / "steps.json", "{damaged");
  EXPECT_FALSE(Steps(folder.path()).began_from("a", 2));
}

TEST(ScoreTerms, AreSumsOfWhatTheSideSays) {
  ImageAnswer answer{.id = "x", .image = {1, 0}, .query = {1, 1}, .prompt = {0, 2}, .aesthetic = {}, .image_file = {}};
  const auto value = [&](const char* name) {
    return find_score_term(name, "r").value("a fox", "a fox, oil painting", answer);
  };
  EXPECT_NEAR(value("sim_query_image"), std::sqrt(0.5), 1e-12);
  EXPECT_NEAR(value("sim_prompt_image"), 0, 1e-12);
  EXPECT_NEAR(value("sim_query_prompt"), std::sqrt(0.5), 1e-12);
  EXPECT_EQ(value("length"), 4);
  EXPECT_TRUE(
      error_of([&] { value("aesthetic"); }).starts_with("the score has the term aesthetic, but the image side"));
  answer.aesthetic = 5.5;
  EXPECT_EQ(value("aesthetic"), 5.5);
  EXPECT_TRUE(
      error_of([&] {
        value("sim_query_imgae");
      }).starts_with("r: refine.score: there is no term \"sim_query_imgae\"; did you mean \"sim_query_image\"?"));
  EXPECT_EQ(error_of([] {
              check_score_terms({{"length", 1}, {"length", 2}}, "r");
            }),
            "r: refine.score names the term length twice: give it one weight");
  EXPECT_EQ(error_of([] {
              check_score_terms({{"length", 0}, {"aesthetic", 0}}, "r", "refine.score");
            }),
            "r: refine.score: every weight is 0, so that every score would be: give a term another");
}

TEST(ScoreTerms, EmbeddingsThatAreNoneAreRefused) {
  const ImageAnswer good{
      .id = "x/1", .image = {1, 0}, .query = {1, 1}, .prompt = {0, 2}, .aesthetic = {}, .image_file = {}};
  check_embeddings(good);
  ImageAnswer bad = good;
  bad.image[1] = std::nanf("");
  EXPECT_EQ(error_of([&] { check_embeddings(bad); }),
            "the image side's answer to \"x/1\": the image's embedding is not of finite numbers");
  bad = good;
  bad.prompt = {0, 0};
  EXPECT_EQ(error_of([&] { check_embeddings(bad); }),
            "the image side's answer to \"x/1\": the prompt's embedding is all zeros");
  bad = good;
  bad.query = {1};
  EXPECT_EQ(error_of([&] { check_embeddings(bad); }),
            "the image side's answer to \"x/1\": the query's embedding has 1 numbers, the image's 2");
}

TEST(RefineReport, SaysWhatIsSimulated) {
  const TemporaryFolder folder;
  ExpandedQuery query;
  query.key = query.query = "a fox";
  const std::vector<ScoredPrompt> prompts = {
      {.query = &query, .prompt = "a fox, bokeh", .sample = 0, .terms = {}, .refused = false}};
  RefineSummary summary;
  summary.candidates = prompts;
  summary.queries = summary.prompts = 1;
  summary.selection.kept = {0};
  const auto page = [&] {
    testing::internal::CaptureStdout();
    write_refine_report(summary, RefineRecipe(), "r", folder.path());
    testing::internal::GetCapturedStdout();
    return read_file(folder / "refine.html");
  };
  const auto told = [&] { return Json::parse(read_file(folder / "refine.json")).at("simulated").as_bool(); };
  EXPECT_EQ(page().find("SIMULATED"), std::string::npos);
  EXPECT_FALSE(told());
  summary.simulated_pairs = true;
  EXPECT_NE(page().find("image side: none was asked; SIMULATED data<"), std::string::npos);
  EXPECT_TRUE(told());
  summary.simulated_pairs = false;
  summary.simulated = true;
  summary.image_side = "atelier";
  EXPECT_NE(page().find("image side: atelier (simulated: no image was made)<"), std::string::npos);
  EXPECT_TRUE(told());
}

}  // namespace
}  // namespace unfurl::tests
