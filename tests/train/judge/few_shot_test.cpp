#include "train/judge/few_shot.h"

#include <gtest/gtest.h>

namespace unfurl::tests {
namespace {

using namespace unfurl::train;

TEST(FewShot, TakesAPromptOutOfAnAnswer) {
  EXPECT_EQ(prompt_of_answer(" \"a fox, oil painting.\"\n"), "a fox, oil painting");
  EXPECT_EQ(prompt_of_answer("Prompt: a fox, oil painting"), "a fox, oil painting");
  EXPECT_EQ(prompt_of_answer("<think>hm\nhm</think>\na fox, oil painting\nI hope that helps"), "a fox, oil painting");
  EXPECT_EQ(prompt_of_answer("I'm sorry, I can't help with that."), "");
  EXPECT_EQ(prompt_of_answer("<think>hm"), "");
  EXPECT_EQ(prompt_of_answer(" ... "), "");
  EXPECT_EQ(prompt_of_answer(""), "");
}

}  // namespace
}  // namespace unfurl::tests
