// A judgement as it is shown: JSON, tables of text, and a page.
#pragma once
#include <string>

#include "core/json.h"
#include "train/judge/scores.h"

namespace unfurl::train {

struct JudgementPage {
  std::string title;
  std::string image_side;                                  // its name and version
  std::string inference;                                   // what the intervals are over
  std::vector<std::pair<std::string, std::string>> about;  // of the systems
  Bootstrap bootstrap;
  std::vector<std::string> models;  // the systems that are models at their standard temperature
  std::vector<std::string> prefixes;
};

struct Judgement {
  Json json;
  std::string text;
  std::string html;
};

/// `units` have the same systems; tables of a query's type are made of the first.
Judgement show_judgement(const std::vector<Scores>& units, const std::vector<Tested>& tested,
                         const JudgementPage& page);

}  // namespace unfurl::train
