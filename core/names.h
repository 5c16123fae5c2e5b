// Names a person may have mistyped.
#pragma once
#include <span>
#include <string>
#include <string_view>

namespace unfurl {

/// The candidate with the fewest letters changed, added, dropped or swapped with a neighbour (letter case does not
/// count), or "" where none is close: more than a third of the longer name's letters, at least one, would change.
std::string nearest_name(std::string_view name, std::span<const std::string_view> candidates);

/// "; did you mean \"X\"?" for the nearest candidate, "" where none is close.
std::string did_you_mean(std::string_view name, std::span<const std::string_view> candidates);

}  // namespace unfurl
