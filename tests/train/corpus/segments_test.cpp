#include "train/corpus/segments.h"

#include <gtest/gtest.h>

#include "train/corpus/text.h"

namespace unfurl::tests {
namespace {

using namespace unfurl::train;
using Views = std::vector<std::string_view>;

PromptStatistics statistics() {
  PromptStatistics made;
  for (const char* prompt :
       {"a fox, moody, octane", "a tower, moody, amber", "two cats, moody, amber", "a tower by the sea"}) {
    made.add(prompt);
  }
  return made;
}

TEST(Segments, SplitAtCommas) {
  EXPECT_EQ(split_segments(" a fox , moody,, 1,000 leaves,"), (Views{"a fox", "moody", "1,000 leaves"}));
  EXPECT_TRUE(split_segments(" , ,").empty());
}

TEST(Segments, ContentEndsAtTheFirstKnownFlavor) {
  const PromptStatistics known = statistics();
  EXPECT_TRUE(known.is_flavor("Moody"));
  EXPECT_FALSE(known.is_flavor("amber")) << "only two prompts use it";
  EXPECT_TRUE(known.is_flavor("by somebody")) << "never seen, but it names an artist";
  EXPECT_TRUE(known.is_flavor("very detailed"));
  const Parts parts = split_prompt("an old tower, ravens on the roof, moody, a river, 8k", known);
  EXPECT_EQ(parts.content, (Views{"an old tower", "ravens on the roof"}));
  EXPECT_EQ(parts.flavors, (Views{"moody", "a river", "8k"}));
  EXPECT_EQ(parts.subject, "an old tower");
  EXPECT_FALSE(parts.only_flavors) << "a river is none";
  EXPECT_TRUE(split_prompt("an old tower, moody, 8k", known).only_flavors);
}

TEST(Segments, LeadingFlavorsBelongToTheContent) {
  const Parts parts = split_prompt("pencil drawing, moody, portrait of a girl, 8k", statistics());
  EXPECT_EQ(parts.content, (Views{"pencil drawing", "moody", "portrait of a girl"}));
  EXPECT_EQ(parts.subject, "portrait of a girl");
  const Parts flavors = split_prompt("moody, 8k, octane render", statistics());
  EXPECT_EQ(flavors.content, Views{"moody"});
  EXPECT_TRUE(split_prompt(" , ", statistics()).content.empty());
}

TEST(Segments, FindsTheNounPhrase) {
  const auto phrase = [](const char* text) { return join(noun_phrase(text)); };
  EXPECT_EQ(phrase("a highly detailed portrait of a young princess wearing a crown"), "young princess");
  EXPECT_EQ(phrase("close up photo of a red fox sleeping in snow"), "red fox");
  EXPECT_EQ(phrase("The king of the hill"), "king");
  EXPECT_EQ(phrase("kitten in a banana peel"), "kitten");
  EXPECT_EQ(phrase("a \"ghost\"! in the hall"), "ghost");
  EXPECT_EQ(phrase("in the dark"), "");
  EXPECT_EQ(phrase("photo of a"), "");
  EXPECT_EQ(phrase(""), "");
}

TEST(Segments, FindsThePlace) {
  EXPECT_EQ(place_phrase("a hauntingly beautiful city in a dark cavern with lights"), "in a dark cavern");
  EXPECT_EQ(place_phrase("a fox under the old bridge, of course"), "under the old bridge");
  EXPECT_EQ(place_phrase("a fox in anime style"), "");
  EXPECT_EQ(place_phrase("a fox in the style of Klimt"), "");
  EXPECT_EQ(place_phrase("a fox in"), "");
}

TEST(Segments, KnowsCommonNouns) {
  const PromptStatistics known = statistics();
  EXPECT_TRUE(known.is_common_noun("Tower"));
  EXPECT_TRUE(known.is_common_noun("foxes") || known.is_common_noun("fox"));
  EXPECT_FALSE(known.is_common_noun("obama"));
}

TEST(Segments, ContentWordsAndIds) {
  EXPECT_EQ(content_words("The old Tower, (moss) of the old sea!"),
            (std::vector<std::string>{"old", "tower", "moss", "sea"}));
  EXPECT_EQ(content_id("An old TOWER!"), content_id("the old  tower"));
  EXPECT_NE(content_id("old tower"), content_id("tower old")) << "order counts";
  EXPECT_NE(content_id("of"), content_id("the"));
  EXPECT_EQ(content_id("old tower").size(), 16u);
}

}  // namespace
}  // namespace unfurl::tests
