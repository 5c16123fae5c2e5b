// Soft prompts and low-rank matrices on a frozen model.
#include <gtest/gtest.h>

#include <cmath>
#include <numeric>
#include <set>

#include "core/autograd.h"
#include "core/optim/optimizer.h"
#include "tests/support/device_check.h"
#include "tests/support/random.h"
#include "train/data/pack.h"
#include "train/model/merge.h"
#include "train/model/open_session.h"
#include "train/trainer/checkpoint.h"
#include "train/trainer/inputs.h"

namespace unfurl::train {
namespace {

ModelConfig config_of(Method method, BlockKind block = BlockKind::parallel) {
  ModelConfig config;
  config.vocab_size = 37;
  config.width = 24;
  config.layers = 2;
  config.heads = 3;
  config.head_dim = 8;
  config.ff_width = 20;
  config.context = 20;
  config.init_std = 0.2;
  config.block = block;
  config.tuning.method = method;
  config.tuning.prompt_tuning.tokens = 5;
  config.tuning.lora.rank = 3;
  return config;
}

template <class T>
void add_noise(const Tensor& to, std::uint64_t seed, double scale) {
  const auto noise = tests::normal<double>(to.numel(), seed, scale);
  for (std::size_t i = 0; i < noise.size(); ++i) to.data<T>()[i] += static_cast<T>(noise[i]);
}

/// One whose low-rank matrices are not zero.
template <class T>
Decoder make_decoder(const ModelConfig& config) {
  Decoder decoder(config, dtype_of<T>, Device::cpu, true);
  decoder.initialise(5);
  std::uint64_t seed = 10;
  for (const Parameter& parameter : decoder.parameters().all()) {
    if (is_of_method(parameter.name)) add_noise<T>(parameter.value, ++seed, 0.2);
  }
  return decoder;
}

Batch some_documents(Index soft_rows) {
  std::vector<Example> examples;
  for (const auto& [rows, prefix] : {std::pair<Index, Index>{7, 3}, {1, 1}, {12, 12}, {9, 1}}) {
    Example& example = examples.emplace_back();
    for (const std::int32_t id : tests::integers(rows + 1, 32, static_cast<std::uint64_t>(rows))) {
      example.tokens.push_back(id + 4);
    }
    example.prefix_length = prefix;
  }
  return make_batch(examples, std::vector<std::int64_t>{0, 1, 2, 3}, 29 + 4 * soft_rows + 3, 6, soft_rows);
}

class MethodsTest : public testing::TestWithParam<std::tuple<Method, BlockKind>> {
 protected:
  ModelConfig config = config_of(std::get<0>(GetParam()), std::get<1>(GetParam()));
};

TEST_P(MethodsTest, GradientsAreThoseOfCentralDifferencesAndTheBaseHasNone) {
  const Decoder decoder = make_decoder<double>(config);
  const ModelInputs inputs = model_inputs(some_documents(config.soft_rows()), 0.3, DType::f64, Device::cpu);
  for (const bool recompute : {false, true}) {
    clear_gradients(decoder.parameters());
    Tape tape;
    Tensor loss;
    {
      const TapeScope scope(tape);
      loss = decoder.loss(inputs, {.seed = 3, .step = 2, .rate = 0.1}, {.recompute = recompute});
    }
    tape.backward(loss);
    for (const Parameter& parameter : decoder.parameters().all()) {
      if (!is_of_method(parameter.name)) {
        EXPECT_EQ(parameter.group, ParameterGroup::frozen) << parameter.name;
        EXPECT_FALSE(parameter.value.gradient().defined()) << parameter.name;
        continue;
      }
      const auto count = static_cast<std::size_t>(parameter.shape.numel());
      const auto direction = tests::normal<double>(parameter.shape.numel(), 9);
      const auto gradient = parameter.value.gradient().values<double>();
      double* const values = parameter.value.data<double>();
      const std::vector<double> before(values, values + count);
      const auto moved = [&](double step) {
        for (std::size_t i = 0; i < count; ++i) values[i] = before[i] + step * direction[i];
        const double at = decoder.loss(inputs, {.seed = 3, .step = 2, .rate = 0.1}).item();
        std::copy(before.begin(), before.end(), values);
        return at;
      };
      const double by_differences = (moved(1e-6) - moved(-1e-6)) / 2e-6;
      const double by_tape = std::inner_product(gradient.begin(), gradient.end(), direction.begin(), 0.0);
      EXPECT_NEAR(by_tape, by_differences, 2e-6 * std::abs(by_differences) + 1e-7) << parameter.name;
      EXPECT_GT(std::abs(by_differences), 1e-6) << parameter.name;
    }
  }
}

// What generates gives the logits of what is trained: lora merged, the soft prompt in front.
void expect_logits_of_training(const ModelConfig& config, Device device, double tolerance) {
  SCOPED_TRACE(name_of(device));
  const Decoder decoder = make_decoder<float>(config);
  const std::unique_ptr<Decoder> plain = merged(decoder, DType::f32, device);
  EXPECT_NE(plain->config().tuning.method, Method::lora);
  const std::vector<std::int32_t> tokens = tests::integers(9, 37, 4);
  for (const Index prefix : {1, 4, 9}) {
    Example example{tokens, prefix, false};
    example.tokens.push_back(5);
    const Batch batch =
        make_batch(std::vector{example}, std::vector<std::int64_t>{0}, 9 + config.soft_rows(), 1, config.soft_rows());
    const Tensor hidden = decoder.hidden(model_inputs(batch, 1, DType::f32, Device::cpu));
    const std::unique_ptr<LanguageModel> session = open_session(*plain);
    EXPECT_EQ(session->context(), config.context);
    session->prefill({tokens.data(), static_cast<std::size_t>(prefix)}, prefix);
    session->fork(1, config.context - prefix);
    for (std::size_t i = static_cast<std::size_t>(prefix);; ++i) {
      const float* const row = hidden.data<float>() + (config.soft_rows() + static_cast<Index>(i) - 1) * config.width;
      for (Index v = 0; v < config.vocab_size; ++v) {
        const float* const entry = decoder.head().data<float>() + v * config.width;
        const float expected = std::inner_product(row, row + config.width, entry, 0.0f);
        ASSERT_NEAR(session->logits().row(0)[v], expected, tolerance * (1 + std::abs(expected))) << v << " after " << i;
      }
      if (i == tokens.size()) break;
      session->step({&tokens[i], 1});
    }
  }
}

TEST_P(MethodsTest, GenerationHasTheLogitsOfTraining) {
  expect_logits_of_training(config, Device::cpu, 1e-5);
  for (const Device device : tests::cuda_devices()) expect_logits_of_training(config, device, 1e-4);
}

TEST_P(MethodsTest, LowRankMatricesStartAtNothingAndNamesAreThoseOfTheTargets) {
  if (config.tuning.method != Method::lora) return;
  Decoder decoder(config, DType::f32, Device::cpu, true);
  decoder.initialise(5);
  Decoder base(config_of(Method::full, config.block), DType::f32, Device::cpu, false);
  base.initialise(5);
  const auto same = merged(decoder);
  for (std::size_t i = 0; i < base.parameters().all().size(); ++i) {
    EXPECT_EQ(same->parameters().all()[i].value.values<float>(), base.parameters().all()[i].value.values<float>());
  }
  std::vector<std::string> names;
  for (const Parameter& parameter : decoder.parameters().all()) {
    if (parameter.name.starts_with("layers.1.") && is_of_method(parameter.name)) names.push_back(parameter.name);
  }
  EXPECT_EQ(names.size(), 14u);
  EXPECT_EQ(names[0], "layers.1.q.lora_a.weight");
  EXPECT_EQ(names[11], "layers.1.attention_output.lora_b.weight");
  config.tuning.lora.targets = {"v", "down"};
  EXPECT_EQ(Decoder(config, DType::f32, Device::meta, true).parameters().all().size(),
            base.parameters().all().size() + 2 * 2 * 2);
}

INSTANTIATE_TEST_SUITE_P(Both, MethodsTest,
                         testing::Combine(testing::Values(Method::prompt_tuning, Method::lora),
                                          testing::Values(BlockKind::parallel, BlockKind::serial)));

TEST(SoftPromptOfADecoder, StartsFromEmbeddingsThatDiffer) {
  ModelConfig config = config_of(Method::prompt_tuning);
  Decoder decoder(config, DType::f32, Device::cpu, true);
  decoder.initialise(5);
  decoder.start_soft_prompt(16, 8, 3);
  const auto& all = decoder.parameters().all();
  const std::vector<float> table = all.front().value.values<float>(), prompt = all.back().value.values<float>();
  ASSERT_EQ(all.back().name, "soft_prompt.weight");
  std::set<Index> pieces;
  for (Index i = 0; i < 5; ++i) {
    for (Index piece = 16; piece < 24; ++piece) {
      if (std::equal(prompt.begin() + i * 24, prompt.begin() + (i + 1) * 24, table.begin() + piece * 24)) {
        pieces.insert(piece);
      }
    }
  }
  EXPECT_EQ(pieces.size(), 5u);
}

}  // namespace
}  // namespace unfurl::train
