// A grammar of prompts: draws scenes from the word lists and says each in several ways, as queries and as prompts.
#pragma once
#include <functional>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "train/corpus/draw.h"
#include "train/corpus/pair.h"

namespace unfurl::train {

/// The content words that the grammar itself puts between the entries of the word lists.
inline constexpr std::string_view kGrammarPhrases[] = {"made of", "the feeling of", "an image of", "a picture of",
                                                       "a scene about"};

class Grammar {
 public:
  /// Uses the entries for which `allowed` is true; every section must keep one.
  explicit Grammar(const std::function<bool(std::string_view)>& allowed);

  /// The pairs of one scene, about five, sharing an id. Seven of ten scenes show a subject, the others an idea or a
  /// real place:
  ///
  /// | type        | query                                  | the prompt adds                      | prefix     |
  /// |-------------|----------------------------------------|--------------------------------------|------------|
  /// | short       | "old fox"                              | action, place, details, flavors      | DTL        |
  /// | medium      | "an old fox drinking from a stream"    | place, details, flavors              | DTL        |
  /// | concrete    | subject, action and place              | flavors, or details and flavors      | FLV or DTL |
  /// | long        | subject, action, place and details     | flavors                              | FLV        |
  /// | specificity | "an animal"                            | which one, and all of the above      | SPCT       |
  /// | abstract    | "undying love"                         | a concrete scene, details, flavors   | ABST       |
  /// | grounded    | "an old fox in Kyoto"                  | what is there to see, flavors        | GRD        |
  ///
  /// Most prompts open with the query's own words; the others open with the medium ("oil painting of ...") or say the
  /// content anew.
  std::vector<Pair> scene(Draw& draw) const;

  /// Three to nine flavors that go with one another and with their medium.
  std::vector<std::string> flavors(Draw& draw) const;

 private:
  using List = std::vector<std::string_view>;
  struct Association {
    List names, scenes;
  };
  struct Subject;
  struct Style;

  const List& list(std::string_view file, std::string_view section) const;
  Subject subject(Draw& draw, std::string_view kind) const;
  Style style(Draw& draw) const;
  std::vector<std::string> details(Draw& draw, std::string_view kind, std::size_t count) const;
  std::vector<Pair> subject_scene(Draw& draw) const;
  std::vector<Pair> idea_scene(Draw& draw) const;
  std::vector<Pair> grounded_scene(Draw& draw) const;

  std::map<std::string, List, std::less<>> lists_;  // "file/section"
  std::vector<Association> ideas_, places_;
};

/// "a fox", "an owl", "pancakes", "bamboo": the noun phrase with its indefinite article.
std::string with_article(std::string_view noun_phrase);

}  // namespace unfurl::train
