#include "train/generate/bans.h"

#include <gtest/gtest.h>

#include "core/error.h"
#include "core/files.h"
#include "tests/support/expect_error.h"
#include "tests/support/temporary_folder.h"

namespace unfurl::train {
namespace {

bool bans(const std::string& phrase, std::string_view text, bool complete = true) {
  return Bans({phrase}).find(text, 0, complete).has_value();
}

TEST(Bans, TakesWholePhrasesInAnyCase) {
  EXPECT_TRUE(bans("art", "art"));
  EXPECT_TRUE(bans("art", "fine ART, oil"));
  EXPECT_TRUE(bans("art", "pixel-art"));
  EXPECT_FALSE(bans("art", "artist"));
  EXPECT_FALSE(bans("art", "smart"));
  EXPECT_FALSE(bans("art", "art_2"));
  EXPECT_TRUE(bans("Greg Rutkowski", "by greg \t rutkowski."));
  EXPECT_FALSE(bans("greg rutkowski", "greg, rutkowski"));
  EXPECT_FALSE(bans("greg rutkowski", "greg rutkowskis"));
  EXPECT_TRUE(bans("École", "une éCOLE"));
  EXPECT_TRUE(bans("don't", "Don’t look"));
  EXPECT_TRUE(bans("--ar", "a cat--ar 16"));
  EXPECT_TRUE(bans("猫", "黒猫が"));
  EXPECT_FALSE(bans("", "anything"));
  EXPECT_FALSE(bans(" \t", "any thing"));
}

TEST(Bans, WaitsForTheWordToEnd) {
  EXPECT_FALSE(bans("art", "fine art", false));
  EXPECT_TRUE(bans("art", "fine art,", false));
  EXPECT_TRUE(bans("art", "fine art ", false));
  EXPECT_TRUE(bans("v1.", "in v1.", false));  // nothing could make this longer
}

TEST(Bans, FindsTheFirstThatEndsBehindAPlace) {
  const Bans some({"red fox", "fox", "fox den"});
  const std::string text = "red fox den, fox";
  auto match = some.find(text, 0, true);
  ASSERT_TRUE(match);
  EXPECT_EQ(match->end, 7u);
  match = some.find(text, 7, true);
  ASSERT_TRUE(match);
  EXPECT_EQ(match->begin, 4u);
  EXPECT_EQ(match->end, 11u);
  match = some.find(text, 11, true);
  ASSERT_TRUE(match);
  EXPECT_EQ(match->begin, 13u);
  EXPECT_FALSE(some.find(text, 16, true));
  EXPECT_EQ(some.found_in("a red fox"), (std::vector<std::string>{"red fox", "fox"}));
  EXPECT_EQ(some.without({"fox"}).phrases(), (std::vector<std::string>{"red fox", "fox den"}));
}

TEST(Bans, AreReadFromFiles) {
  const tests::TemporaryFolder folder;
  write_file(folder / "bans.txt", "Greg Rutkowski\r\n\n  artstation  \nlast");
  EXPECT_EQ(Bans::read((folder / "bans.txt").string()),
            (std::vector<std::string>{"Greg Rutkowski", "artstation", "last"}));
  EXPECT_EQ(Bans::read("greg rutkowski"), (std::vector<std::string>{"greg rutkowski"}));
}

TEST(Bans, AFileThatIsNoTextIsRefused) {
  const tests::TemporaryFolder folder;
  const std::string path = (folder / "bans.txt").string();
  write_file(path, "artstation\nbad \xff byte\n");
  EXPECT_EQ(tests::error_of([&] { Bans::read(path); }),
            path + ": 1 of 2 lines is not a phrase, more than the 1 % allowed: " + path + ":2: invalid UTF-8");
  write_file(path, std::string("\0\1\2", 3));
  EXPECT_EQ(tests::error_of([&] { Bans::read(path); }),
            path + ": 1 of 1 line is not a phrase, more than the 1 % allowed: " + path + ":1: a control character");
  std::string many;
  for (int i = 0; i < 150; ++i) many += "phrase " + std::to_string(i) + '\n';
  write_file(path, many + "\x80\n");
  EXPECT_EQ(Bans::read(path).size(), 150u);
}

}  // namespace
}  // namespace unfurl::train
