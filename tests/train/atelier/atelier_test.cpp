// The program itself: what it prints, writes and answers.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstdlib>
#include <fstream>
#include <set>

#include "core/json.h"
#include "core/safetensors.h"
#include "tests/support/expect_error.h"
#include "tests/support/subprocess.h"
#include "tests/support/temporary_folder.h"
#include "train/atelier/commands.h"
#include "train/corpus/aesthetic_head.h"
#include "train/corpus/votes.h"
#include "train/image_side/image_side.h"
#include "train/image_side/protocol.h"

namespace unfurl::tests {
namespace {

namespace fs = std::filesystem;
using namespace train::atelier;

/// Where it was built, unless the environment names another place.
std::string place(const char* name, const char* built) {
  const char* elsewhere = std::getenv(name);
  return elsewhere != nullptr ? elsewhere : built;
}

const std::string kProgram = place("UNFURL_ATELIER", ATELIER_BINARY);
const fs::path kWorlds = fs::path(place("UNFURL_SOURCE", SOURCE_FOLDER)) / "recipes" / "worlds";

std::vector<std::string> atelier(std::vector<std::string> arguments) {
  arguments.insert(arguments.begin(), kProgram);
  return arguments;
}

std::vector<train::ImageRequest> requests() {
  std::vector<train::ImageRequest> made;
  for (int i = 0; i < 40; ++i) {
    made.push_back({.id = fmt::format("q{}", i),
                    .query = "an old fox",
                    .prompt = fmt::format("an old fox, {}", i % 2 == 0 ? "bokeh" : "oil painting"),
                    .seed = static_cast<std::uint64_t>(i / 4)});
  }
  return made;
}

std::vector<train::ImageAnswer> rendered(const std::string& arguments, int workers) {
  train::ImageSideConfig config;
  config.command = fmt::format("'{}' serve --world '{}' {}", kProgram, (kWorlds / "default.yaml").string(), arguments);
  config.workers = workers;
  config.batch = 7;
  train::ImageSide side(config);
  EXPECT_TRUE(side.hello().simulated);
  EXPECT_NE(side.hello().name.find("simulated"), std::string::npos);
  return side.render(requests());
}

TEST(Atelier, AnswersTheSameWhoeverAsksInWhateverOrder) {
  const auto one = rendered("", 1), two = rendered("--embedder filter", 2),
             judge = rendered("--embedder judge --taste", 1), other = rendered("--generator 2", 1);
  Model model(load_world(kWorlds / "default.yaml"));
  for (std::size_t i = 0; i < one.size(); ++i) {
    EXPECT_EQ(one[i].image, two[i].image);  // a judge with the filter's eyes can be asked for
    EXPECT_EQ(one[i].query, two[i].query);
    EXPECT_NE(one[i].image, judge[i].image);
    EXPECT_NE(one[i].image, other[i].image);
    EXPECT_EQ(one[i].query, other[i].query);
    EXPECT_FALSE(one[i].aesthetic.has_value());  // training gets none unless it is asked for
    const auto asked = requests()[i];
    const Picture picture = model.render(asked.prompt, 1, asked.seed);
    EXPECT_EQ(one[i].image, model.embed(Embedder::filter, picture));  // floats come back as they were
    EXPECT_EQ(judge[i].aesthetic, model.taste(picture));
  }
}

TEST(Atelier, EveryLineSaysSimulated) {
  const std::string input =
      "{\"id\":\"a\",\"query\":\"fox\",\"prompt\":\"fox\",\"seed\":1}\n\n{\"id\":3}\nnonsense\n"
      "{\"id\":\"b\",\"query\":\"\",\"prompt\":\"\",\"seed\":0}\n";
  const Finished run = run_process(atelier({"serve", "--world", (kWorlds / "null.yaml").string(), "--taste"}),
                                   {.environment = {}, .input = input});
  EXPECT_EQ(run.code, 0) << run.error;
  std::vector<std::string> lines;
  std::istringstream out(run.out);
  for (std::string line; std::getline(out, line);) lines.push_back(line);
  ASSERT_EQ(lines.size(), 5u) << run.out;
  EXPECT_NE(train::parse_hello(lines[0]).version.find("simulated world null"), std::string::npos);
  for (const std::size_t i : {1u, 4u}) {
    EXPECT_TRUE(Json::parse(lines[i]).at("simulated").as_bool());
    EXPECT_EQ(train::parse_answer(lines[i], 96).error, "");
  }
  EXPECT_NE(train::parse_answer(lines[2], 96).error.find("a request has no text \"id\""), std::string::npos)
      << lines[2];
  EXPECT_NE(train::parse_answer(lines[3], 96).error.find("a request is not JSON"), std::string::npos) << lines[3];
  const Finished told =
      run_process(atelier({"describe", "--world", (kWorlds / "default.yaml").string(), "--queries", "20"}));
  EXPECT_EQ(told.code, 0);
  EXPECT_NE(told.out.find("simulated world default"), std::string::npos);
  EXPECT_NE(told.out.find("straight"), std::string::npos);
}

TEST(Atelier, WarnsOnceOfPromptsWhoseWordsItDoesNotKnow) {
  const auto said = [](const std::string& prompt, int count) {
    testing::internal::CaptureStderr();
    {
      train::ImageSideConfig config;
      config.command = fmt::format("'{}' serve --world '{}'", kProgram, (kWorlds / "default.yaml").string());
      config.batch = 50;
      train::ImageSide side(config);
      std::vector<train::ImageRequest> asked;
      for (int i = 0; i < count; ++i) {
        asked.push_back({.id = fmt::format("{}", i), .query = "a fox", .prompt = prompt, .seed = i + 0U});
      }
      side.render(asked);
    }
    return testing::internal::GetCapturedStderr();
  };
  // Flavors are not counted; of the rest two of three words are unknown, or one of two.
  EXPECT_EQ(said("a fox, blorx, quux, oil painting, bokeh", 260),
            "warning: the image side: the simulated world does not know 67 % of the words of the first 200 prompts, "
            "which so act as wrong content; give it the prompts' own with --set words=[FILE] --set flavors=[FILE]\n");
  EXPECT_EQ(said("a fox, blorx, oil painting", 260), "");
  EXPECT_EQ(said("blorx", 199), "");
}

TEST(Atelier, MistakesAreOneLine) {
  const auto error = [](const std::vector<std::string>& arguments) {
    const Finished run = run_process(atelier(arguments));
    EXPECT_EQ(run.code, 2) << run.error;
    return run.error;
  };
  const std::string standard = (kWorlds / "default.yaml").string();
  EXPECT_NE(error({"describe", "--world", "/no/such.yaml"}).find("/no/such.yaml"), std::string::npos);
  EXPECT_NE(error({"describe", "--world", standard, "--set", "kapa=1"}).find("kappa"), std::string::npos);
  EXPECT_NE(error({"describe", "--world", standard, "--set", "rho=0.9"}).find("rho"), std::string::npos);
  EXPECT_NE(error({"serve", "--world", standard, "--generator", "3"}).find("--generator"), std::string::npos);
  EXPECT_NE(error({"serve", "--world", standard, "--set", "flavors=[/no/such.txt]"}).find("/no/such.txt"),
            std::string::npos);
  EXPECT_NE(error({"corpus", "--world", standard, "--out", "/tmp", "--images", "0"}).find("--images"),
            std::string::npos);
}

struct Corpus {
  std::vector<Json> images, truth;
  std::vector<std::string> flavors;
  std::vector<float> seen, captions, phrases;
  std::vector<double> scores, likes;
  std::size_t size = 0;
};

std::vector<float> tensor(const fs::path& path, const char* name, std::vector<Index>& shape) {
  const SafetensorsFile file(path);
  EXPECT_EQ(file.metadata("simulated"), "true");
  shape = file.at(name).shape;
  std::vector<float> values(static_cast<std::size_t>(file.at(name).count()));
  file.copy_to(file.at(name), values.data(), file.at(name).count());
  return values;
}

Corpus corpus(const WorldConfig& config, std::int64_t images) {
  const TemporaryFolder folder;
  Model model(config);
  testing::internal::CaptureStdout();
  run_corpus(model, {.images = images, .out = folder.path()});
  EXPECT_NE(testing::internal::GetCapturedStdout().find("simulated corpus"), std::string::npos);
  Corpus made;
  const auto lines = [&](const char* name) {
    std::vector<std::string> out;
    std::ifstream file(folder / name);
    for (std::string line; std::getline(file, line);) out.push_back(line);
    return out;
  };
  for (const std::string& line : lines("images.jsonl")) made.images.push_back(Json::parse(line));
  for (const std::string& line : lines("truth.jsonl")) made.truth.push_back(Json::parse(line));
  made.flavors = lines("flavors.txt");
  std::vector<Index> shape;
  made.seen = tensor(folder / "images.safetensors", "embeddings", shape);
  EXPECT_EQ(shape, (std::vector<Index>{images, config.embedding_size}));
  made.captions = tensor(folder / "captions.safetensors", "embeddings", shape);
  EXPECT_EQ(shape, (std::vector<Index>{images, config.embedding_size}));
  made.phrases = tensor(folder / "flavors.safetensors", "embeddings", shape);
  EXPECT_EQ(shape, (std::vector<Index>{static_cast<Index>(made.flavors.size()), config.embedding_size}));
  std::set<std::string> all(made.flavors.begin(), made.flavors.end());
  for (const char* const kind : {"mediums", "artists", "movements", "trendings"}) {
    const std::vector<std::string> list = lines((std::string(kind) + ".txt").c_str());
    EXPECT_GT(list.size(), 5u) << kind;
    for (const std::string& flavor : list) EXPECT_TRUE(all.contains(flavor)) << kind << ": " << flavor;
    tensor(folder / (std::string(kind) + ".safetensors"), "embeddings", shape);
    EXPECT_EQ(shape[0], static_cast<Index>(list.size()));
  }
  const train::AestheticHead head(folder / "head.safetensors");
  for (std::size_t i = 0; i < made.images.size(); ++i) {
    const auto size = static_cast<std::size_t>(config.embedding_size);
    made.scores.push_back(head.score({&made.seen[i * size], size}));
  }
  const auto votes = train::read_votes(folder / "votes.jsonl", 0);
  for (const Json& image : made.images) {
    made.likes.push_back(static_cast<double>(votes.at(image.at("id").as_string()).likes));
  }
  testing::internal::CaptureStdout();
  run_captions(model, {.images = folder / "images.jsonl", .out = folder / "again.safetensors"});
  testing::internal::GetCapturedStdout();
  EXPECT_EQ(tensor(folder / "again.safetensors", "embeddings", shape), made.captions);
  const fs::path read = folder / "images.jsonl";
  const std::string before = read_file(read);
  EXPECT_EQ(tests::error_of([&] { run_captions(model, {.images = read, .out = read}); }),
            read.string() + " is read and would be overwritten; name another output");
  EXPECT_EQ(read_file(read), before);
  made.size = static_cast<std::size_t>(config.embedding_size);
  return made;
}

TEST(AtelierCorpus, HoldsImagesWhoseFlavorsTheInverterCanFind) {
  const Corpus made = corpus({}, 400);
  ASSERT_EQ(made.images.size(), 400u);
  ASSERT_EQ(made.truth.size(), 400u);
  std::set<std::string> ids;
  double right = 0, count = 0;
  for (std::size_t i = 0; i < made.images.size(); ++i) {
    ids.insert(made.images[i].at("id").as_string());
    EXPECT_TRUE(made.images[i].at("simulated").as_bool());
    EXPECT_FALSE(made.images[i].at("caption").as_string().empty());
    EXPECT_EQ(made.truth[i].at("id"), made.images[i].at("id"));
    std::set<std::string> truth;
    for (const Json& flavor : made.truth[i].at("flavors").as_array()) truth.insert(flavor.as_string());
    EXPECT_GE(truth.size(), 3u);
    EXPECT_LE(truth.size(), 9u);
    std::vector<std::pair<float, std::size_t>> ranked;
    for (std::size_t f = 0; f < made.flavors.size(); ++f) {
      ranked.emplace_back(-dot({&made.seen[i * made.size], made.size}, {&made.phrases[f * made.size], made.size}), f);
    }
    std::sort(ranked.begin(), ranked.end());
    for (int k = 0; k < 5; ++k, ++count)
      right += truth.contains(made.flavors[ranked[static_cast<std::size_t>(k)].second]);
  }
  EXPECT_EQ(ids.size(), 400u);
  EXPECT_GT(right / count, 4 * 6 / 328.0);  // much better than chance,
  EXPECT_LT(right / count, 0.9);            // and with errors of its own
}

TEST(AtelierCorpus, KnowsNoRendererAndNoKappa) {
  WorldConfig other;
  other.kappa = 4;
  other.flavor.rendered_share = 0.2;
  const Corpus a = corpus({}, 50), b = corpus(other, 50);
  EXPECT_EQ(a.seen, b.seen);
  EXPECT_EQ(a.phrases, b.phrases);
}

TEST(AtelierCorpus, IsKeptByANoisyProxyOfTaste) {
  const auto mean_proxy = [](const Corpus& made) {
    double sum = 0;
    for (const Json& line : made.truth) sum += line.at("proxy").as_number() / static_cast<double>(made.truth.size());
    return sum;
  };
  WorldConfig all;
  all.corpus.keep = 1;
  EXPECT_GT(mean_proxy(corpus({}, 400)), 0.6);
  const Corpus made = corpus(all, 400);
  EXPECT_NEAR(mean_proxy(made), 0, 0.2);
  std::vector<double> proxies;
  for (const Json& line : made.truth) proxies.push_back(line.at("proxy").as_number());
  EXPECT_GT(correlation(proxies, made.scores), 0.3);  // noisy, both of them
  EXPECT_LT(correlation(proxies, made.scores), 0.9);
  EXPECT_GT(correlation(proxies, made.likes), 0.8);
  // The more popular a flavor, the more images have it.
  const Model model{WorldConfig{}};
  std::vector<double> popular, found;
  for (const Flavor& flavor : model.flavors()) {
    popular.push_back(std::log(flavor.popularity));
    found.push_back(0);
    for (const Json& line : made.truth) {
      for (const Json& name : line.at("flavors").as_array()) found.back() += name.as_string() == flavor.name;
    }
  }
  EXPECT_GT(correlation(popular, found), 0.4);
}

}  // namespace
}  // namespace unfurl::tests
