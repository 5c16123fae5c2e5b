// Words of messages: names that a person may have mistyped, and plurals.
#pragma once
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace unfurl {

/// The candidate with the fewest letters changed, added, dropped or swapped with a neighbour (letter case does not
/// count), the first of equals, or "" where none is close. Close is: at most a third of the longer name's letters, or
/// one, would change; or a '_'-separated word of three letters or more is in both.
std::string nearest_name(std::string_view name, std::span<const std::string_view> candidates);

/// "; did you mean \"X\"?" for the nearest candidate, "" where none is close.
std::string did_you_mean(std::string_view name, std::span<const std::string_view> candidates);
std::string did_you_mean(std::string_view name, const std::vector<std::string>& candidates);

/// What `count` things are called: `one` for 1, else `many`, which is `one` with an "s" where it is not given.
std::string plural(std::int64_t count, std::string_view one, std::string_view many = {});

}  // namespace unfurl
