#include "train/generate/expand.h"

#include <gtest/gtest.h>

#include <sstream>

#include "core/error.h"
#include "core/files.h"
#include "tests/support/temporary_folder.h"
#include "tests/train/generate/fake_model.h"
#include "train/generate/expand_service.h"

namespace unfurl::train {
namespace {

/// Owns the words that the model's rule looks into.
struct RuledModel : tests::FakeModel {
  explicit RuledModel(std::unique_ptr<tests::FakeCodec> words)
      : FakeModel(words->size(), 64, tests::fake_rule(*words)), codec(std::move(words)) {}
  std::unique_ptr<tests::FakeCodec> codec;
};

LoadedModel load_fake(const std::filesystem::path& path) {
  if (path != "runs/fake") user_error("there is no run at {}", path.string());
  return {std::make_unique<RuledModel>(std::make_unique<tests::FakeCodec>(tests::fake_words())),
          std::make_unique<tests::FakeCodec>(tests::fake_words()), "fake", true};
}

std::vector<std::string> lines(const std::string& text) {
  std::vector<std::string> out;
  std::istringstream in(text);
  for (std::string line; std::getline(in, line);) out.push_back(line);
  return out;
}

class ExpandTest : public testing::Test {
 protected:
  ExpandTest() {
    options.run = "runs/fake";
    options.seed = 5;
  }
  std::string run(const std::string& input = "") {
    std::istringstream in(input);
    std::ostringstream out;
    code = run_expand(options, load_fake, in, out, false);
    return out.str();
  }
  std::string mistake() {
    try {
      run();
    } catch (const UserError& error) {
      return error.what();
    }
    return "no error";
  }

  ExpandOptions options;
  int code = -1;
};

TEST_F(ExpandTest, WritesALineForEachExpansion) {
  options.query = "a cat";
  const std::vector<std::string> first = lines(run());
  EXPECT_EQ(code, 0);
  ASSERT_EQ(first.size(), 4u);
  for (const std::string& line : first) EXPECT_TRUE(line.starts_with("a cat")) << line;
  EXPECT_EQ(lines(run()), first);

  options.json = true;
  const Json json = Json::parse(run());
  EXPECT_EQ(json.at("query").as_string(), "a cat");
  EXPECT_EQ(json.at("seed").as_integer(), 5);
  EXPECT_EQ(json.find("warning"), nullptr);
  ASSERT_EQ(json.at("expansions").as_array().size(), 4u);
  const Json& item = json.at("expansions").as_array()[2];
  EXPECT_EQ(item.at("text").as_string(), first[2]);
  EXPECT_TRUE(item.at("ended").as_bool());
  EXPECT_EQ(item.at("stopped_by").as_string(), "end");
  EXPECT_EQ(item.at("sample").as_integer(), 2);
}

TEST_F(ExpandTest, WarnsOncePrefixesWereNotTrained) {
  options.query = "a cat";
  const auto messages = [&] {
    testing::internal::CaptureStderr();
    run();
    return testing::internal::GetCapturedStderr();
  };
  EXPECT_EQ(messages(), "");
  options.prefix = "FLV";
  EXPECT_EQ(messages(), "warning: fake was trained without prefixes: FLV says little to it\n");
}

TEST_F(ExpandTest, TakesAFreshSeedWhereNoneIsGiven) {
  options.query = "a cat";
  options.seed.reset();
  options.json = true;
  const Json first = Json::parse(run());
  options.seed = static_cast<std::uint64_t>(first.at("seed").as_integer());
  EXPECT_EQ(Json::parse(run()), first);
  EXPECT_NE(fresh_seed(), fresh_seed());
}

TEST_F(ExpandTest, ReturnsTheQueryUnexpandedOnRequest) {
  options.run = "nowhere";  // nothing is loaded
  options.query = "a  cat <lora:x:1>";
  options.expand = false;
  EXPECT_EQ(run(), "a  cat <lora:x:1>\n");
}

TEST_F(ExpandTest, NamesMistakes) {
  EXPECT_EQ((options.query = "", mistake()), "the query is empty");
  EXPECT_EQ((options.query = "\xC3", mistake()), "the query is not valid UTF-8");
  options.query = "a cat";
  EXPECT_EQ((options.n = 0, mistake()), "n must be 1 to 256, not 0");
  options.n = 4;
  EXPECT_NE((options.prefix = "XYZ", mistake()).find("no prefix \"XYZ\""), std::string::npos);
  options.prefix.clear();
  EXPECT_EQ((options.run = "nowhere", mistake()), "there is no run at nowhere");
  options.run = "runs/fake";
  EXPECT_NE((options.jsonl = true, mistake()).find("one of them"), std::string::npos);
  options.jsonl = false;
  options.query.reset();
  const tests::TemporaryFolder folder;
  EXPECT_NE((options.file = folder / "missing", mistake()).find("missing"), std::string::npos);
  write_file(folder / "empty", "\n \n");
  EXPECT_NE((options.file = folder / "empty", mistake()).find("is empty"), std::string::npos);
}

TEST_F(ExpandTest, ExpandsAListInOrder) {
  const tests::TemporaryFolder folder;
  write_file(folder / "queries.txt", "a cat\r\n\nbad \xFF line\nred stone");
  options.file = folder / "queries.txt";
  options.n = 1;
  const std::vector<std::string> found = lines(run());
  ASSERT_EQ(found.size(), 4u);
  EXPECT_TRUE(found[0].starts_with("a cat,") || found[0].starts_with("a cat ")) << found[0];
  EXPECT_EQ(found[1], "");
  EXPECT_EQ(found[2], "bad \xFF line");
  EXPECT_TRUE(found[3].starts_with("red stone")) << found[3];
  options.json = true;
  const std::vector<std::string> json = lines(run());
  ASSERT_EQ(json.size(), 4u);
  EXPECT_EQ(Json::parse(json[0]).at("expansions").as_array()[0].at("text").as_string(), found[0]);
  EXPECT_NE(Json::parse(json[2]).at("warning").as_string().find("queries.txt:3"), std::string::npos);
}

TEST_F(ExpandTest, ServesRequestsAndOutlivesGarbage) {
  options.jsonl = true;
  const std::vector<std::string> answers = lines(
      run("{\"id\": 7, \"query\": \"a cat\", \"n\": 2, \"seed\": 11}\n"
          "garbage\n"
          "\n"
          "[1, 2]\n"
          "{\"id\": \"x\", \"n\": 2}\n"
          "{\"query\": \"a cat\", \"n\": 0}\n"
          "{\"query\": \"a cat\", \"n\": \"two\"}\n"
          "{\"query\": \"a cat\", \"prefix\": \"NOPE\"}\n"
          "{\"query\": \"a cat\", \"tempratur\": 1}\n"
          "{\"query\": \"\xFF\"}\n"
          "{\"query\": \"a cat\", \"seed\": -1}\n"
          "{\"query\": \"a cat\", \"n\": 2, \"seed\": 11, \"ban\": [\"sun\"], \"keep\": \"free\", \"prefix\": null}\n"
          "{\"query\": \"a cat\", \"expand\": false}\n"
          "{\"query\": \"<lora:x:1>\"}\n"
          "{\"id\": 7, \"query\": \"a cat\", \"n\": 2, \"seed\": 11}"));
  EXPECT_EQ(code, 0);
  ASSERT_EQ(answers.size(), 14u);
  std::vector<Json> json;
  for (const std::string& answer : answers) json.push_back(Json::parse(answer));
  EXPECT_EQ(json[0].at("id").as_integer(), 7);
  EXPECT_EQ(json[0].at("seed").as_integer(), 11);
  EXPECT_EQ(json[0].at("expansions").as_array().size(), 2u);
  EXPECT_EQ(answers.back(), answers[0]);
  for (std::size_t i = 1; i <= 9; ++i) {
    EXPECT_NE(json[i].find("error"), nullptr) << answers[i];
    const Json* const query = json[i].find("query");  // where the request has one, it is its own answer
    ASSERT_EQ(json[i].find("expansions") != nullptr, query != nullptr) << answers[i];
    if (query != nullptr) {
      EXPECT_EQ(json[i].at("expansions").as_array().at(0).at("text").as_string(), query->as_string());
    }
  }
  EXPECT_EQ(json[3].at("id").as_string(), "x");
  EXPECT_NE(json[5].at("error").as_string().find("n: "), std::string::npos) << answers[5];
  EXPECT_NE(json[7].at("error").as_string().find("did you mean \"temperature\"?"), std::string::npos) << answers[7];
  EXPECT_EQ(json[10].at("expansions").as_array().size(), 2u);
  EXPECT_EQ(json[11].at("expansions").as_array()[0].at("text").as_string(), "a cat");
  EXPECT_NE(json[12].find("warning"), nullptr);
}

TEST_F(ExpandTest, ServesWithoutAModelOnRequest) {
  options.run = "nowhere";
  options.expand = false;
  options.jsonl = true;
  EXPECT_EQ(Json::parse(run("{\"query\": \"a cat\"}\n")).at("expansions").as_array()[0].at("text").as_string(),
            "a cat");
}

TEST_F(ExpandTest, AnswersAMistakenRequestWithItsQuery) {
  options.jsonl = true;
  const std::vector<std::string> all = lines(run("{\"id\": 7, \"n\": 0, \"query\": \"a cat\"}\nnonsense\n"));
  ASSERT_EQ(all.size(), 2u);
  const Json first = Json::parse(all[0]), second = Json::parse(all[1]);
  EXPECT_EQ(first.at("error").as_string(), "n must be 1 to 256, not 0");
  EXPECT_EQ(first.at("id").as_integer(), 7);
  EXPECT_EQ(first.at("query").as_string(), "a cat");
  EXPECT_EQ(first.at("expansions").as_array().at(0).at("text").as_string(), "a cat");
  EXPECT_NE(second.find("error"), nullptr);
  EXPECT_EQ(second.find("expansions"), nullptr);
}

TEST_F(ExpandTest, AByteOrderMarkIsNoPartOfAQueryOrABan) {
  const tests::TemporaryFolder folder;
  write_file(folder / "queries.txt",
             "\xEF\xBB\xBF"
             "a cat\n");
  options.file = folder / "queries.txt";
  EXPECT_TRUE(run().starts_with("a cat"));
  EXPECT_EQ(Bans::read((folder / "queries.txt").string()), (std::vector<std::string>{"a cat"}));
}

TEST_F(ExpandTest, ConversesAndGoesFurther) {
  const std::vector<std::string> all =
      lines(run("a cat\n2\n9\n:n 2\nred stone\n\n:nope\n:n 0\n:prefix XYZ\n:help\n:q\nnever"));
  EXPECT_EQ(code, 0);
  ASSERT_GT(all.size(), 20u);
  for (std::size_t i = 0; i < 4; ++i) {
    EXPECT_TRUE(all[i].starts_with(std::to_string(i + 1) + ". a cat")) << all[i];
  }
  EXPECT_EQ(all[4], "(seed 5)");
  for (std::size_t i = 5; i < 9; ++i) {
    EXPECT_EQ(all[i].substr(0, all[1].size()), std::to_string(i - 4) + all[1].substr(1)) << all[i];
    EXPECT_GT(all[i].size(), all[1].size());
  }
  EXPECT_NE(all[10].find("there is no expansion 9"), std::string::npos) << all[10];
  EXPECT_TRUE(all[11].starts_with("1. red stone"));
  EXPECT_EQ(all[13], "(seed 5)");
  EXPECT_EQ(all[16], "(seed 6)");
  EXPECT_NE(all[14], all[11]);
  EXPECT_NE(all[17].find(":nope"), std::string::npos);
  EXPECT_NE(all[18].find("n must be"), std::string::npos);
  EXPECT_NE(all[19].find("no prefix"), std::string::npos);
  EXPECT_EQ(all.back(), ":help, :q");
}

}  // namespace
}  // namespace unfurl::train
