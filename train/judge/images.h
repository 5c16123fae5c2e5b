// What the images of a query's prompts are like: numbers from their embeddings.
#pragma once
#include <span>
#include <vector>

#include "train/image_side/image_side.h"

namespace unfurl::train {

/// Of the images of one query by one system. Means over the images there are, by those that the side scores; NaN where
/// there is none.
struct ImageMetrics {
  std::vector<double> alignments, aesthetics;  // of each image
  double alignment = 0;                        // cosine of query and image
  double prompt_alignment = 0;                 // cosine of prompt and image
  double aesthetic = 0;
  double diversity = 0;  // sigma_p: mean squared distance of the unit embeddings from their mean
};

/// Cosine; 0 where a side is all zeros. Throws Error where the lengths differ.
double cosine(std::span<const float> a, std::span<const float> b);

ImageMetrics image_metrics(std::span<const ImageAnswer> answers);

/// The share of a's values that are greater than b's at the same place, ties counting half; NaN values are left out,
/// and NaN where nothing is left.
double wins(std::span<const double> a, std::span<const double> b);
/// 1, 0.5 or 0: the greatest of a against the greatest of b.
double best_wins(std::span<const double> a, std::span<const double> b);

}  // namespace unfurl::train
