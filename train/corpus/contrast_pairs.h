// Contrast pairs: a query like that of a pair, with another prefix and what that prefix asks for.
//
// By the rules of prefix_rules.h a query alone nearly tells its prefix: one that names all of the content has FLV, a
// noun phrase has DTL. What is told twice is not learnt: a model trained on such pairs alone wrote the same prompts
// whatever prefix it was given. Contrast pairs make the prefix decide.
#pragma once
#include <optional>

#include "train/corpus/draw.h"
#include "train/corpus/pair.h"
#include "train/corpus/segments.h"

namespace unfurl::train {

/// Of a pair labelled FLV whose prompt has several segments of content: the first of them as the query, as many as
/// `draw` says, and either the same prompt, which adds the others: DTL; or that query with the prompt's flavors: FLV.
/// Of pairs with DTL, ABST, GRD, SPCT and those without a prefix: the same query, and as the prompt that query with the
/// flavors of the pair's: FLV. Of all others (HAST, RFT, MSTP, copies), and where the parts are not there, none.
std::optional<Pair> contrast_pair(const Pair& pair, const PromptStatistics& statistics, Draw& draw);

}  // namespace unfurl::train
