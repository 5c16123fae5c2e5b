#include "train/model/decoder.h"

#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <numeric>
#include <vector>

#include "core/autograd.h"
#include "core/dispatch.h"
#include "tests/support/matrix.h"
#include "tests/support/random.h"
#include "train/data/pack.h"
#include "train/trainer/step.h"

namespace unfurl::train {
namespace {

using Numbers = std::vector<std::vector<double>>;

ModelConfig base_config() {
  ModelConfig config;
  config.vocab_size = 37;
  config.width = 24;
  config.layers = 2;
  config.heads = 3;
  config.kv_heads = 1;
  config.head_dim = 8;
  config.ff_width = 20;
  config.context = 20;
  config.init_std = 0.2;
  return config;
}

struct Case {
  const char* name;
  std::function<void(ModelConfig&)> change;
};

std::ostream& operator<<(std::ostream& out, const Case& c) { return out << c.name; }

const Case kCases[] = {
    {"ParallelRmsSwigluMultiQueryTied", [](ModelConfig&) {}},
    {"SerialLayerNormGegluGroupedUntiedQkNorm",
     [](ModelConfig& config) {
       config.block = BlockKind::serial;
       config.norm = NormKind::layer;
       config.activation = ActivationKind::geglu;
       config.heads = 4;
       config.kv_heads = 2;
       config.head_dim = 6;
       config.tied = false;
       config.qk_norm = true;
     }},
    {"SerialRmsGeluMultiHead",
     [](ModelConfig& config) {
       config.block = BlockKind::serial;
       config.activation = ActivationKind::gelu;
       config.kv_heads = 3;
     }},
};

/// A model none of whose numbers is special: gains are not 1, biases not 0.
Decoder make_decoder(const ModelConfig& config, DType dtype) {
  Decoder decoder(config, dtype, Device::cpu, true);
  decoder.initialise(5);
  std::uint64_t seed = 100;
  for (const Parameter& parameter : decoder.parameters().all()) {
    if (parameter.shape.rank() != 1) continue;
    const auto noise = tests::normal<double>(parameter.shape.numel(), ++seed, 0.2);
    for (std::size_t i = 0; i < noise.size(); ++i) {
      if (dtype == DType::f64) {
        parameter.value.data<double>()[i] += noise[i];
      } else {
        parameter.value.data<float>()[i] += static_cast<float>(noise[i]);
      }
    }
  }
  return decoder;
}

/// A document of `rows` rows, the first `prefix` of which attend both ways.
Example document(Index rows, Index prefix, std::uint64_t seed) {
  Example example;
  for (const std::int32_t id : tests::integers(rows + 1, 32, seed)) example.tokens.push_back(id + 4);
  example.prefix_length = prefix;
  return example;
}

std::vector<Example> some_documents() {
  return {document(7, 3, 1), document(1, 1, 2), document(12, 12, 3), document(9, 1, 4)};
}

Batch pack_all(const std::vector<Example>& documents, Index padding, Index empty_documents = 0) {
  std::vector<std::int64_t> indices(documents.size());
  std::iota(indices.begin(), indices.end(), 0);
  Index rows = padding;
  for (const Example& example : documents) rows += example.rows();
  return make_batch(documents, indices, rows, static_cast<Index>(documents.size()) + empty_documents);
}

/// Weights that differ from row to row stand for a random cotangent.
ModelInputs inputs_of(const Batch& batch, DType dtype, Index first_target = 0) {
  const ModelInputs inputs = model_inputs(batch, 1, dtype, Device::cpu);
  for (Index i = 0; i < inputs.weights.numel(); ++i) {
    const double weight = 1 + 0.4 * std::sin(static_cast<double>(first_target + i));
    if (dtype == DType::f64) {
      inputs.weights.data<double>()[i] = weight;
    } else {
      inputs.weights.data<float>()[i] = static_cast<float>(weight);
    }
  }
  return inputs;
}

template <class T>
std::vector<std::vector<T>> gradients_of(const Decoder& decoder) {
  std::vector<std::vector<T>> out;
  for (const Parameter& parameter : decoder.parameters().all()) {
    out.push_back(parameter.value.gradient().values<T>());
  }
  return out;
}

/// The gradients of all parameters, and behind them the loss and each row's term.
template <class T>
std::vector<std::vector<T>> differentiate(const Decoder& decoder, const ModelInputs& inputs,
                                          const DropoutPlace& dropout = {}, bool recompute = false) {
  clear_gradients(decoder.parameters());
  Tape tape;
  Tensor loss, row_losses;
  {
    const TapeScope scope(tape);
    loss = decoder.loss(inputs, dropout, {.recompute = recompute, .row_losses = &row_losses});
  }
  tape.backward(loss);
  auto out = gradients_of<T>(decoder);
  out.push_back({static_cast<T>(loss.item())});
  out.push_back(row_losses.values<T>());
  clear_gradients(decoder.parameters());
  return out;
}

void expect_near(const Numbers& got, const Numbers& want, double tolerance) {
  ASSERT_EQ(got.size(), want.size());
  for (std::size_t i = 0; i < got.size(); ++i) {
    ASSERT_EQ(got[i].size(), want[i].size()) << i;
    double largest = 0, difference = 0;
    for (std::size_t j = 0; j < got[i].size(); ++j) {
      largest = std::max(largest, std::abs(want[i][j]));
      difference = std::max(difference, std::abs(got[i][j] - want[i][j]));
    }
    EXPECT_LE(difference, tolerance * largest) << "result " << i;
  }
}

class DecoderTest : public testing::TestWithParam<Case> {
 protected:
  DecoderTest() : config(base_config()) { GetParam().change(config); }

  /// Every parameter's gradient against central differences: some elements one by one, and all moved together.
  void check_gradients(const DropoutPlace& dropout, bool recompute) {
    const Decoder decoder = make_decoder(config, DType::f64);
    const ModelInputs inputs = inputs_of(pack_all(some_documents(), 5, 1), DType::f64);
    const Numbers gradients = differentiate<double>(decoder, inputs, dropout, recompute);
    constexpr double kStep = 1e-5;
    const auto& all = decoder.parameters().all();
    for (std::size_t p = 0; p < all.size(); ++p) {
      double* const values = all[p].value.data<double>();
      const auto count = static_cast<std::size_t>(all[p].shape.numel());
      const std::vector<double> before(values, values + count);
      double error = 0, norm = 0;
      const auto compare = [&](const std::vector<double>& direction) {
        double by_tape = 0;
        for (std::size_t i = 0; i < count; ++i) by_tape += direction[i] * gradients[p][i];
        const auto moved = [&](double step) {
          for (std::size_t i = 0; i < count; ++i) values[i] = before[i] + step * direction[i];
          return decoder.loss(inputs, dropout).item();
        };
        const double by_differences = (moved(kStep) - moved(-kStep)) / (2 * kStep);
        std::copy(before.begin(), before.end(), values);
        error += (by_tape - by_differences) * (by_tape - by_differences);
        norm += by_differences * by_differences;
      };
      for (const std::int32_t i : tests::integers(12, static_cast<std::int32_t>(count), p)) {
        std::vector<double> direction(count, 0.0);
        direction[static_cast<std::size_t>(i)] = 1;
        compare(direction);
      }
      compare(tests::normal<double>(static_cast<Index>(count), 9, 0.3));
      EXPECT_LT(std::sqrt(error), 1e-6 * std::sqrt(norm)) << all[p].name << ", norm " << std::sqrt(norm);
    }
  }

  ModelConfig config;
};

TEST_P(DecoderTest, GradientsAreThoseOfCentralDifferences) { check_gradients({}, false); }

TEST_P(DecoderTest, GradientsWithDropoutAndRecomputationAreThoseOfCentralDifferences) {
  check_gradients({.seed = 3, .step = 7, .first_token = 64, .rate = 0.25}, true);
}

TEST_P(DecoderTest, RecomputationGivesTheSameBits) {
  const Decoder decoder = make_decoder(config, DType::f32);
  const ModelInputs inputs = inputs_of(pack_all(some_documents(), 3), DType::f32);
  const DropoutPlace dropout{.seed = 3, .step = 7, .first_token = 64, .rate = 0.25};
  EXPECT_EQ(differentiate<float>(decoder, inputs, dropout, true),
            differentiate<float>(decoder, inputs, dropout, false));
}

TEST_P(DecoderTest, DropoutDependsOnSeedStepAndPlaceAlone) {
  const Decoder decoder = make_decoder(config, DType::f32);
  const ModelInputs inputs = inputs_of(pack_all(some_documents(), 3), DType::f32);
  const DropoutPlace place{.seed = 3, .step = 7, .first_token = 64, .rate = 0.25};
  const double loss = decoder.loss(inputs, place).item();
  EXPECT_EQ(decoder.loss(inputs, place).item(), loss);
  DropoutPlace other = place;
  other.seed = 4;
  EXPECT_NE(decoder.loss(inputs, other).item(), loss);
  other = place;
  other.step = 8;
  EXPECT_NE(decoder.loss(inputs, other).item(), loss);
  other = place;
  other.first_token = 96;
  EXPECT_NE(decoder.loss(inputs, other).item(), loss);
}

TEST_P(DecoderTest, PackedDocumentsGiveWhatTheyGiveOneByOne) {
  const Decoder decoder = make_decoder(config, DType::f64);
  const std::vector<Example> documents = some_documents();
  const Numbers packed = differentiate<double>(decoder, inputs_of(pack_all(documents, 0), DType::f64));
  Numbers sum(packed.size());
  Index targets = 0;
  for (const Example& example : documents) {
    const Numbers one = differentiate<double>(decoder, inputs_of(pack_all({example}, 0), DType::f64, targets));
    for (std::size_t i = 0; i + 1 < sum.size(); ++i) {
      sum[i].resize(one[i].size());
      for (std::size_t j = 0; j < one[i].size(); ++j) sum[i][j] += one[i][j];
    }
    sum.back().insert(sum.back().end(), one.back().begin(), one.back().end());
    targets += static_cast<Index>(one.back().size());
  }
  expect_near(packed, sum, 1e-12);
}

// A token of the prefix is seen by those before it; one behind the prefix is not.
TEST_P(DecoderTest, ThePrefixAttendsBothWaysAndTheRestBackwards) {
  const Decoder decoder = make_decoder(config, DType::f64);
  Example example = document(10, 4, 8);
  const auto hidden = [&] { return decoder.hidden(inputs_of(pack_all({example}, 0), DType::f64)).values<double>(); };
  const std::vector<double> before = hidden();
  const auto first_changed_row = [&](std::size_t token) {
    const std::int32_t kept = std::exchange(example.tokens[token], example.tokens[token] == 9 ? 10 : 9);
    const std::vector<double> after = hidden();
    example.tokens[token] = kept;
    std::size_t i = 0;
    while (i < after.size() && after[i] == before[i]) ++i;
    return static_cast<Index>(i) / config.width;
  };
  EXPECT_EQ(first_changed_row(3), 0);
  EXPECT_EQ(first_changed_row(4), 4);
  EXPECT_EQ(first_changed_row(8), 8);
}

TEST_P(DecoderTest, PaddingChangesNothing) {
  const Decoder decoder = make_decoder(config, DType::f64);
  const Numbers exact = differentiate<double>(decoder, inputs_of(pack_all(some_documents(), 0), DType::f64));
  const Numbers padded = differentiate<double>(decoder, inputs_of(pack_all(some_documents(), 35, 6), DType::f64));
  expect_near(padded, exact, 1e-13);
  // Where nothing but padding has the padding's piece, its embedding gets no gradient (a tied head's does).
  if (config.tied) return;
  for (Index c = 0; c < config.width; ++c) {
    EXPECT_EQ(padded[0][static_cast<std::size_t>(Tokenizer::kPad * config.width + c)], 0);
  }
}

TEST_P(DecoderTest, ThreadsDoNotChangeBits) {
  config.width = 72;
  config.vocab_size = 301;
  config.ff_width = 200;
  const Decoder decoder = make_decoder(config, DType::f32);
  std::vector<Example> documents;
  for (std::uint64_t i = 0; i < 24; ++i) {
    documents.push_back(document(3 + static_cast<Index>(i) * 7 % 17, 1 + static_cast<Index>(i) % 3, i));
  }
  const ModelInputs inputs = inputs_of(pack_all(documents, 11), DType::f32);
  const auto results = tests::on_pools([&](const kernels::CpuQueue& queue) {
    const QueueScope scope(queue);
    return differentiate<float>(decoder, inputs, {.seed = 1, .step = 2, .first_token = 0, .rate = 0.1});
  });
  EXPECT_TRUE(std::isfinite(results[results.size() - 2][0]));
}

TEST_P(DecoderTest, InitialisationIsAFunctionOfTheSeed) {
  config.width = 200;
  config.init_std = 0.02;
  const auto weights = [&](std::uint64_t seed) {
    Decoder decoder(config, DType::f32, Device::cpu, false);
    decoder.initialise(seed);
    std::vector<std::vector<float>> out;
    for (const Parameter& parameter : decoder.parameters().all()) out.push_back(parameter.value.values<float>());
    return out;
  };
  const auto first = tests::on_pools([&](const kernels::CpuQueue& queue) {
    const QueueScope scope(queue);
    return weights(7);
  });
  const auto other = weights(8);
  Decoder doubles(config, DType::f64, Device::cpu, false);
  doubles.initialise(7);
  const auto& all = doubles.parameters().all();
  for (std::size_t p = 0; p < all.size(); ++p) {
    const auto exact = all[p].value.values<double>();
    double squares = 0;
    for (std::size_t i = 0; i < exact.size(); ++i) {
      ASSERT_NEAR(first[p][i], exact[i], 1e-7) << all[p].name;
      squares += exact[i] * exact[i];
    }
    if (all[p].shape.rank() == 1) continue;
    EXPECT_NE(first[p], other[p]) << all[p].name;
    const bool output = all[p].name.ends_with("output.weight") || all[p].name.ends_with("down.weight");
    EXPECT_NEAR(std::sqrt(squares / static_cast<double>(exact.size())), output ? 0.01 : 0.02, 6e-4) << all[p].name;
  }
}

INSTANTIATE_TEST_SUITE_P(, DecoderTest, testing::ValuesIn(kCases),
                         [](const testing::TestParamInfo<Case>& test) { return std::string(test.param.name); });

TEST(DecoderPresets, HaveTheParametersOfTheirNames) {
  const std::vector<std::pair<const char*, double>> presets = {
      {"palm-tiny", 1.5e6}, {"palm-25m", 25e6}, {"palm-125m", 125e6}, {"palm-350m", 350e6}, {"palm-1b", 1.1e9}};
  for (const auto& [name, expected] : presets) {
    const Recipe recipe = parse_recipe(std::string("model: {preset: ") + name + "}\n", "test");
    ModelConfig config = recipe.model;
    config.vocab_size = recipe.tokenizer.vocab_size;
    const Decoder decoder(config, DType::f32, Device::meta, false);
    const auto count = static_cast<double>(decoder.parameters().count());
    EXPECT_NEAR(count / expected, 1, 0.05) << name << ": " << count;
  }
}

}  // namespace
}  // namespace unfurl::train
