// Of many texts, the few that differ most.
//
// Two texts are as far apart as their sets of words and of pairs of neighbouring words are different: 1 minus the
// Jaccard similarity, without what all the texts have in common (their query). Embeddings are as far apart as the
// square of their distance, each scaled to length 1: the sum over all pairs of a set is its variance times the square
// of its size. Both choices are greedy and depend on nothing but the input; among equals the first wins.
#pragma once
#include <cstddef>
#include <span>
#include <string>
#include <vector>

namespace unfurl::train {

/// The indices of `count` texts, ascending: the two that are farthest apart, then again and again the one whose nearest
/// chosen one is farthest (greedy max-min). All where there are no more than `count`; the first alone for a count of 1.
std::vector<std::size_t> most_different(std::span<const std::string> texts, std::size_t count);

/// The same by embeddings, which all have one length: the two that are farthest apart, then again and again the one
/// that raises the variance of the set most.
std::vector<std::size_t> most_different(std::span<const std::vector<float>> embeddings, std::size_t count);

}  // namespace unfurl::train
