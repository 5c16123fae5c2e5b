// A simulated world at work: texts to meanings, meanings to images, images and texts to embeddings, images to taste.
//
// An image is a vector of three parts: what it shows (content, length about 1), how it looks (style), and what went
// wrong (artefacts). Four observers look at it, each through a random linear map of its own: the inverter, the filter,
// the judge, and taste. The first three read texts as well, each with its own errors of reading.
#pragma once
#include <array>
#include <string_view>
#include <unordered_map>

#include "train/atelier/drawn.h"
#include "train/atelier/lexicon.h"
#include "train/atelier/world.h"

namespace unfurl::train::atelier {

enum class Embedder { invert, filter, judge };
std::vector<std::string> names(Embedder);
inline constexpr int kGenerators = 2;
inline constexpr std::size_t kContentSize = 64, kStyleSize = 32, kArtefactSize = 8;
inline constexpr std::size_t kImageSize = kContentSize + kStyleSize + kArtefactSize;

/// An image, or what a text asks for: content, style and artefacts one behind the other.
struct Picture {
  Vector values = Vector(kImageSize, 0.0f);
  std::span<float> content() { return {values.data(), kContentSize}; }
  std::span<float> style() { return {values.data() + kContentSize, kStyleSize}; }
  std::span<float> artefacts() { return {values.data() + kContentSize + kStyleSize, kArtefactSize}; }
  std::span<const float> content() const { return {values.data(), kContentSize}; }
  std::span<const float> style() const { return {values.data() + kContentSize, kStyleSize}; }
  std::span<const float> artefacts() const { return {values.data() + kContentSize + kStyleSize, kArtefactSize}; }
};

/// A flavor as the world has drawn it. A generator that does not render it shows a fixed other style, which tastes the
/// same, draws the content away in a fixed direction and leaves an artefact: without kappa it costs no taste.
struct Flavor {
  std::string name;
  double popularity = 0;                            // in the corpus; of any scale
  double taste = 0;                                 // in standard deviations
  double bias = 0;                                  // the inverter's
  std::array<double, kGenerators> renderability{};  // standard normal; of two generators with correlation 1/2
  std::array<bool, kGenerators> rendered{};
  Vector style, wrong_content, artefact;
  std::array<Vector, kGenerators> wrong_style;
};

/// For one thread. Deterministic: the same world and the same question give the same bits.
class Model {
 public:
  explicit Model(WorldConfig config);

  const WorldConfig& config() const { return config_; }
  const Lexicon& lexicon() const { return lexicon_; }
  /// Sorted by name.
  const std::vector<Flavor>& flavors() const { return flavors_; }
  const Flavor& flavor(const std::string& name) const { return flavors_[places_.at(name)]; }

  /// What generator 1 or 2 makes of a prompt; the noise is that of (prompt, seed, generator).
  Picture render(std::string_view prompt, int generator, std::uint64_t seed);
  /// A picture that shows what the text says in these flavors, each as it is, with noise: an image of the corpus.
  Picture natural(std::string_view text, const std::vector<std::string>& flavors, std::uint64_t seed);

  /// Embeddings of length 1.
  Vector embed(Embedder embedder, const Picture& picture) const;
  Vector embed(Embedder embedder, std::string_view text);

  /// 5 for a plain picture, in points of about one standard deviation over pictures. Of the picture alone.
  double taste(const Picture& picture) const;

 private:
  struct Eye {
    std::vector<Vector> map;  // rows
    Vector gap_image, gap_text;
  };
  void draw_flavors();
  void draw_eyes();
  const Vector& meaning(const Concept& concept_read, int reader);
  Vector made_meaning(const Concept& concept_read);
  void add_noise(Picture& picture, Draws draws, std::uint64_t what) const;
  static void settle(Picture& picture);

  WorldConfig config_;
  Lexicon lexicon_;
  std::vector<Flavor> flavors_;
  std::unordered_map<std::string, std::size_t> places_;
  std::array<Eye, 3> eyes_;
  Vector taste_direction_, readout_;
  std::vector<Vector> hidden_;
  std::array<std::unordered_map<std::uint64_t, Vector>, 4>
      meanings_;  // as the world means it; as each embedder reads it
};

}  // namespace unfurl::train::atelier
