// Pairs from one prompt that a person wrote: its content in several lengths as the query, the whole line as the prompt.
#pragma once
#include <string>
#include <string_view>
#include <vector>

#include "train/corpus/draw.h"
#include "train/corpus/pair.h"
#include "train/corpus/segments.h"

namespace unfurl::train {

struct PromptPairs {
  std::vector<Pair> pairs;       // at most `variants`, each query once; all share the id
  std::size_t whole_prompt = 0;  // queries left out because they are the whole prompt
};

/// | type        | query                                                  | prefix                                 |
/// |-------------|--------------------------------------------------------|----------------------------------------|
/// | concrete    | the content                                            | FLV where the rest is known flavors    |
/// | medium      | the content and one or two flavors                     | FLV likewise                           |
/// | long        | the content and about half of the flavors              | FLV likewise                           |
/// | short       | the content's noun phrase                              | DTL: the prompt adds content           |
/// | grounded    | head noun (a common one) and phrase of place           | GRD: the prompt keeps both             |
/// | specificity | what the head noun is one of ("an animal")             | SPCT                                   |
/// | abstract    | the head noun alone (a common one)                     | ABST                                   |
/// | title       | the noun phrase in capitals, with or without "The"     | none                                   |
///
/// The concrete and the short query come first; the others fill up to `variants` in an order drawn for the prompt.
PromptPairs pairs_of_prompt(std::string_view prompt, const PromptStatistics& statistics, std::size_t variants,
                            Draw& draw);

/// The same of a prompt whose parts are known. Throws Error where `parts` has no content.
PromptPairs pairs_of_parts(std::string_view prompt, const Parts& parts, const PromptStatistics& statistics,
                           std::size_t variants, Draw& draw);

}  // namespace unfurl::train
