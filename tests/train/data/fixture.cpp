#include "tests/train/data/fixture.h"

#include <fstream>

#include "kernels/philox.h"
#include "train/corpus/prefix.h"

namespace unfurl::tests {
namespace {

using namespace unfurl::train;

constexpr const char* kAdjectives[] = {"old",      "tiny",     "golden", "haunted", "floating", "red",
                                       "quiet",    "enormous", "broken", "crystal", "young",    "angry",
                                       "friendly", "melting",  "neon",   "wooden"};
constexpr const char* kNouns[] = {"castle",   "robot",  "cat",  "forest", "astronaut",  "queen",   "dragon",
                                  "harbour",  "violin", "city", "whale",  "knight",     "library", "train",
                                  "mushroom", "temple", "café", "garden", "lighthouse", "android"};
constexpr const char* kPlaces[] = {"in the desert", "under water",    "at night", "on the moon",     "by the sea",
                                   "in the rain",   "during a storm", "in 1950",  "inside a bottle", "at dawn"};
constexpr const char* kFlavors[] = {"oil painting",
                                    "highly detailed",
                                    "trending on artstation",
                                    "8k",
                                    "sharp focus",
                                    "cinematic lighting",
                                    "by greg rutkowski",
                                    "octane render",
                                    "watercolor",
                                    "concept art",
                                    "studio photo, f/1.8",
                                    "volumetric fog",
                                    "art nouveau",
                                    "symmetrical",
                                    "unreal engine 5",
                                    "matte painting",
                                    "intricate",
                                    "soft light",
                                    "bokeh",
                                    "dramatic shadows",
                                    "pixiv",
                                    "impressionism",
                                    "35mm film",
                                    "hdr"};

class Picker {
 public:
  Picker(std::uint64_t seed, std::uint64_t i) : bits_{seed, 0x7E57, static_cast<std::uint32_t>(i)} {}
  std::size_t below(std::size_t bound) { return (std::uint64_t{philox(bits_, at_++)[0]} * bound) >> 32; }
  template <std::size_t N>
  const char* of(const char* const (&list)[N]) {
    return list[below(N)];
  }

 private:
  PhiloxKey bits_;
  std::uint64_t at_ = 0;
};

}  // namespace

std::vector<Pair> some_pairs(int count, std::uint64_t seed) {
  std::vector<Pair> pairs;
  for (int i = 0; i < count; ++i) {
    Picker pick(seed, static_cast<std::uint64_t>(i));
    Pair pair;
    pair.query = std::string("a ") + pick.of(kAdjectives) + " " + pick.of(kAdjectives) + " " + pick.of(kNouns);
    if (pick.below(2) == 0) pair.query += std::string(" and a ") + pick.of(kNouns);
    pair.query += std::string(" ") + pick.of(kPlaces);
    pair.prompt = pair.query;
    for (std::size_t n = pick.below(21); n > 0; --n) pair.prompt += std::string(", ") + pick.of(kFlavors);
    pair.id = std::to_string(seed) + "-" + std::to_string(i);
    pair.type = i % 3 == 0 ? "concrete" : "";
    if (i % 2 == 0) pair.prefix = kPrefixes[pick.below(kPrefixes.size())].name;
    pairs.push_back(std::move(pair));
  }
  return pairs;
}

std::vector<std::string> some_prompts(int count, std::uint64_t seed) {
  std::vector<std::string> prompts;
  for (Pair& pair : some_pairs(count, seed)) prompts.push_back(std::move(pair.prompt));
  return prompts;
}

std::shared_ptr<const Tokenizer> some_tokenizer(TokenizerConfig::Model model) {
  const auto make = [](TokenizerConfig::Model kind) {
    const TemporaryFolder folder;
    TokenizerConfig config;
    config.vocab_size = 460;
    config.model = kind;
    const std::vector<std::string> prompts = some_prompts(1500, 1);
    Tokenizer::train(config, views(prompts), folder / "t.model");
    return std::make_shared<const Tokenizer>(folder / "t.model");
  };
  if (model == TokenizerConfig::Model::unigram) {
    static const auto unigram = make(model);
    return unigram;
  }
  static const auto bpe = make(model);
  return bpe;
}

void spill(const std::filesystem::path& path, std::string_view bytes) {
  std::filesystem::remove(path);
  std::ofstream(path, std::ios::binary) << bytes;
}

std::vector<std::string_view> views(const std::vector<std::string>& texts) { return {texts.begin(), texts.end()}; }

}  // namespace unfurl::tests
