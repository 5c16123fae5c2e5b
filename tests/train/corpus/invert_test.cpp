#include "train/corpus/invert.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "core/files.h"
#include "core/json.h"
#include "core/safetensors.h"
#include "tests/support/expect_error.h"
#include "tests/support/npy.h"
#include "tests/support/random.h"
#include "tests/support/temporary_folder.h"
#include "train/corpus/commands.h"
#include "train/corpus/embeddings.h"

namespace unfurl::tests {
namespace {

using namespace unfurl::train;
namespace fs = std::filesystem;

std::vector<float> unit_rows(Index rows, Index size, std::uint64_t seed) {
  std::vector<float> values = normal(rows * size, seed);
  for (Index r = 0; r < rows; ++r) {
    EXPECT_TRUE(
        normalize(std::span(values).subspan(static_cast<std::size_t>(r * size), static_cast<std::size_t>(size))));
  }
  return values;
}

TEST(TopFlavors, AreThoseOfAFullSort) {
  kernels::ThreadPool one(1), three(3, false);
  struct Case {
    Index images, flavors, size, k;
  };
  for (const Case& c :
       {Case{1, 1, 1, 1}, Case{3, 5, 7, 9}, Case{5, 5000, 16, 40}, Case{520, 300, 9, 7}, Case{2, 4096, 3, 1}}) {
    const std::vector<float> images = unit_rows(c.images, c.size, 1);
    std::vector<float> flavors = unit_rows(c.flavors, c.size, 2);
    if (c.flavors > 2) std::copy_n(flavors.begin(), c.size, flavors.end() - c.size);  // equals: the first ranks first
    const auto got = top_flavors(one, images.data(), c.images, flavors.data(), c.flavors, c.size, c.k);
    const auto again = top_flavors(three, images.data(), c.images, flavors.data(), c.flavors, c.size, c.k);
    ASSERT_EQ(got.size(), static_cast<std::size_t>(c.images));
    for (Index i = 0; i < c.images; ++i) {
      const auto& ranks = got[static_cast<std::size_t>(i)];
      ASSERT_EQ(ranks.size(), static_cast<std::size_t>(std::min(c.k, c.flavors)));
      std::vector<double> similarities(static_cast<std::size_t>(c.flavors));
      for (Index f = 0; f < c.flavors; ++f) {
        for (Index d = 0; d < c.size; ++d) {
          similarities[static_cast<std::size_t>(f)] +=
              static_cast<double>(images[static_cast<std::size_t>(i * c.size + d)]) *
              flavors[static_cast<std::size_t>(f * c.size + d)];
        }
      }
      std::vector<double> sorted = similarities;
      std::ranges::sort(sorted, std::greater<>());
      for (std::size_t r = 0; r < ranks.size(); ++r) {
        EXPECT_NEAR(ranks[r].similarity, sorted[r], 1e-5);
        EXPECT_NEAR(ranks[r].similarity, similarities[static_cast<std::size_t>(ranks[r].flavor)], 1e-5);
        EXPECT_TRUE(r == 0 || ranks_before(ranks[r - 1], ranks[r]));
        EXPECT_EQ(ranks[r].flavor, again[static_cast<std::size_t>(i)][r].flavor);
        EXPECT_EQ(ranks[r].similarity, again[static_cast<std::size_t>(i)][r].similarity);
      }
    }
  }
}

FlavorLists make_lists(const std::vector<Index>& counts, Index size, std::uint64_t seed) {
  FlavorLists lists;
  lists.size = size;
  Index total = std::accumulate(counts.begin(), counts.end(), Index{0});
  lists.embeddings = unit_rows(total, size, seed);
  for (std::size_t l = 0; l < kFlavorLists.size(); ++l) {
    lists.begins[l] = lists.count();
    for (Index i = 0; l < counts.size() && i < counts[l]; ++i) {
      lists.same.push_back(lists.count());
      lists.texts.push_back(std::string(kFlavorLists[l]).substr(0, 2) + static_cast<char>('a' + i % 26) +
                            static_cast<char>('a' + i / 26));
    }
  }
  lists.begins.back() = lists.count();
  return lists;
}

/// The similarity of a prompt, by the rule, in the plainest way.
double similarity(const FlavorLists& lists, std::span<const float> image, std::span<const float> caption,
                  const std::vector<Index>& flavors) {
  std::vector<double> sum(caption.begin(), caption.end());
  for (const Index f : flavors) {
    for (Index d = 0; d < lists.size; ++d) sum[static_cast<std::size_t>(d)] += lists.row(f)[d];
  }
  double along = 0, squares = 0;
  for (std::size_t d = 0; d < sum.size(); ++d) along += sum[d] * image[d], squares += sum[d] * sum[d];
  return along / std::sqrt(squares);
}

std::vector<Index> nearest(const FlavorLists& lists, std::span<const float> image, Index from, Index to, Index keep) {
  std::vector<Index> order(static_cast<std::size_t>(to - from));
  std::iota(order.begin(), order.end(), from);
  const auto alone = [&](Index f) {
    double sum = 0;
    for (Index d = 0; d < lists.size; ++d)
      sum += static_cast<double>(lists.row(f)[d]) * image[static_cast<std::size_t>(d)];
    return sum;
  };
  std::ranges::stable_sort(order, [&](Index a, Index b) { return alone(a) > alone(b); });
  order.resize(std::min(order.size(), static_cast<std::size_t>(keep)));
  return order;
}

/// The chain as PAPER and CLIP-Interrogator tell it, every prompt measured anew.
std::vector<Index> brute_force_chain(const FlavorLists& lists, std::span<const float> image,
                                     std::span<const float> caption, const InvertRules& rules) {
  std::vector<Index> chain, left = nearest(lists, image, 0, lists.count(), rules.keep);
  double now = similarity(lists, image, caption, {});
  while (static_cast<Index>(chain.size()) < rules.most && !left.empty()) {
    std::size_t best = 0;
    double best_similarity = -2;
    for (std::size_t i = 0; i < left.size(); ++i) {
      chain.push_back(left[i]);
      const double here = similarity(lists, image, caption, chain);
      chain.pop_back();
      if (here > best_similarity) best = i, best_similarity = here;
    }
    if (static_cast<Index>(chain.size()) >= rules.unconditional && best_similarity <= now) break;
    now = best_similarity;
    chain.push_back(left[best]);
    left.erase(left.begin() + static_cast<std::ptrdiff_t>(best));
  }
  return chain;
}

TEST(Invert, FormsEqualABruteForceReference) {
  kernels::ThreadPool pool(2, false);
  for (std::uint64_t seed = 1; seed <= 6; ++seed) {
    const Index size = seed % 2 == 0 ? 24 : 7;
    const FlavorLists lists = make_lists({60, 5, 12, 3, 4}, size, seed);
    const std::vector<float> images = unit_rows(5, size, seed + 100), captions = unit_rows(5, size, seed + 200);
    const InvertRules rules{
        .keep = 50, .fast = 10, .classic = 3, .unconditional = seed % 3 == 0 ? 0 : 4, .most = 16, .max_tokens = 1000};
    const Ranking ranking = rank_flavors(pool, lists, images.data(), 5, rules);
    for (std::size_t i = 0; i < 5; ++i) {
      const auto width = static_cast<std::size_t>(size);
      const std::span image = std::span(images).subspan(i * width, width),
                      caption = std::span(captions).subspan(i * width, width);
      const Inversion got = invert(pool, lists, ranking, i, "a caption", image, caption, rules);
      EXPECT_TRUE(got[0].flavors.empty());
      EXPECT_EQ(got[1].flavors, nearest(lists, image, 0, lists.count(), rules.fast));
      std::vector<Index> classic;
      for (std::size_t l = 1; l < kFlavorLists.size(); ++l) {
        classic.push_back(nearest(lists, image, lists.begins[l], lists.begins[l + 1], 1)[0]);
      }
      for (const Index f : nearest(lists, image, 0, lists.begins[1], 3)) classic.push_back(f);
      EXPECT_EQ(got[2].flavors, classic);
      EXPECT_EQ(got[3].flavors, brute_force_chain(lists, image, caption, rules)) << "seed " << seed << ", image " << i;
      std::size_t best = 0;
      for (std::size_t form = 0; form < kForms.size(); ++form) {
        EXPECT_NEAR(got[form].similarity, similarity(lists, image, caption, got[form].flavors), 1e-6);
        if (got[form].similarity > got[best].similarity) best = form;
      }
      EXPECT_EQ(best_form(got), best);
    }
  }
}

TEST(Invert, TheLengthLimitEndsAPrompt) {
  EXPECT_EQ(estimated_clip_tokens(""), 2);
  EXPECT_EQ(estimated_clip_tokens("a red fox, 4k"), 2 + 3 + 1 + 2);
  EXPECT_EQ(estimated_clip_tokens("impressionism"), 2 + 2);
  kernels::ThreadPool pool(1);
  const FlavorLists lists = make_lists({40}, 8, 3);  // two tokens each, with the comma
  const std::vector<float> image = unit_rows(1, 8, 4), caption = unit_rows(1, 8, 5);
  for (const Index limit : {4, 5, 6, 7, 12, 77}) {
    const InvertRules rules{.unconditional = 32, .max_tokens = limit};
    const Ranking ranking = rank_flavors(pool, lists, image.data(), 1, rules);
    const Inversion got = invert(pool, lists, ranking, 0, "a fox", image, caption, rules);
    for (const std::size_t form : {1, 3}) {
      EXPECT_EQ(static_cast<Index>(got[form].flavors.size()), std::min<Index>(32, (limit - 4) / 2)) << limit;
      EXPECT_LE(estimated_clip_tokens(prompt_of("a fox", got[form], lists)), limit);
    }
  }
}

class InvertCommand : public testing::Test {
 protected:
  void SetUp() override {
    fs::create_directory(folder / "lists");
    write_list("flavors", 50, 1);
    write_list("artists", 6, 2);
    std::string lines;
    for (int i = 0; i < 7; ++i) {
      lines +=
          "{\"id\":" + std::to_string(i) + ",\"caption\":\"" + (i == 3 ? "" : "a fox") + "\",\"source\":\"natural\"}\n";
    }
    write_file(folder / "images.jsonl", lines);
    write_file(folder / "i.npy", npy_bytes(normal(7 * 6, 3), 7, 6));
    std::vector<float> captions = normal(7 * 6, 4);
    std::fill_n(captions.begin() + 5 * 6, 6, 0.0f);
    write_file(folder / "c.npy", npy_bytes(captions, 7, 6));
    options.images = folder / "images.jsonl";
    options.embeddings = folder / "i.npy";
    options.caption_embeddings = folder / "c.npy";
    options.flavors = folder / "lists";
    options.out = folder / "out/prompts.jsonl";
  }
  void write_list(const std::string& name, Index count, std::uint64_t seed) {
    std::string lines;
    for (Index i = 0; i < count; ++i) lines += name + " " + std::to_string(i % (count - 1)) + "\n";  // one repeated
    write_file(folder / ("lists/" + name + ".txt"), lines);
    write_file(folder / ("lists/" + name + ".npy"), npy_bytes(normal(count * 6, seed), count, 6));
  }
  std::string run() {
    testing::internal::CaptureStdout();
    testing::internal::CaptureStderr();
    std::string error;
    try {
      run_corpus_invert(options);
    } catch (const Error& e) {
      error = e.what();
    }
    testing::internal::GetCapturedStderr();
    return error + testing::internal::GetCapturedStdout();
  }

  TemporaryFolder folder;
  InvertOptions options;
};

TEST_F(InvertCommand, LinesOfNoUseAreLeftOutWithTheirRows) {
  write_file(folder / "lists/flavors.txt", "oil\n\n\bmoebius\nink\n");
  write_file(folder / "lists/flavors.npy", npy_bytes(normal(4 * 6, 1), 4, 6));
  const FlavorLists lists = read_flavor_lists(folder / "lists");
  EXPECT_EQ(lists.unusable, 2U);
  EXPECT_EQ(lists.texts[0], "oil");
  EXPECT_EQ(lists.texts[1], "ink");
  const std::vector<float> rows = normal(4 * 6, 1);
  for (Index i = 0; i < 6; ++i) {  // of length 1
    EXPECT_NEAR(lists.row(1)[i] * rows[3 * 6], lists.row(1)[0] * rows[static_cast<std::size_t>(3 * 6 + i)], 1e-5);
  }
  EXPECT_NE(run().find("2 of no use"), std::string::npos);
}

TEST_F(InvertCommand, WritesPromptsAndCountsWhatItDrops) {
  const std::string out = run();
  EXPECT_NE(out.find("5 prompts -> "), std::string::npos) << out;
  EXPECT_NE(out.find("dropped   1: no caption"), std::string::npos) << out;
  EXPECT_NE(out.find("dropped   1: its caption's embedding is zero"), std::string::npos) << out;
  EXPECT_NE(out.find("2 repeated"), std::string::npos) << out;
  const std::string text = read_file(options.out);
  const Json first = Json::parse(text.substr(0, text.find('\n')));
  EXPECT_TRUE(first.at("prompt").as_string().starts_with("a fox, "));
  EXPECT_EQ(first.at("source").as_string(), "natural");
  EXPECT_EQ(first.at("similarities").as_object().size(), 4u);
  EXPECT_FALSE(fs::exists(folder / "out/prompts.jsonl.parts"));
  options.form = "fast";
  run();
  EXPECT_NE(read_file(options.out).find("\"form\":\"fast\""), std::string::npos);
  EXPECT_EQ(read_file(options.out).find("\"form\":\"chain\""), std::string::npos);
  EXPECT_EQ(read_file(options.out).find("simulated"), std::string::npos);
}

TEST_F(InvertCommand, PromptsFromSimulatedEmbeddingsSaySo) {
  const std::vector<float> rows = normal(7 * 6, 3);
  SafetensorsWriter writer(folder / "i.safetensors", {{"embeddings", FileDType::F32, {7, 6}}}, {{"simulated", "true"}});
  writer.write(rows.data(), rows.size() * sizeof(float));
  writer.commit();
  options.embeddings = folder / "i.safetensors";
  run();
  const std::string text = read_file(options.out);
  EXPECT_EQ(Json::parse(text.substr(0, text.find('\n'))).at("simulated"), Json(true));
}

TEST_F(InvertCommand, GoesOnWhereItWasStopped) {
  run();
  const std::string whole = read_file(options.out);
  fs::remove(options.out);
  // A folder in the way of the result: the run fails behind its work.
  fs::create_directory(options.out);
  run();
  const fs::path parts = options.out.string() + ".parts", part = parts / "part-00000000.jsonl";
  ASSERT_TRUE(fs::exists(part));
  fs::remove(options.out);
  std::string planted = read_file(part);
  EXPECT_EQ(std::count(planted.begin(), planted.end(), '\n'), 6);
  planted.replace(planted.find("a fox"), 5, "A FOX");
  write_file(part, planted);
  run();
  EXPECT_NE(read_file(options.out).find("A FOX"), std::string::npos);  // it was not made again
  EXPECT_FALSE(fs::exists(parts));
  // Parts of another job are not taken.
  fs::remove(options.out);
  fs::create_directory(options.out);
  run();
  write_file(part, planted);
  fs::remove(options.out);
  options.rules.keep = 2000;
  run();
  EXPECT_EQ(read_file(options.out), whole);
}

TEST_F(InvertCommand, SaysWhatIsWrong) {
  const auto says = [&](const std::string& part) {
    const std::string text = run();
    EXPECT_NE(text.find(part), std::string::npos) << text;
    EXPECT_FALSE(fs::exists(options.out));
  };
  write_file(folder / "c.npy", npy_bytes(normal(6 * 6, 4), 6, 6));
  says("has 7 lines, but");
  write_file(folder / "c.npy", npy_bytes(normal(7 * 5, 4), 7, 5));
  says("has embeddings of 5 numbers, but those of the flavors");
  fs::remove(folder / "lists/artists.npy");
  says("neither artists.safetensors nor artists.npy");
  fs::remove(folder / "lists/flavors.txt");
  says("flavors.txt is missing");
  write_file(folder / "lists/flavors.txt", "one\ntwo\n");
  says("has 2 lines, but");
}

}  // namespace
}  // namespace unfurl::tests
