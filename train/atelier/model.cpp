#include "train/atelier/model.h"

#include <cmath>

#include "core/error.h"
#include "core/files.h"

namespace unfurl::train::atelier {
namespace {

constexpr double kStyleLength = 2;   // many flavors together are not much longer
constexpr double kStyleTaste = 0.5;  // how far a flavor of taste 1 goes into the direction of taste
// Weight of style and artefacts in an embedding, where content has 1: the inverter's eye is for style.
constexpr std::array<float, 3> kStyleSeen = {1, 0.3f, 0.3f};
constexpr double kAspects =
    0.4;  // how differently an embedder weighs what it sees, in standard deviations of a logarithm
constexpr double kBound = 0.7;                // weight of an adjective beside its noun
constexpr double kKind = 0.6;                 // share of a noun's kind in its meaning
constexpr double kGap = 0.3;                  // what all images have in common in an embedding, and all texts
constexpr std::size_t kHidden = 24;           // of taste
constexpr std::size_t kRemembered = 200'000;  // meanings

}  // namespace

std::vector<std::string> names(Embedder) { return {"invert", "filter", "judge"}; }

Model::Model(WorldConfig config) : config_(std::move(config)), lexicon_(config_) {
  check(config_);
  draw_flavors();
  draw_eyes();
}

void Model::draw_flavors() {
  const std::int64_t seed = config_.seed;
  taste_direction_ = direction(seed, Draws::taste_direction, 0, kStyleSize);
  const double least = normal_quantile(1 - config_.flavor.rendered_share);
  // Two generators with correlation 1/2: their mean correlates with each by sqrt(3/4), and taste follows that mean.
  const double follow = config_.rho / std::sqrt(0.75);
  for (const std::string& name : lexicon_.flavors()) {
    const std::uint64_t id = hash_bytes(name);
    Flavor flavor;
    flavor.name = name;
    flavor.popularity = std::exp(1.2 * normal(seed, Draws::flavor_popularity, id));
    flavor.bias = config_.flavor.bias * normal(seed, Draws::inverter_bias, id);
    double mean = 0;
    for (int g = 0; g < kGenerators; ++g) {
      const auto at = static_cast<std::size_t>(g);
      flavor.renderability[at] = std::sqrt(0.5) * normal(seed, Draws::renders_shared, id) +
                                 std::sqrt(0.5) * normal(seed, Draws::renders_own + g, id);
      flavor.rendered[at] = flavor.renderability[at] > least;
      mean += flavor.renderability[at] / std::sqrt(3.0);
    }
    flavor.taste = config_.flavor.mean_taste + follow * mean +
                   std::sqrt(1 - follow * follow) * normal(seed, Draws::flavor_taste, id);
    const auto look = [&](Draws draws) {
      Vector style = direction(seed, draws, id, kStyleSize);
      add(style, taste_direction_, -dot(style, taste_direction_));
      normalize(style);
      add(style, taste_direction_, kStyleTaste * flavor.taste);
      return style;
    };
    flavor.style = look(Draws::flavor_style);
    for (int g = 0; g < kGenerators; ++g)
      flavor.wrong_style[static_cast<std::size_t>(g)] = look(Draws::wrong_style + g);
    flavor.wrong_content = direction(seed, Draws::artefact, ~id, kContentSize);
    flavor.artefact = direction(seed, Draws::artefact, id, kArtefactSize);
    for (float& value : flavor.artefact) value = std::abs(value);  // artefacts add up
    places_.emplace(name, flavors_.size());
    flavors_.push_back(std::move(flavor));
  }
}

void Model::draw_eyes() {
  const auto size = static_cast<std::size_t>(config_.embedding_size);
  for (int e = 0; e < 3; ++e) {
    Eye& eye = eyes_[static_cast<std::size_t>(e)];
    eye.map = rotation(config_.seed, Draws::embedder_map + e, size, kImageSize);
    const Vector aspects = normals(config_.seed, Draws::embedder_aspects + e, 0, kImageSize);
    for (Vector& row : eye.map) {
      for (std::size_t i = 0; i < kImageSize; ++i) {
        row[i] *= std::exp(static_cast<float>(kAspects) * aspects[i]);
        if (i >= kContentSize) row[i] *= kStyleSeen[static_cast<std::size_t>(e)];
      }
    }
    eye.gap_image = direction(config_.seed, Draws::embedder_gap + e, 0, size);
    eye.gap_text = direction(config_.seed, Draws::embedder_gap + e, 1, size);
  }
  for (std::size_t row = 0; row < kHidden; ++row) {
    hidden_.push_back(normals(config_.seed, Draws::taste_hidden, row, kContentSize + kStyleSize));
  }
  readout_ = direction(config_.seed, Draws::taste_readout, 0, kHidden);
}

Vector Model::made_meaning(const Concept& said) {
  const std::int64_t seed = config_.seed;
  const auto word = [&](const std::string& text) {
    Vector own = direction(seed, Draws::word, hash_bytes(text), kContentSize);
    const std::string kind = lexicon_.kind_of(text);
    if (kind.empty()) return own;
    Vector both = direction(seed, Draws::word, hash_bytes("kind " + kind), kContentSize);
    for (float& value : both) value *= static_cast<float>(kKind);
    add(both, own, std::sqrt(1 - kKind * kKind));
    normalize(both);
    return both;
  };
  switch (said.kind) {
    case Concept::Kind::flavor:
      return flavor(said.text).style;
    case Concept::Kind::word:
      return word(said.text);
    case Concept::Kind::unknown:
      return direction(seed, Draws::word, said.id(), kContentSize);
    case Concept::Kind::bound: {
      Vector made = word(said.text);
      const Vector noun = word(said.noun);
      // The product of two directions is near to neither.
      for (std::size_t i = 0; i < made.size(); ++i) {
        made[i] = 0.5f * made[i] + noun[i] * made[i] * std::sqrt(static_cast<float>(kContentSize));
      }
      normalize(made);
      for (float& value : made) value *= static_cast<float>(kBound);
      return made;
    }
    case Concept::Kind::idea: {
      Vector made(kContentSize, 0.0f);
      for (const std::string& scene : lexicon_.scenes(said.text)) {
        Vector shown(kContentSize, 0.0f);
        for (const Concept& part : lexicon_.read(scene)) {
          if (part.kind != Concept::Kind::flavor && part.kind != Concept::Kind::idea) {
            add(shown, made_meaning(part), part.weight);
          }
        }
        normalize(shown);
        add(made, shown);
      }
      normalize(made);
      add(made, direction(seed, Draws::word, said.id(), kContentSize), 0.6);
      normalize(made);
      return made;
    }
  }
  fail("Model: a concept of no kind");
}

/// Reader 0 is the world itself, 1 + e the embedder e, who errs.
const Vector& Model::meaning(const Concept& said, int reader) {
  auto& known = meanings_[static_cast<std::size_t>(reader)];
  const std::uint64_t id = said.id();
  const auto found = known.find(id);
  if (found != known.end()) return found->second;
  Vector made = made_meaning(said);
  if (reader > 0) {
    const double size = length(made);
    add(made, direction(config_.seed, Draws::embedder_text + (reader - 1), id, made.size()),
        config_.image.text_error * size);
  }
  if (known.size() >= kRemembered) known.clear();
  return known.emplace(id, std::move(made)).first->second;
}

/// Content of length 1, where there is any; style that saturates.
void Model::settle(Picture& picture) {
  normalize(picture.content());
  const double size = length(picture.style());
  const auto factor = static_cast<float>(1 / std::sqrt(1 + size * size / (kStyleLength * kStyleLength)));
  for (float& value : picture.style()) value *= factor;
}

void Model::add_noise(Picture& picture, Draws draws, std::uint64_t what) const {
  const Vector noise = normals(config_.seed, draws, what, kContentSize + kStyleSize);
  const double scale = config_.image.noise / std::sqrt(static_cast<double>(noise.size()));
  for (std::size_t i = 0; i < noise.size(); ++i) picture.values[i] += static_cast<float>(scale) * noise[i];
}

Picture Model::render(std::string_view prompt, int generator, std::uint64_t seed) {
  require(generator == 1 || generator == 2, "Model::render: there is no generator {}", generator);
  const auto g = static_cast<std::size_t>(generator - 1);
  Picture picture;
  for (const Concept& said : lexicon_.read(prompt)) {
    switch (said.kind) {
      case Concept::Kind::flavor: {
        const Flavor& how = flavor(said.text);
        add(picture.style(), how.rendered[g] ? how.style : how.wrong_style[g], said.weight);
        if (how.rendered[g]) break;
        add(picture.content(), how.wrong_content, said.weight * config_.flavor.wrong_content);
        add(picture.artefacts(), how.artefact, said.weight);
        break;
      }
      case Concept::Kind::unknown:  // shown as something that it does not mean
        add(picture.content(), direction(config_.seed, Draws::wrong_word, said.id(), kContentSize), said.weight);
        break;
      default:
        add(picture.content(), meaning(said, 0), said.weight);
    }
  }
  settle(picture);
  const std::uint64_t drawn[] = {hash_bytes(prompt), seed, static_cast<std::uint64_t>(generator)};
  add_noise(picture, Draws::image_noise, hash_bytes({reinterpret_cast<const char*>(drawn), sizeof drawn}));
  return picture;
}

Picture Model::natural(std::string_view text, const std::vector<std::string>& flavors, std::uint64_t seed) {
  Picture picture;
  for (const Concept& said : lexicon_.read(text)) {
    if (said.kind != Concept::Kind::flavor) add(picture.content(), meaning(said, 0), said.weight);
  }
  for (const std::string& name : flavors) add(picture.style(), flavor(name).style);
  settle(picture);
  add_noise(picture, Draws::corpus_noise, seed);
  return picture;
}

Vector Model::embed(Embedder embedder, const Picture& picture) const {
  const Eye& eye = eyes_[static_cast<std::size_t>(embedder)];
  Vector out;
  out.reserve(eye.map.size());
  for (const Vector& row : eye.map) out.push_back(dot(row, picture.values));
  add(out, eye.gap_image, kGap);
  normalize(out);
  return out;
}

Vector Model::embed(Embedder embedder, std::string_view text) {
  const Eye& eye = eyes_[static_cast<std::size_t>(embedder)];
  Picture asked;
  double bias = 0;
  for (const Concept& said : lexicon_.read(text)) {
    const bool is_flavor = said.kind == Concept::Kind::flavor;
    add(is_flavor ? asked.style() : asked.content(), meaning(said, 1 + static_cast<int>(embedder)), said.weight);
    if (is_flavor && embedder == Embedder::invert) bias += said.weight * flavor(said.text).bias;
  }
  settle(asked);
  Vector out;
  out.reserve(eye.map.size());
  for (const Vector& row : eye.map) out.push_back(dot(row, asked.values));
  add(out, eye.gap_text, kGap);
  add(out, eye.gap_image, bias);  // what all images have, the inverter likes in some flavors
  normalize(out);
  return out;
}

double Model::taste(const Picture& picture) const {
  double hidden = 0;
  const std::span<const float> shown(picture.values.data(), kContentSize + kStyleSize);
  for (std::size_t i = 0; i < kHidden; ++i) hidden += readout_[i] * std::tanh(dot(hidden_[i], shown));
  const double artefacts = length(picture.artefacts());
  return 5 + std::tanh(static_cast<double>(dot(taste_direction_, picture.style()))) + 0.5 * hidden -
         config_.kappa * config_.image.artefact_weight * artefacts;
}

}  // namespace unfurl::train::atelier
