// What the texts of expansions are like, without any image.
#pragma once
#include <cstdint>
#include <string>
#include <string_view>
#include <unordered_set>
#include <vector>

namespace unfurl::train {

/// Different n-grams of words over all n-grams of the texts (Li et al., 2016); 0 where there is none.
double distinct_n(const std::vector<std::string>& texts, int n);

/// The mean over texts of the BLEU of each against the others (Zhu et al., 2018, "Texygen"): n-grams of up to 4 words,
/// counts over 1-grams smoothed by adding one (Lin and Och, 2004), with the penalty for short texts. In [0, 1]; high
/// where the texts are alike. 0 for fewer than two texts.
double self_bleu(const std::vector<std::string>& texts);

/// The share of the query's content words (segments.h) that the text has; 1 where the query has none.
double content_kept(std::string_view query, std::string_view text);

/// The share of the text's words that are not among `known` (in lower case, without punctuation) and have a letter.
double unknown_share(std::string_view text, const std::unordered_set<std::string>& known);

/// In words.
double length(std::string_view text);

}  // namespace unfurl::train
