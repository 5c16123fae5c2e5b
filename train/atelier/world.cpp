#include "train/atelier/world.h"

#include <fmt/format.h>

#include "core/error.h"
#include "core/files.h"
#include "train/recipe/document.h"

namespace unfurl::train::atelier {

void describe(Schema& schema, WorldConfig::Text& text);
void describe(Schema& schema, WorldConfig::Flavors& flavor);
void describe(Schema& schema, WorldConfig::Image& image);
void describe(Schema& schema, WorldConfig::Corpus& corpus);

void describe(Schema& schema, WorldConfig::Text& text) {
  schema.field("tokens", text.tokens, "what is behind is not seen; begin and end count", between(8, 4096));
  schema.field("salience_tokens", text.salience_tokens, "a word so many tokens in weighs 1/e of the first", positive());
  schema.field("repeat", text.repeat, "a repetition adds so much of the one before", between(0, 0.95));
}

void describe(Schema& schema, WorldConfig::Flavors& flavor) {
  schema.field("rendered_share", flavor.rendered_share, "flavors that a generator can show", between(0.01, 0.99));
  schema.field("mean_taste", flavor.mean_taste, "of a flavor, in standard deviations", between(-10, 10));
  schema.field("wrong_content", flavor.wrong_content, "how far one that is not shown draws the content away",
               between(0, 10));
  schema.field("bias", flavor.bias, "standard deviation of the inverter's liking for a flavor", between(0, 10));
}

void describe(Schema& schema, WorldConfig::Image& image) {
  schema.field("noise", image.noise, "of a seed; a content has length 1", between(0, 10));
  schema.field("text_error", image.text_error, "of an embedder's reading of a word, which has length 1",
               between(0, 10));
  schema.field("artefact_weight", image.artefact_weight, "points that an artefact of weight 1 costs at kappa 1",
               between(0, 10));
}

void describe(Schema& schema, WorldConfig::Corpus& corpus) {
  schema.field("proxy_correlation", corpus.proxy_correlation, "of the proxy that keeps images with taste",
               between(0, 1));
  schema.field("keep", corpus.keep, "share of the corpus images kept", between(0.01, 1));
}

void describe(Schema& schema, WorldConfig& config) {
  schema.field("name", config.name, "what messages call the world");
  schema.field("seed", config.seed, "another seed is another world of the same kind", at_least(0));
  schema.field("kappa", config.kappa, "how much artefacts displease", between(0, 100));
  schema.field("rho", config.rho, "correlation of taste and renderability over flavors", between(-0.86, 0.86));
  schema.field("embedding_size", config.embedding_size, "numbers in an embedding", between(8, 4096));
  schema.paths("words", config.words, "files of further known words");
  schema.paths("flavors", config.flavors, "files of further flavors, one a line");
  schema.group("text", config.text, "how a text is read");
  schema.group("flavor", config.flavor, "how flavors are drawn");
  schema.group("image", config.image, "how images are made and seen");
  schema.group("corpus", config.corpus, "how corpus images are kept");
}

WorldConfig load_world(const std::filesystem::path& file, const std::vector<std::string>& sets) {
  WorldConfig config;
  Schema schema;
  describe(schema, config);
  Node document = load_document(file);
  set_values(document, sets, file.string());
  schema.read(document);
  check(config);
  return config;
}

void check(const WorldConfig& config) {
  if (!(config.rho >= -0.86 && config.rho <= 0.86)) {
    user_error("a world's rho must be from -0.86 to 0.86, got {:g}: taste cannot follow two generators more closely",
               config.rho);
  }
}

std::string described(const WorldConfig& config) {
  WorldConfig copy = config;
  Schema schema;
  describe(schema, copy);
  std::string all = to_yaml(schema.write());
  for (const std::vector<std::string>* const files : {&config.words, &config.flavors}) {
    for (const std::string& file : *files) all += read_file(file) + '\0';
  }
  return fmt::format("{}, seed {}, kappa {:g}, rho {:g}, {:016x}", config.name, config.seed, config.kappa, config.rho,
                     hash_bytes(all));
}

}  // namespace unfurl::train::atelier
