#include "core/names.h"

#include <gtest/gtest.h>

#include <array>

namespace unfurl::tests {
namespace {

constexpr std::array<std::string_view, 4> kNames = {"learning_rate", "dropout", "seed", "FLV"};

TEST(NearestName, FindsAMistypedName) {
  EXPECT_EQ(nearest_name("learing_rate", kNames), "learning_rate");
  EXPECT_EQ(nearest_name("dorpout", kNames), "dropout");
  EXPECT_EQ(nearest_name("SEED", kNames), "seed");
  EXPECT_EQ(nearest_name("FVL", kNames), "FLV") << "a swap of neighbours is one change";
  EXPECT_EQ(nearest_name("rate", kNames), "learning_rate") << "a word of it";
}

TEST(NearestName, SuggestsNothingFarFetched) {
  EXPECT_EQ(nearest_name("banana", kNames), "");
  EXPECT_EQ(nearest_name("", kNames), "");
  EXPECT_EQ(nearest_name("seed", {}), "");
  EXPECT_EQ(nearest_name(std::string(100000, 'x'), kNames), "");
  EXPECT_EQ(did_you_mean("banana", kNames), "");
  EXPECT_EQ(did_you_mean("sead", kNames), "; did you mean \"seed\"?");
  EXPECT_EQ(did_you_mean("sead", std::vector<std::string>{"weight", "seed"}), "; did you mean \"seed\"?");
}

TEST(Plural, IsOfAllNumbersButOne) {
  EXPECT_EQ(plural(0, "pair"), "pairs");
  EXPECT_EQ(plural(1, "pair"), "pair");
  EXPECT_EQ(plural(2, "pair"), "pairs");
  EXPECT_EQ(plural(1, "query", "queries"), "query");
  EXPECT_EQ(plural(3, "query", "queries"), "queries");
}

}  // namespace
}  // namespace unfurl::tests
