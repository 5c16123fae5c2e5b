// Everything that a world draws: pure functions of (seed, purpose, what it is drawn for).
#pragma once
#include <cstdint>
#include <span>
#include <vector>

namespace unfurl::train::atelier {

/// What is drawn; each has numbers of its own. Those of one kind for two generators or four embedders follow one
/// another.
enum class Draws : std::uint32_t {
  word = 0xA7000000,
  binding,
  wrong_word,
  flavor_style,
  flavor_taste,
  flavor_popularity,
  topic_affinity,
  inverter_bias,
  renders_shared,
  artefact,
  taste_direction,
  taste_hidden,
  taste_readout,
  image_noise,
  corpus_scene,
  corpus_flavors,
  corpus_noise,
  corpus_proxy,
  calibration,
  renders_own = 0xA7000100,   // + generator
  wrong_style = 0xA7000110,   // + generator
  embedder_map = 0xA7000120,  // + embedder
  embedder_gap = 0xA7000130,
  embedder_text = 0xA7000140,
  embedder_aspects = 0xA7000150,
};
inline Draws operator+(Draws draws, int place) {
  return static_cast<Draws>(static_cast<std::uint32_t>(draws) + static_cast<std::uint32_t>(place));
}

using Vector = std::vector<float>;

/// Standard normal numbers, addressed by `what`.
Vector normals(std::int64_t seed, Draws draws, std::uint64_t what, std::size_t count);
double normal(std::int64_t seed, Draws draws, std::uint64_t what);
/// A direction of length 1.
Vector direction(std::int64_t seed, Draws draws, std::uint64_t what, std::size_t size);

/// A random map that keeps lengths, as `rows` rows of `columns` numbers; where it has fewer rows than columns, it keeps
/// them on average.
std::vector<Vector> rotation(std::int64_t seed, Draws draws, std::size_t rows, std::size_t columns);

/// The number that a standard normal one is below with this probability.
double normal_quantile(double probability);

float dot(std::span<const float> a, std::span<const float> b);
float length(std::span<const float> a);
/// to += scale * from
void add(std::span<float> to, std::span<const float> from, double scale = 1);
/// Leaves zeros alone.
void normalize(std::span<float> a);

}  // namespace unfurl::train::atelier
