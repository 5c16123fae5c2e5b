#include "train/generate/steps.h"

#include <gtest/gtest.h>

#include <sstream>

#include "core/error.h"
#include "tests/train/generate/fake_model.h"
#include "train/generate/expand_many.h"
#include "train/generate/expand_service.h"
#include "train/generate/expand_session.h"

namespace unfurl::train {
namespace {

using tests::FakeCodec;
using tests::FakeModel;

class StepsTest : public testing::Test {
 protected:
  FakeCodec codec{tests::fake_words()};
  FakeModel model{codec.size(), 128, tests::fake_rule(codec)};
  Expander expander{model, codec};
  ExpandSettings settings = [] {
    ExpandSettings made;
    made.seed = 5;
    made.count = 3;
    made.max_tokens = 6;
    made.step_prefix = "MSTP";
    return made;
  }();
};

TEST_F(StepsTest, EachStepExpandsTheOneBefore) {
  settings.steps = 3;
  const Expansions found = expand_in_steps(expander, "a cat", settings);
  ASSERT_EQ(found.items.size(), 3u);
  ExpandSettings one = settings;
  one.steps = 1;
  const Expansions first = expander.expand("a cat", one);
  for (std::size_t i = 0; i < 3; ++i) {
    const Expansion& item = found.items[i];
    ASSERT_EQ(item.earlier.size(), 2u) << item.text;
    EXPECT_EQ(item.earlier[0], first.items[i].text);
    EXPECT_TRUE(item.earlier[1].starts_with(item.earlier[0]));
    EXPECT_TRUE(item.text.starts_with(item.earlier[1]));
    EXPECT_GT(item.text.size(), item.earlier[1].size());
    EXPECT_EQ(item.sample, static_cast<Index>(i));
  }
  // The last step is one of its own, with the prefix of further steps.
  one.count = 1;
  one.prefix = "MSTP";
  one.seed = step_seed(settings.seed, 2, 1);
  EXPECT_EQ(expander.expand(found.items[1].earlier[1], one).items[0].text, found.items[1].text);
  EXPECT_EQ(model.shared().front(), FakeCodec::kMstp);
}

TEST_F(StepsTest, ASampleDoesNotDependOnHowManyThereAre) {
  settings.steps = 2;
  const Expansions three = expand_in_steps(expander, "a cat", settings);
  settings.count = 1;
  EXPECT_EQ(expand_in_steps(expander, "a cat", settings).items[0].text, three.items[0].text);
}

TEST_F(StepsTest, WhatCannotBeExpandedStays) {
  // The fifth word is the last: nothing may follow but the end.
  model = FakeModel(codec.size(), 128, [&](const std::vector<std::int32_t>& tokens) -> FakeModel::Weights {
    const bool more = tokens.back() != codec.id(" fog");
    return more ? FakeModel::Weights{{codec.id(" fog"), 1}} : FakeModel::Weights{{FakeCodec::kEos, 1}};
  });
  settings.steps = 4;
  settings.count = 1;
  const Expansions found = expand_in_steps(expander, "a cat", settings);
  ASSERT_EQ(found.items.size(), 1u);
  EXPECT_EQ(found.items[0].text, "a cat fog");
  EXPECT_TRUE(found.items[0].earlier.empty());
  ASSERT_EQ(found.warnings.size(), 1u);
  EXPECT_EQ(found.warnings[0], "1 of 1 prompt could not be expanded 4 times: too long, or nothing to add");
}

TEST_F(StepsTest, SettingsAreChecked) {
  for (const Index steps : {0, 17}) {
    settings.steps = steps;
    EXPECT_THROW(expand_in_steps(expander, "a cat", settings), UserError);
  }
  settings.steps = 2;
  settings.step_prefix = "NOPE";
  EXPECT_THROW(expand_in_steps(expander, "a cat", settings), UserError);
}

TEST_F(StepsTest, TheServiceAndTheSessionTakeSteps) {
  const Json answer =
      answer_request("{\"query\": \"a cat\", \"steps\": 2, \"n\": 2, \"diverse\": 5}", &expander, settings, 4);
  ASSERT_EQ(answer.find("error"), nullptr) << answer.dump();
  ASSERT_EQ(answer.at("expansions").as_array().size(), 2u);
  for (const Json& item : answer.at("expansions").as_array()) EXPECT_EQ(item.at("earlier").as_array().size(), 1u);

  std::istringstream in(":steps 2\n:diverse 6\na cat\n1\n:steps 0\n:q\n");
  std::ostringstream out;
  run_session(expander, settings, in, out, false);
  const std::string text = out.str();
  EXPECT_NE(text.find("3. a cat"), std::string::npos) << text;
  EXPECT_NE(text.find("steps must be 1 to 16"), std::string::npos) << text;
  // A picked expansion is expanded with the prefix of further steps.
  EXPECT_EQ(model.shared().front(), FakeCodec::kMstp);
}

TEST_F(StepsTest, ManyQueriesGiveTheSameOnAnyNumberOfSessions) {
  std::vector<ExpandRequest> requests;
  const char* const queries[] = {"a cat", "a red castle", "stone", "a sky", "dawn", "fog light"};
  for (int i = 0; i < 6; ++i) {
    ExpandSettings own = settings;
    own.seed = static_cast<std::uint64_t>(i);
    requests.push_back({queries[i], own});
  }
  const auto open = [&]() -> std::unique_ptr<LanguageModel> {
    return std::make_unique<FakeModel>(codec.size(), 128, tests::fake_rule(codec));
  };
  std::vector<std::string> before;
  for (const int sessions : {1, 3, 8}) {
    const std::vector<Expansions> answers = ManyExpander(open, codec, sessions).expand(requests);
    std::vector<std::string> texts;
    for (const Expansions& answer : answers) {
      for (const Expansion& item : answer.items) texts.push_back(item.text);
    }
    ASSERT_EQ(answers.size(), 6u);
    EXPECT_TRUE(answers[1].items[0].text.starts_with("a red castle"));
    if (!before.empty()) {
      EXPECT_EQ(texts, before);
    }
    before = texts;
  }
}

}  // namespace
}  // namespace unfurl::train
