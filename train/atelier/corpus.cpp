#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstdio>

#include "core/error.h"
#include "core/json.h"
#include "core/safetensors.h"
#include "train/atelier/commands.h"
#include "train/corpus/grammar.h"

namespace unfurl::train::atelier {
namespace {

constexpr std::uint64_t kStandard = 512;  // pictures by which taste is standardised

struct Candidate {
  std::string caption;
  std::vector<std::string> flavors;
  Picture picture;
};

class Candidates {
 public:
  explicit Candidates(Model& model) : model_(model), grammar_([](std::string_view) { return true; }) {
    double sum = 0, squares = 0;
    for (std::uint64_t i = 0; i < kStandard; ++i) {
      const double taste = model_.taste(make(i).picture);
      sum += taste;
      squares += taste * taste;
    }
    mean_ = sum / kStandard;
    deviation_ = std::sqrt(std::max(squares / kStandard - mean_ * mean_, 1e-12));
  }

  Candidate make(std::uint64_t i) {
    Candidate made;
    made.caption = caption(i);
    made.flavors = flavors(i, topic(made.caption));
    made.picture = model_.natural(made.caption, made.flavors, i);
    return made;
  }

  /// Standard normal, and correlated with taste as the world says.
  double proxy(const Candidate& candidate, std::uint64_t i) const {
    const double follow = model_.config().corpus.proxy_correlation;
    return follow * (model_.taste(candidate.picture) - mean_) / deviation_ +
           std::sqrt(1 - follow * follow) * normal(model_.config().seed, Draws::corpus_proxy, i);
  }

 private:
  Draw draw(Draws what, std::uint64_t i) const {
    return {static_cast<std::uint64_t>(model_.config().seed), static_cast<std::uint32_t>(what), i};
  }

  /// The content of a scene of the grammar, said without a flavor.
  std::string caption(std::uint64_t i) {
    Draw scene = draw(Draws::corpus_scene, i);
    while (true) {
      const std::vector<Pair> pairs = grammar_.scene(scene);
      const std::size_t first = scene.below(pairs.size());
      for (std::size_t k = 0; k < pairs.size(); ++k) {
        const Pair& pair = pairs[(first + k) % pairs.size()];
        const std::string tail = fmt::format(", {}", fmt::join(pair.flavors, ", "));
        if (pair.flavors.empty() || !pair.prompt.ends_with(tail)) continue;
        std::string content = pair.prompt.substr(0, pair.prompt.size() - tail.size());
        const auto read = model_.lexicon().read(content);
        const bool flavored =
            std::any_of(read.begin(), read.end(), [](const auto& c) { return c.kind == Concept::Kind::flavor; });
        if (!flavored && !read.empty()) return content;
      }
    }
  }

  /// The kind of the first thing that is shown.
  std::string topic(const std::string& text) const {
    for (const Concept& said : model_.lexicon().read(text)) {
      std::string kind = said.kind == Concept::Kind::word ? model_.lexicon().kind_of(said.text) : std::string();
      if (!kind.empty()) return kind;
    }
    return "none";
  }

  /// Three to nine, each with a probability that grows with its popularity and how it goes with the topic.
  std::vector<std::string> flavors(std::uint64_t i, const std::string& of) {
    std::vector<double>& weights = weights_[of];
    if (weights.empty()) {
      for (const Flavor& flavor : model_.flavors()) {
        const std::uint64_t id = hash_bytes(of + '\n' + flavor.name);
        weights.push_back(flavor.popularity * std::exp(normal(model_.config().seed, Draws::topic_affinity, id)));
      }
    }
    Draw drawn = draw(Draws::corpus_flavors, i);
    // The k smallest of exponential times with these rates are k draws without replacement.
    std::vector<std::pair<double, std::size_t>> times;
    for (std::size_t f = 0; f < weights.size(); ++f) {
      times.emplace_back(-std::log((drawn.bits() + 0.5) * 0x1p-32) / weights[f], f);
    }
    const std::size_t count = std::min(drawn.between(3, 9), times.size());
    std::partial_sort(times.begin(), times.begin() + static_cast<std::ptrdiff_t>(count), times.end());
    std::vector<std::string> out;
    for (std::size_t k = 0; k < count; ++k) out.push_back(model_.flavors()[times[k].second].name);
    return out;
  }

  Model& model_;
  Grammar grammar_;
  std::unordered_map<std::string, std::vector<double>> weights_;
  double mean_ = 0, deviation_ = 1;
};

void write_embeddings(const std::filesystem::path& path, const std::vector<SafetensorsWriter::Header>& tensors,
                      const std::vector<const Vector*>& values, const FileMetadata& metadata) {
  SafetensorsWriter file(path, tensors, metadata);
  for (const Vector* const part : values) file.write(part->data(), part->size() * sizeof(float));
  file.commit();
}

}  // namespace

void run_corpus(Model& model, const CorpusOptions& options) {
  if (options.images < 1 || options.images > 10'000'000) {
    user_error("--images must be between 1 and 10000000, got {}", options.images);
  }
  make_folder(options.out);
  const WorldConfig& world = model.config();
  const FileMetadata metadata{{"simulated", "true"}, {"world", described(world)}, {"embedder", "invert"}};
  const double least = normal_quantile(1 - world.corpus.keep);
  Candidates candidates(model);
  FileWriter images(options.out / "images.jsonl"), truth(options.out / "truth.jsonl");
  Vector seen, captions;
  std::uint64_t drawn = 0;
  std::int64_t kept = 0;
  double taste_all = 0, taste_kept = 0;
  for (; kept < options.images; ++drawn) {
    const Candidate candidate = candidates.make(drawn);
    const double proxy = candidates.proxy(candidate, drawn), taste = model.taste(candidate.picture);
    taste_all += taste;
    if (proxy < least) continue;
    taste_kept += taste;
    const std::string id = fmt::format("simulated-{:07}", drawn);
    const Json line(Json::Object{
        {"id", id}, {"caption", candidate.caption}, {"source", "natural"}, {"simulated", true}, {"world", world.name}});
    images.write(line.dump() + '\n');
    Json::Array flavors(candidate.flavors.begin(), candidate.flavors.end());
    truth.write(
        Json(Json::Object{{"id", id}, {"flavors", std::move(flavors)}, {"proxy", proxy}, {"simulated", true}}).dump() +
        '\n');
    const Vector image = model.embed(Embedder::invert, candidate.picture);
    const Vector caption = model.embed(Embedder::invert, candidate.caption);
    seen.insert(seen.end(), image.begin(), image.end());
    captions.insert(captions.end(), caption.begin(), caption.end());
    ++kept;
  }
  write_embeddings(options.out / "images.safetensors",
                   {{"embeddings", FileDType::F32, {kept, world.embedding_size}},
                    {"captions", FileDType::F32, {kept, world.embedding_size}}},
                   {&seen, &captions}, metadata);
  Vector flavors;
  std::string list;
  for (const Flavor& flavor : model.flavors()) {
    const Vector text = model.embed(Embedder::invert, flavor.name);
    flavors.insert(flavors.end(), text.begin(), text.end());
    list += flavor.name + '\n';
  }
  write_embeddings(options.out / "flavors.safetensors",
                   {{"embeddings", FileDType::F32, {static_cast<Index>(model.flavors().size()), world.embedding_size}}},
                   {&flavors}, metadata);
  write_file(options.out / "flavors.txt", list);
  images.commit();
  truth.commit();
  fmt::print("simulated corpus of world {}\n", described(world));
  fmt::print(
      "{} simulated images kept of {}, by a proxy that correlates {:g} with simulated taste: mean {:.3f}, of all "
      "{:.3f}\n",
      kept, drawn, world.corpus.proxy_correlation, taste_kept / static_cast<double>(kept),
      taste_all / static_cast<double>(drawn));
  fmt::print("{} flavors -> {}\n", model.flavors().size(), options.out.string());
}

}  // namespace unfurl::train::atelier
