#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <map>
#include <numbers>
#include <set>

#include "core/error.h"
#include "core/files.h"
#include "core/json.h"
#include "core/safetensors.h"
#include "train/atelier/commands.h"
#include "train/corpus/grammar.h"
#include "train/corpus/images.h"
#include "train/corpus/words.h"

namespace unfurl::train::atelier {
namespace {

constexpr std::uint64_t kStandard = 512;  // pictures by which taste is standardised
constexpr std::uint64_t kTaught = 2048;   // pictures that the aesthetic head is taught by

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

/// One tensor, "embeddings", of rows of the same size.
void write_rows(const std::filesystem::path& path, const Vector& rows, const WorldConfig& world) {
  const auto count = static_cast<Index>(rows.size()) / world.embedding_size;
  SafetensorsWriter file(path, {{"embeddings", FileDType::F32, {count, world.embedding_size}}},
                         {{"simulated", "true"}, {"world", described(world)}, {"embedder", "invert"}});
  file.write(rows.data(), rows.size() * sizeof(float));
  file.commit();
}

/// Least squares of y by the rows of x and a constant, with a small ridge: the weights, then the constant.
std::vector<double> fitted(const std::vector<Vector>& x, const std::vector<double>& y) {
  const std::size_t n = x.front().size() + 1;
  std::vector<double> a(n * n, 0.0), b(n, 0.0);
  for (std::size_t r = 0; r < x.size(); ++r) {
    const auto at = [&](std::size_t i) { return i + 1 < n ? static_cast<double>(x[r][i]) : 1.0; };
    for (std::size_t i = 0; i < n; ++i) {
      for (std::size_t j = 0; j <= i; ++j) a[i * n + j] += at(i) * at(j);
      b[i] += at(i) * y[r];
    }
  }
  // Cholesky, in place, then the two triangles.
  for (std::size_t i = 0; i < n; ++i) {
    a[i * n + i] += 1e-3;
    for (std::size_t j = 0; j <= i; ++j) {
      double sum = a[i * n + j];
      for (std::size_t k = 0; k < j; ++k) sum -= a[i * n + k] * a[j * n + k];
      a[i * n + j] = i == j ? std::sqrt(sum) : sum / a[j * n + j];
    }
  }
  for (std::size_t i = 0; i < n; ++i) {
    for (std::size_t k = 0; k < i; ++k) b[i] -= a[i * n + k] * b[k];
    b[i] /= a[i * n + i];
  }
  for (std::size_t i = n; i-- > 0;) {
    for (std::size_t k = i + 1; k < n; ++k) b[i] -= a[k * n + i] * b[k];
    b[i] /= a[i * n + i];
  }
  return b;
}

/// A linear aesthetic head over the inverter's embeddings, as good as one can be that was taught by the proxy.
void write_head(const std::filesystem::path& path, Model& model, Candidates& candidates) {
  std::vector<Vector> seen;
  std::vector<double> points;
  for (std::uint64_t i = 0; i < kTaught; ++i) {
    const Candidate candidate = candidates.make(i);
    seen.push_back(model.embed(Embedder::invert, candidate.picture));
    points.push_back(5 + candidates.proxy(candidate, i));
  }
  const std::vector<double> head = fitted(seen, points);
  const Vector values(head.begin(), head.end());
  SafetensorsWriter file(
      path, {{"weight", FileDType::F32, {1, model.config().embedding_size}}, {"bias", FileDType::F32, {1}}},
      {{"simulated", "true"}, {"world", described(model.config())}});
  file.write(values.data(), values.size() * sizeof(float));
  file.commit();
}

/// NAME.txt and NAME.safetensors of every list of flavors: all of them, and those kinds that have a list of their own.
void write_flavors(const std::filesystem::path& folder, Model& model) {
  std::map<std::string, std::set<std::string>> lists;
  for (const Flavor& flavor : model.flavors()) lists["flavors"].insert(flavor.name);
  for (const WordSection& section : word_file("flavors")) {
    for (const std::string_view entry : section.entries) {
      const bool artist = entry.starts_with("in the style of");
      const bool lead = section.name.starts_with("lead ");
      const char* const kind = artist                                      ? "artists"
                               : lead || section.name.starts_with("name ") ? "mediums"
                               : section.name == "style painting"          ? "movements"
                               : section.name == "quality"                 ? "trendings"
                                                                           : nullptr;
      if (kind == nullptr) continue;
      lists[kind].insert(Lexicon::plain(lead && entry.ends_with(" of") ? entry.substr(0, entry.size() - 3) : entry));
    }
  }
  for (const auto& [name, phrases] : lists) {
    Vector rows;
    std::string text;
    for (const std::string& phrase : phrases) {
      const Vector row = model.embed(Embedder::invert, phrase);
      rows.insert(rows.end(), row.begin(), row.end());
      text += phrase + '\n';
    }
    write_rows(folder / (name + ".safetensors"), rows, model.config());
    write_file(folder / (name + ".txt"), text);
  }
}

}  // namespace

void run_corpus(Model& model, const CorpusOptions& options) {
  if (options.images < 1 || options.images > 10'000'000) {
    user_error("--images must be between 1 and 10000000, got {}", options.images);
  }
  make_folder(options.out);
  const WorldConfig& world = model.config();
  const double least = normal_quantile(1 - world.corpus.keep);
  Candidates candidates(model);
  FileWriter images(options.out / "images.jsonl"), truth(options.out / "truth.jsonl"),
      votes(options.out / "votes.jsonl");
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
    const auto write = [&](FileWriter& file, Json::Object rest) {
      Json::Object line{{"id", fmt::format("simulated-{:07}", drawn)}};
      line.insert(line.end(), std::make_move_iterator(rest.begin()), std::make_move_iterator(rest.end()));
      line.emplace_back("simulated", true);
      file.write(Json(std::move(line)).dump() + '\n');
    };
    write(images, {{"caption", candidate.caption}, {"source", drawn % 3 == 2 ? "generated" : "natural"}});
    write(truth, {{"flavors", Json::Array(candidate.flavors.begin(), candidate.flavors.end())}, {"proxy", proxy}});
    // Ten people have seen it, and the share that likes it grows with the proxy.
    const auto likes = static_cast<std::int64_t>(std::lround(10 * 0.5 * std::erfc(-proxy / std::numbers::sqrt2)));
    write(votes, {{"likes", likes}, {"dislikes", 10 - likes}});
    const Vector image = model.embed(Embedder::invert, candidate.picture);
    const Vector caption = model.embed(Embedder::invert, candidate.caption);
    seen.insert(seen.end(), image.begin(), image.end());
    captions.insert(captions.end(), caption.begin(), caption.end());
    ++kept;
  }
  write_rows(options.out / "images.safetensors", seen, world);
  write_rows(options.out / "captions.safetensors", captions, world);
  write_flavors(options.out, model);
  write_head(options.out / "head.safetensors", model, candidates);
  votes.commit();
  truth.commit();
  images.commit();
  fmt::print("simulated corpus of world {}\n", described(world));
  fmt::print(
      "{} simulated images kept of {}, by a proxy that correlates {:g} with simulated taste: mean {:.3f}, of all "
      "{:.3f}\n",
      kept, drawn, world.corpus.proxy_correlation, taste_kept / static_cast<double>(kept),
      taste_all / static_cast<double>(drawn));
  fmt::print("{} flavors -> {}\n", model.flavors().size(), options.out.string());
}

void run_captions(Model& model, const CaptionsOptions& options) {
  require_other_file(options.out, options.images);
  const ImageList list = read_images(options.images, 0);
  Vector rows;
  for (const ImageRecord& image : list.images) {
    if (image.caption.empty()) user_error("{}: image \"{}\" has no caption", options.images.string(), image.id);
    const Vector row = model.embed(Embedder::invert, image.caption);
    rows.insert(rows.end(), row.begin(), row.end());
  }
  write_rows(options.out, rows, model.config());
  fmt::print("{} simulated embeddings of captions -> {}\n", list.images.size(), options.out.string());
}

}  // namespace unfurl::train::atelier
