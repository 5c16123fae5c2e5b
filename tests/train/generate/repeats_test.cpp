#include "train/generate/repeats.h"

#include <gtest/gtest.h>

namespace unfurl::train {
namespace {

TEST(Repeats, SegmentsThatAreThereAlreadyAreLeftOut) {
  EXPECT_EQ(without_repeats("a cat", ", oil, fog, Oil , soft light"), ", oil, fog, soft light");
  EXPECT_EQ(without_repeats("a cat, Oil", ", oil, a  CAT, fog"), ", fog");
  EXPECT_EQ(without_repeats("a cat", " on a mat, fog, a cat on a mat"), " on a mat, fog");
  EXPECT_EQ(without_repeats("a cat", ", a cat"), "");
  EXPECT_EQ(without_repeats("", " oil, fog, oil"), " oil, fog");
}

TEST(Repeats, EmptySegmentsAreLeftOut) {
  EXPECT_EQ(without_repeats("a cat", ",, oil, , fog,"), ", oil, fog");
  EXPECT_EQ(without_repeats("a cat,", ", oil"), " oil");
  EXPECT_EQ(without_repeats("a cat, ", " a cat, oil"), " oil");
  EXPECT_EQ(without_repeats("", ",, oil"), " oil");
  EXPECT_EQ(without_repeats("a cat", " , "), " ");
}

TEST(Repeats, TheRestStaysByteForByte) {
  const char* const text = "ist  , soft  light ,fog. sun; fog|sky,\tÉté, 1,000 cats, 1,001 cats";
  EXPECT_EQ(without_repeats("fog, art", text), text);
  EXPECT_EQ(without_repeats("1", ",000, 000"), ",000, 000");
  EXPECT_EQ(without_repeats("", ""), "");
}

}  // namespace
}  // namespace unfurl::train
