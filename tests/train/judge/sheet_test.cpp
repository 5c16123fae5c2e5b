#include "train/judge/sheet.h"

#include <gtest/gtest.h>

#include <functional>

#include "core/error.h"
#include "core/files.h"
#include "core/json.h"
#include "tests/support/temporary_folder.h"
#include "tests/train/judge/check_page.h"

namespace unfurl::tests {
namespace {

using namespace unfurl::train;
namespace fs = std::filesystem;

std::size_t count(std::string_view text, std::string_view what) {
  std::size_t found = 0;
  for (std::size_t at = text.find(what); at != std::string_view::npos; at = text.find(what, at + 1)) ++found;
  return found;
}

template <class Body>
void expect_mistake(const Body& body, const std::string& expected) {
  try {
    body();
    ADD_FAILURE() << "no mistake: " << expected;
  } catch (const UserError& error) {
    EXPECT_NE(std::string(error.what()).find(expected), std::string::npos) << error.what();
    EXPECT_EQ(std::string(error.what()).find('\n'), std::string::npos) << error.what();
  }
}

constexpr int kQueries = 20;
const char* const kPng = "\x89PNG\r\n\x1a\n";

std::string query(int q) { return q == 0 ? "a <b>fox</b> & \"snow\" </script>" : "query " + std::to_string(q); }

/// A judgement of a model named "ours, new" and the straight query.
class SheetTest : public testing::Test {
 protected:
  void SetUp() override { make(4); }
  void make(int n) {
    std::string text = "{\"judgement\":\"0\"}\n";
    for (const char* system : {"straight", "ours, new", "nearest"}) {
      for (int q = 0; q < kQueries; ++q) {
        Json line = Json::Object{{"system", system}, {"query_id", "q" + std::to_string(q)}, {"query", query(q)}};
        for (int i = 0; i < n; ++i) {
          const std::string prompt = std::string(system) == "straight"
                                         ? query(q)
                                         : query(q) + ", " + system[0] + "-flavor " + std::to_string(i);
          line["prompts"].push_back(Json::Object{{"text", prompt}, {"ended", true}});
        }
        text += line.dump() + "\n";
      }
    }
    write_file(folder / "expansions.jsonl", text);
  }
  std::string sheet(const std::string& pair = "", std::int64_t rounds = 1, std::uint64_t seed = 1) {
    testing::internal::CaptureStdout();
    testing::internal::CaptureStderr();
    try {
      write_sheet({folder.path(), pair, rounds, seed});
    } catch (...) {
      testing::internal::GetCapturedStdout();
      testing::internal::GetCapturedStderr();
      throw;
    }
    testing::internal::GetCapturedStdout();
    warnings = testing::internal::GetCapturedStderr();
    return read_file(folder / "sheet.html");
  }
  Json key() const { return Json::parse(read_file(folder / "sheet-key.json")); }

  /// `choose` gives "a", "b" or "tie" for an item of the key.
  fs::path cast(const std::string& rater, const std::function<std::string(const Json&)>& choose) {
    const Json all = key();
    Json votes = Json::array();
    for (const Json& item : all.at("items").as_array()) {
      const std::string choice = choose(item);
      if (choice.empty()) continue;
      const bool left = choice == item.at("left").as_string();
      votes.push_back(Json::Object{{"item", item.at("item").as_string()},
                                   {"vote", choice == "tie" ? "tie"
                                            : left          ? "left"
                                                            : "right"}});
    }
    const fs::path path = folder / (rater + ".json");
    write_file(path, Json(Json::Object{{"sheet", all.at("sheet")}, {"rater", rater}, {"votes", votes}}).dump());
    return path;
  }
  std::string count_votes(const std::vector<fs::path>& files, bool json = true) {
    testing::internal::CaptureStdout();
    try {
      read_votes({folder.path(), files, {1, 200, 0.95}, json});
    } catch (...) {
      testing::internal::GetCapturedStdout();
      throw;
    }
    return testing::internal::GetCapturedStdout();
  }
  TemporaryFolder folder;
  std::string warnings;
};

TEST_F(SheetTest, IsAPageThatDoesNotSayWhoseSideItIs) {
  const std::string page = sheet();
  EXPECT_EQ(page_faults(folder / "sheet.html"), "");
  EXPECT_EQ(count(page, "<section class=\"item"), 2u * kQueries);
  EXPECT_EQ(count(page, "<section class=\"item four\""), 1u * kQueries);
  EXPECT_NE(page.find("<h2>a &lt;b&gt;fox&lt;/b&gt; &amp; &quot;snow&quot; &lt;/script&gt;</h2>"), std::string::npos);
  EXPECT_EQ(count(page, "</script>"), 1u);
  EXPECT_EQ(page.find("ours, new"), std::string::npos);
  EXPECT_EQ(page.find("straight"), std::string::npos);
  EXPECT_EQ(page.find("http:"), std::string::npos);
  EXPECT_EQ(page.find("https:"), std::string::npos);

  // The key agrees with the page, item by item, and puts either system left about as often.
  const Json all = key();
  EXPECT_EQ(all.at("a").as_string(), "ours, new");
  EXPECT_EQ(all.at("b").as_string(), "straight");
  EXPECT_NE(page.find("data-sheet=\"" + all.at("sheet").as_string() + "\""), std::string::npos);
  int a_left = 0;
  for (const Json& item : all.at("items").as_array()) {
    const std::size_t at = page.find("data-item=\"" + item.at("item").as_string() + "\"");
    ASSERT_NE(at, std::string::npos);
    const std::size_t left = page.find("data-vote=\"left\"", at), right = page.find("data-vote=\"right\"", at);
    const bool says_left = page.substr(left, right - left).find("o-flavor 0") != std::string::npos;
    EXPECT_EQ(says_left, item.at("left").as_string() == "a");
    a_left += says_left;
  }
  EXPECT_GT(a_left, kQueries / 2);
  EXPECT_LT(a_left, 2 * kQueries - kQueries / 2);

  EXPECT_EQ(sheet(), page);
  EXPECT_EQ(warnings, "");
  EXPECT_NE(sheet("", 1, 2), page);
  EXPECT_NE(warnings.find("is replaced"), std::string::npos);
}

TEST_F(SheetTest, TheSidesFollowFromWhatThePageDoesNotShow) {
  const auto sides = [&] {
    sheet();
    std::string out;
    const Json all = key();
    for (const Json& item : all.at("items").as_array()) out += item.at("left").as_string();
    return out;
  };
  const std::string before = sides();
  // Another prompt of a third system, which is not on the page.
  std::string text = read_file(folder / "expansions.jsonl");
  text.replace(text.rfind("n-flavor"), 1, "m");
  write_file(folder / "expansions.jsonl", text);
  EXPECT_NE(sides(), before);
}

TEST_F(SheetTest, ShowsImagesWhereAllOfThemAreThere) {
  write_file(folder / "one.png", std::string(kPng) + "12345");
  write_file(folder / "note.txt", "no image");
  std::string text = "{\"image_side\":\"x 1\",\"simulated\":true}\n";
  for (const char* system : {"straight", "ours, new"}) {
    for (int q = 0; q < 3; ++q) {
      Json line = Json::Object{{"system", system}, {"query_id", "q" + std::to_string(q)}};
      for (int i = 0; i < 4; ++i) {
        const bool broken = (q == 1 && i == 3) || (q == 2 && i == 0 && system[0] == 's');
        line["files"].push_back(broken ? q == 1 ? "note.txt" : "" : i % 2 ? "one.png" : (folder / "one.png").string());
      }
      text += line.dump() + "\n";
    }
  }
  write_file(folder / "image_files.jsonl", text);
  const std::string page = sheet();
  EXPECT_EQ(page_faults(folder / "sheet.html"), "");
  // q0: 1x1 and 4x4; q1: 1x1 alone; q2: none.
  EXPECT_EQ(count(page, "<img "), 2u * (1 + 4 + 1));
  EXPECT_NE(page.find("src=\"data:image/png;base64,iVBORw0KGgoxMjM0NQ==\""), std::string::npos);
  EXPECT_NE(page.find("simulated image side"), std::string::npos);
  EXPECT_EQ(page.find("one.png"), std::string::npos);
}

TEST_F(SheetTest, TakesTheSystemsAndRoundsAskedFor) {
  EXPECT_EQ(count(sheet("nearest,ours, new", 3), "<section"), 4u * kQueries);
  EXPECT_EQ(key().at("a").as_string(), "nearest");
  EXPECT_EQ(key().at("b").as_string(), "ours, new");
  expect_mistake([&] { sheet("ours, new,straigth"); }, "no system \"straigth\"; did you mean \"straight\"?");
  expect_mistake([&] { sheet("nearest"); }, "needs two names with a comma");
  expect_mistake([&] { sheet("nearest,nearest"); }, "twice");
  make(2);
  EXPECT_EQ(count(sheet("", 8), "<section"), 2u * kQueries);
  EXPECT_NE(warnings.find("there is no 4x4"), std::string::npos);
}

TEST_F(SheetTest, ReadsVotesBack) {
  sheet();
  const auto four = [](const Json& item) { return item.at("kind").as_string() == "4x4"; };
  const fs::path ann = cast("ann", [&](const Json& item) { return four(item) ? "a" : "b"; });
  const Json one = Json::parse(count_votes({ann}));
  EXPECT_EQ(one.at("votes").as_integer(), 2 * kQueries);
  EXPECT_EQ(one.at("raters").as_integer(), 1);
  EXPECT_EQ(one.at("4x4").at("wins").at("mean").as_number(), 1);
  EXPECT_EQ(one.at("1x1").at("wins").at("mean").as_number(), 0);
  EXPECT_EQ(one.at("1x1").at("b").as_integer(), kQueries);
  EXPECT_TRUE(one.at("agreement").is_null());

  // Another rater: half of the queries a tie, the others as ann; nothing on 4x4.
  const fs::path bob = cast("bob", [&](const Json& item) {
    const bool even = (item.at("query_id").as_string().back() - '0') % 2 == 0;
    return four(item) ? "" : even ? "tie" : "b";
  });
  const Json two = Json::parse(count_votes({ann, bob}));
  EXPECT_EQ(two.at("raters").as_integer(), 2);
  EXPECT_EQ(two.at("1x1").at("ties").as_integer(), kQueries / 2);
  EXPECT_EQ(two.at("1x1").at("queries").as_integer(), kQueries);
  EXPECT_NEAR(two.at("1x1").at("wins").at("mean").as_number(), 0.125, 1e-12);
  EXPECT_LT(two.at("1x1").at("wins").at("low").as_number(), 0.125);
  EXPECT_GT(two.at("1x1").at("wins").at("high").as_number(), 0.125);
  EXPECT_TRUE(two.at("1x1").at("agreement").is_number());
  EXPECT_TRUE(two.at("4x4").at("agreement").is_null());
  const std::string text = count_votes({ann}, false);
  EXPECT_NE(text.find("A: ours, new, B: straight; 40 votes of 1 rater"), std::string::npos) << text;
  EXPECT_NE(text.find("n/a over all"), std::string::npos) << text;
}

TEST_F(SheetTest, BadVotesAreOneLine) {
  sheet();
  const fs::path ann = cast("ann", [](const Json&) { return "a"; });
  const std::string good = read_file(ann), hash = key().at("sheet").as_string();
  const auto fails = [&](const std::string& from, const std::string& to, const std::string& expected) {
    std::string text = good;
    text.replace(text.find(from), from.size(), to);
    write_file(folder / "bad.json", text);
    expect_mistake([&] { count_votes({folder / "bad.json"}); }, expected);
  };
  fails(hash, "0123456789abcdef", "votes on another sheet (0123456789abcdef)");
  fails("i007", "i999", "the sheet has no item \"i999\"");
  fails("i007", "i008", "\"ann\" has voted on i008 before");
}

TEST_F(SheetTest, FilesThatAreNoVotes) {
  sheet();
  const fs::path ann = cast("ann", [](const Json&) { return "tie"; });
  expect_mistake([&] { count_votes({ann, ann}); }, "has voted on i001 before, in");
  for (const auto& [text, expected] : std::vector<std::pair<std::string, std::string>>{
           {"left", "not votes as the page saves them: line 1"},
           {"[]", "not votes as the page saves them"},
           {"{\"sheet\":\"" + key().at("sheet").as_string() + "\",\"rater\":\" \",\"votes\":[]}", "has no name"},
           {"{\"sheet\":\"" + key().at("sheet").as_string() + "\",\"rater\":\"x\",\"votes\":[]}", "there is no vote"},
           {"{\"sheet\":\"" + key().at("sheet").as_string() +
                "\",\"rater\":\"x\",\"votes\":[{\"item\":\"i001\",\"vote\":\"up\"}]}",
            "must be left, right or tie, got \"up\""}}) {
    write_file(folder / "bad.json", text);
    expect_mistake([&, file = folder / "bad.json"] { count_votes({file}); }, expected);
  }
  write_file(folder / "sheet-key.json", "{}");
  expect_mistake([&] { count_votes({ann}); }, "not the key of a sheet");
  write_file(folder / "expansions.jsonl", "{\"judgement\":\"0\"}\nxx\n");
  expect_mistake([&] { sheet(); }, "expansions.jsonl:2: not a judgement's expansions");
  write_file(folder / "expansions.jsonl", "");
  expect_mistake([&] { sheet(); }, "holds no expansions");
}

}  // namespace
}  // namespace unfurl::tests
