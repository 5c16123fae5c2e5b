#include "train/atelier/model.h"

#include <gtest/gtest.h>

#include <cmath>
#include <set>

#include "tests/support/expect_error.h"
#include "train/atelier/commands.h"

namespace unfurl::tests {
namespace {

using namespace train::atelier;

WorldConfig world(double kappa = 1, double rho = 0, std::int64_t seed = 1) {
  WorldConfig config;
  config.kappa = kappa;
  config.rho = rho;
  config.seed = seed;
  return config;
}

std::set<std::uint64_t> said(const Lexicon& lexicon, std::string_view text) {
  std::set<std::uint64_t> ids;
  for (const Concept& one : lexicon.read(text)) ids.insert(one.id());
  return ids;
}

double weight_of(const Lexicon& lexicon, std::string_view text, std::string_view word) {
  for (const Concept& one : lexicon.read(text)) {
    if (one.text == word && one.noun.empty()) return one.weight;
  }
  return 0;
}

double similarity(Model& model, std::string_view a, std::string_view b) {
  return dot(model.embed(Embedder::judge, a), model.embed(Embedder::judge, b));
}

const char* const kQueries[] = {"an old fox",          "a castle on a hill",         "a woman reading a letter",
                                "a bowl of ramen",     "a dragon over the city",     "a red bicycle",
                                "a lighthouse in fog", "two children in a meadow",   "a pine forest",
                                "an owl in a tower",   "a knight in a snowy village"};

TEST(AtelierText, AdjectivesBelongToTheNextNoun) {
  Model model(world());
  const Lexicon& lexicon = model.lexicon();
  EXPECT_EQ(said(lexicon, "red cat blue dog"), said(lexicon, "blue dog red cat"));
  EXPECT_NE(said(lexicon, "red cat blue dog"), said(lexicon, "blue cat red dog"));
  EXPECT_EQ(said(lexicon, "an old red cat"), said(lexicon, "the red old CAT"));
  EXPECT_LT(similarity(model, "red cat blue dog", "blue cat red dog"), 0.93);
  EXPECT_GT(similarity(model, "red cat blue dog", "blue dog red cat"), 0.99);
  EXPECT_LT(similarity(model, "red cat", "blue cat"), 0.95);
  EXPECT_GT(similarity(model, "red cat", "blue cat"), similarity(model, "red cat", "red bicycle"));
  // Not over a comma; and one without a noun stands for itself.
  EXPECT_NE(said(lexicon, "red, cat"), said(lexicon, "red cat"));
  EXPECT_GT(weight_of(lexicon, "the castle is red", "red"), 0);
}

TEST(AtelierText, RepeatsSaturate) {
  const Lexicon lexicon(world());
  WorldConfig flat = world();
  flat.text.salience_tokens = 1e9;
  const Lexicon unfaded(flat);
  EXPECT_NEAR(weight_of(unfaded, "fox", "fox"), 1, 1e-6);
  EXPECT_NEAR(weight_of(unfaded, "fox fox", "fox"), 1.25, 1e-6);
  EXPECT_NEAR(weight_of(unfaded, "fox fox fox", "fox"), 1.3125, 1e-6);
  EXPECT_LT(weight_of(unfaded, "fox fox fox fox fox fox fox fox fox fox", "fox"), 4.0 / 3);
  EXPECT_NEAR(weight_of(unfaded, "a cat, bokeh, bokeh", "bokeh"), 1.25, 1e-6);
  EXPECT_EQ(lexicon.read("fox, fox, a FOX").size(), 1u);
}

TEST(AtelierText, SalienceFadesWithPosition) {
  const Lexicon lexicon(world());
  const double first = weight_of(lexicon, "fox cat dog", "fox"), third = weight_of(lexicon, "cat dog fox", "fox");
  EXPECT_DOUBLE_EQ(first, 1);
  EXPECT_NEAR(third, std::exp(-2.0 / 40), 1e-9);
  // The comma is a token, and what the first segment says is seen more than what a later one does.
  EXPECT_NEAR(weight_of(lexicon, "cat, dog, fox", "fox"), std::exp(-4.0 / 40), 1e-9);
  Model model(world());
  EXPECT_GT(similarity(model, "a fox", "a fox, a castle, a bicycle"),
            similarity(model, "a fox", "a castle, a bicycle, a fox"));
}

TEST(AtelierText, IsCutAt77Tokens) {
  Model model(world());
  std::string text;
  for (int i = 0; i < 74; ++i) text += i % 2 == 0 ? "fox " : "cat ";
  EXPECT_GT(weight_of(model.lexicon(), text + "owl", "owl"), 0);  // 75 words, begin and end
  EXPECT_EQ(weight_of(model.lexicon(), text + "dog owl", "owl"), 0);
  EXPECT_EQ(weight_of(model.lexicon(), text + ", owl", "owl"), 0);  // the comma is one
  EXPECT_EQ(said(model.lexicon(), text + "dog, bokeh, oil painting"), said(model.lexicon(), text + "dog"));
  EXPECT_EQ(model.embed(Embedder::judge, text + "dog, bokeh"), model.embed(Embedder::judge, text + "dog"));
  // A string that it does not know is as many tokens as it has fours of letters.
  EXPECT_GT(weight_of(model.lexicon(), text.substr(4 * 4) + "zyxwvutsrqponm owl", "owl"), 0);
  EXPECT_EQ(weight_of(model.lexicon(), text.substr(4 * 4) + "zyxwvutsrqponmlkj owl", "owl"), 0);
  // One that does not end in the limit's place is cut within.
  WorldConfig small = world();
  small.text.tokens = 8;
  EXPECT_EQ(Lexicon(small).read("a fox, shallow depth of field").back().kind, Concept::Kind::word);
}

TEST(AtelierText, FlavorsAreSegmentsOrLeads) {
  const Lexicon lexicon(world());
  const auto read = lexicon.read("Oil painting of a fox, shallow depth of field, Bokeh");
  ASSERT_EQ(read.size(), 4u);
  EXPECT_EQ(read[0].text, "oil painting");
  EXPECT_EQ(read[0].kind, Concept::Kind::flavor);
  EXPECT_EQ(read[1].text, "fox");
  EXPECT_EQ(read[1].kind, Concept::Kind::word);
  EXPECT_EQ(read[2].kind, Concept::Kind::flavor);
  EXPECT_EQ(read[3].text, "bokeh");
  EXPECT_TRUE(lexicon.is_flavor("Bokeh"));
  EXPECT_FALSE(lexicon.is_flavor("fox"));
  EXPECT_TRUE(lexicon.read("").empty());
  EXPECT_TRUE(lexicon.read(" , ,, of the").empty());
}

TEST(AtelierText, IdeasStandForTheirScenes) {
  Model model(world());
  EXPECT_EQ(model.lexicon().read("undying love")[0].kind, Concept::Kind::idea);
  EXPECT_GT(similarity(model, "undying love", "an old couple holding hands on a bench under falling leaves"),
            similarity(model, "undying love", "a bowl of ramen") + 0.05);
  EXPECT_GT(similarity(model, "an animal", "a fox"), similarity(model, "an animal", "a castle") + 0.05);
}

TEST(AtelierImage, UnknownStringsActAsWrongContent) {
  Model model(world());
  EXPECT_FALSE(model.lexicon().knows("xqzvort"));
  double query = 0, prompt = 0, known = 0, unknown_asked = 0;
  int n = 0;
  for (const char* const text : kQueries) {
    for (std::uint64_t seed = 0; seed < 4; ++seed, ++n) {
      const std::string bad = std::string(text) + " xqzvort blimtag";
      const Vector plain = model.embed(Embedder::judge, model.render(text, 1, seed));
      const Vector wrong = model.embed(Embedder::judge, model.render(bad, 1, seed));
      query += dot(plain, model.embed(Embedder::judge, text)) - dot(wrong, model.embed(Embedder::judge, text));
      prompt += dot(plain, model.embed(Embedder::judge, text)) - dot(wrong, model.embed(Embedder::judge, bad));
      const std::string good = std::string(text) + " fox castle";
      known += dot(model.embed(Embedder::judge, model.render(good, 1, seed)), model.embed(Embedder::judge, good));
      unknown_asked += dot(wrong, model.embed(Embedder::judge, bad));
    }
  }
  EXPECT_GT(query / n, 0.05);
  EXPECT_GT(prompt / n, 0.05);  // asking for it does not help: it is shown as something else
  EXPECT_GT(known / n, unknown_asked / n + 0.05);
}

/// Pairs of numbers over the flavors of several worlds.
template <class Of>
std::pair<std::vector<double>, std::vector<double>> over_worlds(double rho, const Of& of) {
  std::pair<std::vector<double>, std::vector<double>> out;
  for (std::int64_t seed = 1; seed <= 8; ++seed) {
    const Model model(world(1, rho, seed));
    for (const Flavor& flavor : model.flavors()) {
      const auto [a, b] = of(flavor);
      out.first.push_back(a);
      out.second.push_back(b);
    }
  }
  return out;
}

TEST(AtelierWorld, TheGeneratorKnowsNothingOfTheInvertersBias) {
  for (const std::size_t g : {0u, 1u}) {
    const auto bias = over_worlds(0, [&](const Flavor& f) { return std::pair(f.bias, f.renderability[g]); });
    ASSERT_GT(bias.first.size(), 2000u);
    EXPECT_LT(std::abs(correlation(bias.first, bias.second)), 0.06);
    const auto popular =
        over_worlds(0, [&](const Flavor& f) { return std::pair(std::log(f.popularity), f.renderability[g]); });
    EXPECT_LT(std::abs(correlation(popular.first, popular.second)), 0.06);
    const auto liked = over_worlds(0, [&](const Flavor& f) { return std::pair(f.bias, f.taste); });
    EXPECT_LT(std::abs(correlation(liked.first, liked.second)), 0.06);
  }
}

TEST(AtelierWorld, TwoGeneratorsShareHalfOfTheDraw) {
  const auto latent = over_worlds(0, [](const Flavor& f) { return std::pair(f.renderability[0], f.renderability[1]); });
  EXPECT_NEAR(correlation(latent.first, latent.second), 0.5, 0.05);
  int first = 0, second = 0, both = 0, n = 0;
  over_worlds(0, [&](const Flavor& f) {
    first += f.rendered[0];
    second += f.rendered[1];
    both += f.rendered[0] && f.rendered[1];
    ++n;
    return std::pair(0.0, 0.0);
  });
  EXPECT_NEAR(1.0 * first / n, 0.65, 0.03);
  EXPECT_NEAR(1.0 * second / n, 0.65, 0.03);
  // With correlation 1/2 and 65 % each, both show 49.9 %; independent ones would 42 %, equal ones 65 %.
  EXPECT_NEAR(1.0 * both / n, 0.499, 0.03);
}

TEST(AtelierWorld, TasteCorrelatesWithRenderabilityAsItSays) {
  for (const double rho : {0.0, 0.8, -0.5}) {
    for (const std::size_t g : {0u, 1u}) {
      const auto both = over_worlds(rho, [&](const Flavor& f) { return std::pair(f.taste, f.renderability[g]); });
      EXPECT_NEAR(correlation(both.first, both.second), rho, 0.06) << "generator " << g + 1;
    }
  }
}

/// What adding each flavor does to the taste of images by generator 1, and how renderable it is.
std::pair<std::vector<double>, std::vector<double>> seen_taste(double kappa, double rho) {
  Model model(world(kappa, rho));
  std::pair<std::vector<double>, std::vector<double>> out;
  double plain = 0;
  for (const char* const query : kQueries) plain += model.taste(model.render(query, 1, 3)) / std::size(kQueries);
  for (const Flavor& flavor : model.flavors()) {
    double taste = 0;
    for (const char* const query : kQueries) {
      taste += model.taste(model.render(std::string(query) + ", " + flavor.name, 1, 3)) / std::size(kQueries);
    }
    out.first.push_back(taste - plain);
    out.second.push_back(flavor.renderability[0]);
  }
  return out;
}

TEST(AtelierWorld, TheCorrelationIsSeenInImages) {
  const auto none = seen_taste(0, 0), high = seen_taste(0, 0.8);
  EXPECT_LT(std::abs(correlation(none.first, none.second)), 0.15);
  EXPECT_GT(correlation(high.first, high.second), 0.55);
}

TEST(AtelierWorld, WithoutKappaAFlavorThatIsNotRenderedCostsNothing) {
  for (const double kappa : {0.0, 1.0, 2.0, 4.0}) {
    double shown = 0, wrong = 0;
    int n = 0, m = 0;
    for (std::int64_t seed = 1; seed <= 4; ++seed) {
      Model model(world(kappa, 0, seed));
      for (const Flavor& flavor : model.flavors()) {
        const double taste = model.taste(model.render(std::string("a fox, ") + flavor.name, 1, 3));
        (flavor.rendered[0] ? shown : wrong) += taste;
        ++(flavor.rendered[0] ? n : m);
      }
    }
    // An artefact of one flavor in the fourth token's place weighs e^(-4/40), and at kappa 1 costs a quarter.
    EXPECT_NEAR(shown / n - wrong / m, kappa * 0.25 * std::exp(-3.0 / 40), 0.08) << "kappa " << kappa;
  }
}

TEST(AtelierWorld, AFlavorThatIsNotRenderedIsReplaced) {
  WorldConfig config = world();
  config.image.noise = 0;
  Model model(config);
  const Picture plain = model.render("a fox", 1, 1);
  for (const Flavor& flavor : model.flavors()) {
    const Picture picture = model.render("a fox, " + flavor.name, 1, 1);
    const auto like = [&](const Vector& style) {
      return dot(picture.style(), style) / length(picture.style()) / length(style);
    };
    EXPECT_NEAR(like(flavor.rendered[0] ? flavor.style : flavor.wrong_style[0]), 1, 1e-4) << flavor.name;
    EXPECT_LT(like(flavor.rendered[0] ? flavor.wrong_style[0] : flavor.style), 0.99) << flavor.name;
    EXPECT_EQ(length(picture.artefacts()) > 0, !flavor.rendered[0]) << flavor.name;
    EXPECT_EQ(dot(picture.content(), plain.content()) > 0.999, flavor.rendered[0]) << flavor.name;
  }
}

TEST(AtelierWorld, KappaPenalisesArtefactsAlone) {
  Model none(world(0)), some(world(1)), much(world(4));
  std::string good, bad;
  for (const Flavor& flavor : none.flavors()) (flavor.rendered[0] ? good : bad) = flavor.name;
  const std::string shown = "a fox, " + good, wrong = "a fox, " + bad;
  EXPECT_EQ(none.render(wrong, 1, 5).values, much.render(wrong, 1, 5).values);  // taste changes, images do not
  EXPECT_EQ(none.taste(none.render(shown, 1, 5)), much.taste(much.render(shown, 1, 5)));
  const double a = none.taste(none.render(wrong, 1, 5)), b = some.taste(some.render(wrong, 1, 5)),
               c = much.taste(much.render(wrong, 1, 5));
  EXPECT_LT(b, a - 0.1);
  EXPECT_NEAR(a - c, 4 * (a - b), 1e-5);
}

TEST(AtelierWorld, ObserversAgreeOnTheWholeAndErrEachByItself) {
  for (std::int64_t seed = 1; seed <= 3; ++seed) {
    Model model(world(1, 0, seed));
    const Picture picture = model.render("an old fox", 1, 1);
    EXPECT_NEAR(length(model.embed(Embedder::invert, picture)), 1, 1e-5);
    EXPECT_NE(model.embed(Embedder::filter, picture), model.embed(Embedder::judge, picture));
    const Calibration made = calibrate(model, {.queries = 60, .images = 8});
    for (const double agreement : made.agreement) {
      EXPECT_GT(agreement, 0.3);
      EXPECT_LT(agreement, 0.9);
    }
  }
}

TEST(AtelierWorld, IsAFunctionOfItsSeed) {
  Model one(world()), same(world()), other(world(1, 0, 2));
  const std::string prompt = "a red fox, oil painting, bokeh, zzzz";
  EXPECT_EQ(one.render("a castle", 1, 1).values, same.render("a castle", 1, 1).values);
  static_cast<void>(one.render("a bowl", 1, 1));  // what was asked before does not matter
  EXPECT_EQ(one.render(prompt, 1, 9).values, same.render(prompt, 1, 9).values);
  EXPECT_NE(one.render(prompt, 1, 9).values, one.render(prompt, 1, 8).values);
  EXPECT_NE(one.render(prompt, 1, 9).values, one.render(prompt, 2, 9).values);
  EXPECT_NE(one.render(prompt, 1, 9).values, other.render(prompt, 1, 9).values);
  EXPECT_NEAR(normal_quantile(0.975), 1.959964, 1e-5);
}

TEST(AtelierWorld, RandomFlavorsDoToStraightQueriesWhatItSays) {
  Model model(world());
  const Calibration made = calibrate(model, {.queries = 60, .images = 4});
  ASSERT_EQ(made.rows[0].size(), 4u);
  EXPECT_EQ(made.rows[0][0].flavors, 0);
  EXPECT_NEAR(made.rows[0][0].taste, 5, 0.3);
  EXPECT_DOUBLE_EQ(made.rows[0][0].alignment, made.rows[0][0].prompt_alignment);
  EXPECT_GT(made.rows[0][2].diversity, made.rows[0][0].diversity);
  EXPECT_LT(made.rows[0][2].alignment, made.rows[0][0].alignment);
}

TEST(AtelierWorld, RhoBeyondWhatTwoGeneratorsAllowIsRefused) {
  EXPECT_EQ(error_of([] { Model model(world(1, 0.95)); }),
            "a world's rho must be from -0.86 to 0.86, got 0.95: taste cannot follow two generators more closely");
}

}  // namespace
}  // namespace unfurl::tests
