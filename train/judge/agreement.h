// Whether raters agree.
#pragma once
#include <optional>
#include <vector>

namespace unfurl::train {

/// Krippendorff's alpha for nominal data (Krippendorff, "Computing Krippendorff's Alpha-Reliability", 2011): 1 where
/// all agree, 0 where they agree as chance would. `units` are the things rated, each with the categories that its
/// raters chose; a unit with fewer than two is left out. None where no unit has two, or all ratings are of one
/// category.
std::optional<double> krippendorff_alpha(const std::vector<std::vector<int>>& units);

}  // namespace unfurl::train
