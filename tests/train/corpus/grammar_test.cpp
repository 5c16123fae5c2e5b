#include "train/corpus/grammar.h"

#include <gtest/gtest.h>

#include <set>

#include "core/error.h"
#include "train/corpus/copy_pairs.h"
#include "train/corpus/held_out.h"
#include "train/corpus/prefix.h"
#include "train/corpus/segments.h"
#include "train/corpus/words.h"

namespace unfurl::tests {
namespace {

using namespace unfurl::train;

bool all(std::string_view) { return true; }

TEST(Words, HoldWhatTheFilesSay) {
  EXPECT_EQ(words("subjects", "animals").front(), "red fox");
  EXPECT_EQ(class_of_noun("Fox"), "animals");
  EXPECT_EQ(class_of_noun("wolves"), "") << "no guessing beyond a final s";
  EXPECT_EQ(class_of_noun("castles"), "buildings");
  EXPECT_EQ(class_of_noun("keeper"), "people");
  EXPECT_EQ(class_of_noun(""), "");
  EXPECT_THROW(words("subjects", "minerals"), Error);
  EXPECT_THROW(word_file("minerals"), Error);
  std::size_t subjects = 0;
  for (const WordSection& section : word_file("subjects")) {
    subjects += section.entries.size();
    EXPECT_EQ(std::set<std::string_view>(section.entries.begin(), section.entries.end()).size(), section.entries.size())
        << section.name << " repeats an entry";
    EXPECT_FALSE(words("actions", section.name).empty());
    EXPECT_FALSE(words("adjectives", section.name).empty());
    EXPECT_FALSE(words("details", section.name).empty());
    EXPECT_FALSE(words("general", section.name).empty());
  }
  EXPECT_GT(subjects, 800u);
}

TEST(Grammar, FindsTheArticle) {
  EXPECT_EQ(with_article("fox"), "a fox");
  EXPECT_EQ(with_article("old fox"), "an old fox");
  EXPECT_EQ(with_article("unicorn"), "a unicorn");
  EXPECT_EQ(with_article("one-eyed owl"), "a one-eyed owl");
  EXPECT_EQ(with_article("hourglass"), "an hourglass");
  EXPECT_EQ(with_article("pancakes"), "pancakes");
  EXPECT_EQ(with_article("stack of books"), "a stack of books");
  EXPECT_EQ(with_article("compass"), "a compass");
  EXPECT_EQ(with_article("octopus"), "an octopus");
  EXPECT_EQ(with_article("bamboo"), "bamboo");
  EXPECT_EQ(with_article("tower made of bones"), "a tower made of bones");
  EXPECT_EQ(with_article(""), "");
}

TEST(Grammar, ScenesKeepTheirPromises) {
  const Grammar grammar(all);
  std::set<std::string> types, prefixes;
  std::size_t opens = 0, pairs = 0;
  for (std::uint64_t i = 0; i < 2000; ++i) {
    Draw draw(7, 1, i);
    const std::vector<Pair> scene = grammar.scene(draw);
    ASSERT_GE(scene.size(), 4u);
    ASSERT_LE(scene.size(), 5u);
    for (const Pair& pair : scene) {
      ++pairs;
      types.insert(pair.type);
      prefixes.insert(pair.prefix);
      opens += pair.prompt.starts_with(pair.query);
      EXPECT_EQ(pair.id, scene.front().id);
      EXPECT_TRUE(is_prefix(pair.prefix));
      EXPECT_NE(pair.query, pair.prompt);
      EXPECT_GE(pair.flavors.size(), 3u);
      EXPECT_LE(pair.flavors.size(), 9u);
      EXPECT_EQ(std::set<std::string>(pair.flavors.begin(), pair.flavors.end()).size(), pair.flavors.size())
          << pair.prompt;
      for (const std::string_view text : {std::string_view(pair.prompt), std::string_view(pair.query)}) {
        EXPECT_EQ(text.find("  "), std::string_view::npos) << text;
        EXPECT_EQ(text.find(", ,"), std::string_view::npos) << text;
        EXPECT_NE(text.front(), ' ') << text;
        EXPECT_NE(text.back(), ' ') << text;
      }
      std::string tail;
      for (const std::string& flavor : pair.flavors) tail += ", " + flavor;
      ASSERT_TRUE(pair.prompt.ends_with(tail)) << pair.prompt;
      if (pair.prefix != "FLV") continue;
      // Flavors only: every content word of the prompt stands in the query.
      const auto said = content_words(pair.query);
      const std::string head = pair.prompt.substr(0, pair.prompt.size() - tail.size());
      if (!pair.prompt.starts_with(pair.query)) continue;  // said anew, with the medium in front
      for (const std::string& word : content_words(head)) {
        EXPECT_NE(std::find(said.begin(), said.end(), word), said.end()) << word << " in " << pair.prompt;
      }
    }
  }
  EXPECT_EQ(types,
            (std::set<std::string>{"abstract", "concrete", "grounded", "long", "medium", "short", "specificity"}));
  EXPECT_EQ(prefixes, (std::set<std::string>{"ABST", "DTL", "FLV", "GRD", "SPCT"})) << "later stages assign the others";
  const double share = static_cast<double>(opens) / static_cast<double>(pairs);
  EXPECT_GT(share, 0.65);
  EXPECT_LT(share, 0.9);
}

TEST(HeldOutWords, AreATenthAndLeaveTheGrammarWhole) {
  const HeldOutWords words_out(0.1, 5);
  EXPECT_NEAR(static_cast<double>(words_out.size()) / static_cast<double>(words_out.of()), 0.1, 0.03);
  EXPECT_EQ(HeldOutWords(0, 5).size(), 0u);
  for (const WordSection& section : word_file("flavors")) {
    for (const std::string_view entry : section.entries) EXPECT_FALSE(words_out.in(entry)) << entry;
  }
  for (std::uint64_t seed = 0; seed < 5; ++seed) {
    const HeldOutWords half(0.5, seed);
    const Grammar grammar([&](std::string_view entry) { return !half.in(entry); });  // throws where a list is empty
    for (std::uint64_t i = 0; i < 200; ++i) {
      Draw draw(seed, 2, i);
      for (const Pair& pair : grammar.scene(draw)) {
        EXPECT_FALSE(half.in(pair.prompt)) << pair.prompt;
        EXPECT_FALSE(half.in(pair.query)) << pair.query;
      }
    }
  }
}

TEST(CopyVocabulary, MakesQueriesOfManyKinds) {
  CopyVocabulary vocabulary;
  vocabulary.add("the Moss and the 1900, fern! 8k");
  EXPECT_EQ(vocabulary.size(), 3u) << "moss, fern, 8k";
  vocabulary.forbid([](std::string_view word) { return word[0] == 'z'; });
  bool digits = false, capital = false, listed = false;
  std::size_t longest = 0;
  for (std::uint64_t i = 0; i < 500; ++i) {
    Draw draw(3, 4, i);
    const std::string query = vocabulary.query(draw);
    EXPECT_EQ(query.find(','), std::string::npos);
    for (const std::string& word : content_words(query)) EXPECT_NE(word[0], 'z') << "made up, but forbidden: " << word;
    digits = digits || query.find_first_of("123456789") != std::string::npos;
    capital = capital || query.find_first_of("ABCDEFGHIJKLMNOPQRSTUV") != std::string::npos;
    listed = listed || query.find("fern") != std::string::npos;
    longest = std::max(longest, content_words(query).size());
  }
  EXPECT_TRUE(digits && capital && listed);
  EXPECT_GE(longest, 4u);
  Draw draw(1, 1, 1);
  EXPECT_FALSE(CopyVocabulary().query(draw).empty()) << "an empty list leaves made-up words";
}

}  // namespace
}  // namespace unfurl::tests
