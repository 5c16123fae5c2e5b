// Finds the name that a misspelt one was probably meant to be.
#pragma once
#include <string>
#include <string_view>
#include <vector>

namespace unfurl::train {

/// The candidate fewest edits (insert, delete, replace, swap of neighbours) away from `name`, the first of equals;
/// empty where none is nearer than half of the longer one's length. A name that has the other as one of its
/// '_'-separated words counts as near.
std::string nearest(std::string_view name, const std::vector<std::string>& candidates);

/// "; did you mean \"learning_rate\"?", or empty where nothing is near.
std::string did_you_mean(std::string_view name, const std::vector<std::string>& candidates);

}  // namespace unfurl::train
