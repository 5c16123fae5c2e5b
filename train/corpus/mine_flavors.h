// Flavors from prompts that people wrote. In prompts of this kind what is seen comes first and how it is seen follows,
// between commas; what many people say there, and what is made of the words they say it with, is a flavor. No list of
// known flavors is used.
#pragma once
#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace unfurl::train {

struct MiningRules {
  std::int64_t min_count = 2;  // prompts that must use a flavor
  std::int64_t max_words = 4;
  bool compose = true;  // rarer ones count too where they have at most 3 words, all from flavors that are not rare
};

struct MinedFlavor {
  std::string text;          // in lower case
  std::int64_t prompts = 0;  // that use it behind their first segment
};

/// A flavor in the form in which flavors are compared: lower case, single spaces, "8 k" as "8k", without brackets,
/// weights (":1.2") and marks at its ends.
std::string flavor_form(std::string_view segment);

/// The segments of a prompt in their flavor form, those after the first one: between commas, and at the ends of
/// sentences. Artists count one by one: "art by alphonse mucha and greg rutkowski" gives their names.
struct PromptFlavors {
  std::string first;
  std::vector<std::string> later;  // each once
};
PromptFlavors flavors_of_prompt(std::string_view prompt);

class FlavorMiner {
 public:
  void add(std::string_view prompt);

  struct Result {
    std::vector<MinedFlavor> flavors;               // most used first; equals in the order of their letters
    std::map<std::string, std::int64_t> dropped;    // distinct segments, by reason
    std::map<std::string, std::string> an_example;  // a dropped segment for each reason, the most used
  };
  Result mine(const MiningRules& rules) const;

  /// True where a prompt has it as a segment.
  bool occurs(const std::string& form) const { return segments_.contains(form); }
  std::int64_t prompts() const { return prompts_; }
  std::size_t segments() const { return segments_.size(); }

 private:
  struct Uses {
    std::int64_t first = 0, later = 0;  // prompts that use it so
  };
  std::unordered_map<std::string, Uses> segments_;
  std::int64_t prompts_ = 0;
};

/// How the mined flavors compare with a list.
struct FlavorScore {
  std::size_t mined = 0, occurring = 0, found = 0;  // occurring: lines of the list that are segments of a prompt
  double precision() const;                         // mined ones that are in the list; 0 where nothing was mined
  double recall() const;                            // occurring ones that were mined
};

}  // namespace unfurl::train
