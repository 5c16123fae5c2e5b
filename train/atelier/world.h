// A simulated world: what words mean, what flavors look like, which of them a generator can show, and what is
// beautiful. It stands in for image generator, embedders and people where there are none; nothing in it is real, and no
// part of the training reads it. All of it is a pure function of a YAML file.
#pragma once
#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "train/recipe/schema.h"

namespace unfurl::train::atelier {

struct WorldConfig {
  std::string name = "default";
  std::int64_t seed = 1;
  double kappa = 1;  // how much artefacts displease: 0, 1, 2 and 4 are the worlds of the experiments
  double rho = 0;    // correlation, over flavors, of taste and renderability
  std::int64_t embedding_size = 96;
  std::vector<std::string> words, flavors;  // files of further known words and flavors, one a line
  struct Text {
    std::int64_t tokens = 77;     // what is behind is not seen; begin and end count
    double salience_tokens = 40;  // a word so many tokens in weighs 1/e of the first one
    double repeat = 0.25;         // a repetition adds so much of the one before it
  } text;
  struct Flavors {
    double rendered_share = 0.65;  // of the flavors, by each generator
    double mean_taste = 0.4;       // of a flavor, in standard deviations
    double wrong_content = 0.6;    // how far a flavor that is not rendered draws the content away
    double bias = 0.3;             // standard deviation of the inverter's liking for a flavor
  } flavor;
  struct Image {
    double noise = 0.6;             // of a seed; a content has length 1
    double text_error = 0.3;        // of an embedder's reading of a word; a word has length 1
    double artefact_weight = 0.25;  // points that an artefact of weight 1 costs at kappa 1
  } image;
  struct Corpus {
    double proxy_correlation = 0.6;  // of the proxy by which images are kept, and taste
    double keep = 0.5;               // share kept
  } corpus;
};
void describe(Schema& schema, WorldConfig& config);

/// `sets` are laid over it as `--set` does. Throws UserError naming file and line, or the key.
WorldConfig load_world(const std::filesystem::path& file, const std::vector<std::string>& sets = {});
/// Throws UserError for values that are no world.
void check(const WorldConfig& config);
/// What the world depends on, in a line: "default, seed 1, kappa 1, rho 0, 0123456789abcdef".
std::string described(const WorldConfig& config);

}  // namespace unfurl::train::atelier
