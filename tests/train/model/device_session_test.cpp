// A session on devices that run CUDA kernels, against the CPU's.
#include "train/model/device_session.h"

#include <gtest/gtest.h>

#include <cmath>
#include <map>
#include <memory>
#include <vector>

#include "core/copy.h"
#include "tests/support/device_check.h"
#include "tests/support/expect_error.h"
#include "tests/support/random.h"
#include "tests/train/generate/fake_model.h"
#include "train/generate/decode.h"
#include "train/generate/expander.h"
#include "train/model/session.h"

namespace unfurl::train {
namespace {

using Tokens = std::vector<std::int32_t>;

/// Of the pieces of a FakeCodec.
ModelConfig small(BlockKind block) {
  ModelConfig config;
  config.vocab_size = tests::FakeCodec::kWords + static_cast<Index>(tests::fake_words().size());
  config.width = 32;
  config.layers = 2;
  config.heads = 2;
  config.kv_heads = 1;
  config.head_dim = 16;
  config.ff_width = 48;
  config.context = 80;
  config.init_std = 0.3;
  config.block = block;
  config.qk_norm = block == BlockKind::serial;
  return config;
}

std::vector<float> row(const LanguageModel& session, Index r) {
  const float* first = session.logits().row(r);
  return {first, first + session.vocab_size()};
}

/// The greatest difference, relative to the greatest value.
double difference(const std::vector<float>& a, const std::vector<float>& b) {
  double most = 0, size = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    const double error = std::abs(static_cast<double>(a[i]) - static_cast<double>(b[i]));
    most = error <= most ? most : error;  // a NaN stays
    size = std::max(size, std::abs(static_cast<double>(b[i])));
  }
  return most / size;
}

/// A model on a device, with the weights that initialise() gives on the CPU.
struct Made {
  Made(BlockKind block, DType dtype, Device device) : decoder(small(block), dtype, device, false) {
    decoder.initialise(3);
  }
  Decoder decoder;
};

class DeviceSessionTest : public testing::TestWithParam<BlockKind> {
 protected:
  void SetUp() override { SKIP_WITHOUT_CUDA_DEVICE(); }

  Made cpu{GetParam(), DType::f32, Device::cpu};
};

TEST_P(DeviceSessionTest, LogitsAreThoseOfTheCpu) {
  const Tokens tokens = tests::integers(70, 280, 5);
  DecoderSession expected(cpu.decoder);
  for (const Device device : tests::cuda_devices()) {
    for (const auto& [dtype, tolerance] : {std::pair{DType::f32, 1e-4}, {DType::bf16, 8e-2}}) {
      const Made there(GetParam(), dtype, device);
      DeviceSession session(there.decoder);
      for (const std::size_t shared : {1, 9, 66}) {  // the last: keys of two parts, of both caches
        for (LanguageModel* model : {static_cast<LanguageModel*>(&expected), static_cast<LanguageModel*>(&session)}) {
          model->prefill({tokens.data(), shared}, 4 < shared ? 4 : 1);
          model->fork(2, 4);
        }
        EXPECT_LE(difference(row(session, 1), row(expected, 1)), tolerance);
        for (std::size_t i = 0; i < 4; ++i) {
          const Tokens next = {tokens[i], tokens[i + 10]};
          expected.step(next);
          session.step(next);
          for (const Index r : {0, 1}) {
            EXPECT_LE(difference(row(session, r), row(expected, r)), tolerance)
                << name_of(dtype) << " shared " << shared << " step " << i;
          }
        }
      }
    }
  }
}

TEST_P(DeviceSessionTest, RowsAreCutKeptAndForkedAgain) {
  const Tokens shared = tests::integers(5, 280, 1), own = tests::integers(4 * 8, 280, 2);
  for (const Device device : tests::cuda_devices()) {
    const Made there(GetParam(), DType::bf16, device);
    DeviceSession session(there.decoder);
    session.prefill(shared, 4);
    std::vector<std::vector<float>> alone;
    for (std::size_t r = 0; r < 4; ++r) {
      session.fork(1, 8);
      for (std::size_t i = 0; i < 5; ++i) session.step({&own[r * 8 + i], 1});
      alone.push_back(row(session, 0));
    }
    session.fork(4, 8);
    const auto step = [&](std::size_t position, const std::vector<std::size_t>& open, std::size_t behind) {
      Tokens tokens;
      for (const std::size_t r : open) tokens.push_back(own[r * 8 + position - (r == 1 ? behind : 0)]);
      session.step(tokens);
    };
    for (std::size_t i = 0; i < 3; ++i) step(i, {0, 1, 2, 3}, 0);
    session.truncate(1, 1);
    session.keep(std::vector<Index>{1, 3});
    step(3, {1, 3}, 2);
    step(4, {1, 3}, 2);
    EXPECT_EQ(row(session, 1), alone[3]);  // the same bits
    session.keep(std::vector<Index>{0});
    step(5, {1}, 2);
    step(6, {1}, 2);
    EXPECT_EQ(row(session, 0), alone[1]);
    EXPECT_EQ(tests::error_of([&] { session.step(Tokens{1, 2}); }), "step: 2 tokens for 1 rows");
    EXPECT_EQ(tests::error_of([&] { session.step(Tokens{1000}); }), "step: there is no token 1000");
  }
}

/// What a decode of a few rows gives, as one text.
std::string told(LanguageModel& model, const PieceTable& pieces, const DecodeSettings& settings,
                 const std::vector<Draw>& draws, bool with_probability = true) {
  std::string out;
  for (const Continuation& c : decode(model, pieces, settings, draws)) {
    out += fmt::format("{} {} {} {}\n", c.text, stop_name(c.stop), c.tokens, with_probability ? c.log_probability : 0);
  }
  return out;
}

DecodeSettings settings_of(float temperature, Index max_tokens) {
  DecodeSettings settings;
  settings.seed = 11;
  settings.sampling = {.temperature = temperature, .top_k = 0, .top_p = 0.9f, .min_p = 0};
  settings.max_tokens = max_tokens;
  return settings;
}

TEST_P(DeviceSessionTest, GreedyTextsAreThoseOfTheCpu) {
  const tests::FakeCodec codec(tests::fake_words());
  DecoderSession expected(cpu.decoder);
  const PieceTable pieces(codec, expected.vocab_size());
  for (const Device device : tests::cuda_devices()) {
    const Made there(GetParam(), DType::f32, device);
    DeviceSession session(there.decoder);
    for (const std::uint64_t seed : {1, 2}) {
      const Tokens shared = tests::integers(6, 280, seed);
      expected.prefill(shared, 5);
      session.prefill(shared, 5);
      for (const bool closed : {false, true}) {
        DecodeSettings settings = settings_of(0, 8);
        settings.closed = closed;
        const std::vector<Draw> draws = {{0, 0}, {0, 1}};  // which may end at once, and may not
        EXPECT_EQ(told(session, pieces, settings, draws, false), told(expected, pieces, settings, draws, false));
      }
    }
  }
}

TEST_P(DeviceSessionTest, ASampleDependsNeitherOnTheOthersNorOnTheLag) {
  const tests::FakeCodec codec(tests::fake_words());
  for (const Device device : tests::cuda_devices()) {
    const Made there(GetParam(), DType::bf16, device);
    DeviceSession session(there.decoder);
    const PieceTable pieces(codec, session.vocab_size());
    session.prefill(tests::integers(6, 280, 1), 5);
    DecodeSettings settings = settings_of(1, 7);
    const std::vector<Draw> draws = {{0, 0}, {1, 0}, {2, 1}, {3, 0}};
    const std::string all = told(session, pieces, settings, draws);
    for (const Index ahead : {0, 20}) {
      settings.ahead = ahead;
      EXPECT_EQ(told(session, pieces, settings, draws), all);
    }
    std::string one_by_one;
    for (const Draw& draw : draws) {
      one_by_one += told(session, pieces, settings, {draw});
    }
    EXPECT_EQ(one_by_one, all);
    settings.seed = 12;
    EXPECT_NE(told(session, pieces, settings, {{0, 0}}), all.substr(0, all.find('\n') + 1));
  }
}

/// Rows that draw by themselves and rows drawn from the logits differ by rounding alone.
TEST_P(DeviceSessionTest, BansAreKeptByWayOfTheHost) {
  const tests::FakeCodec codec(tests::fake_words());
  for (const Device device : tests::cuda_devices()) {
    const Made there(GetParam(), DType::f32, device);
    DeviceSession session(there.decoder);
    DecoderSession expected(cpu.decoder);
    const PieceTable pieces(codec, session.vocab_size());
    for (LanguageModel* model : {static_cast<LanguageModel*>(&expected), static_cast<LanguageModel*>(&session)}) {
      model->prefill(tests::integers(6, 280, 1), 5);
    }
    DecodeSettings settings = settings_of(1, 6);
    const std::vector<Draw> draws = {{0, 0}, {1, 0}};
    const std::string free = told(session, pieces, settings, draws, false);
    EXPECT_EQ(free, told(expected, pieces, settings, draws, false));
    const Bans never({"zebra crossing"});
    settings.bans = &never;
    EXPECT_EQ(told(session, pieces, settings, draws, false), free);
    const Bans words({"oil", "fog", "a", "s", "art", "sun", "by"});
    settings.bans = &words;
    EXPECT_EQ(told(session, pieces, settings, draws, false), told(expected, pieces, settings, draws, false));
  }
}

TEST_P(DeviceSessionTest, DrawsFollowTheDistribution) {
  const tests::FakeCodec codec(tests::fake_words());
  for (const Device device : tests::cuda_devices()) {
    const Made there(GetParam(), DType::f32, device);
    DeviceSession session(there.decoder);
    const PieceTable pieces(codec, session.vocab_size());
    session.prefill(tests::integers(6, 280, 1), 5);
    session.fork(8, 1);
    const std::vector<float> logits = row(session, 0);
    std::map<std::int32_t, double> expected, found;
    double sum = 0;
    for (std::int32_t piece = 0; piece < session.vocab_size(); ++piece) {
      const std::uint8_t next = pieces.follows().next[static_cast<std::size_t>(piece)];
      if (next == kernels::kNeverFollows) continue;
      expected[piece] = std::exp(static_cast<double>(logits[static_cast<std::size_t>(piece)]));
      sum += expected[piece];
    }
    constexpr int kRounds = 100;
    for (std::uint64_t round = 0; round < kRounds; ++round) {
      session.fork(8, 1);
      std::vector<DrawStart> starts;
      for (std::uint64_t r = 0; r < 8; ++r) starts.push_back({0, round * 8 + r});
      session.begin_draws(pieces.follows(), {}, 5, starts);
      session.queue_draw();
      for (const Drawn& drawn : session.take_draw()) {
        found[drawn.token] += 1.0 / (8 * kRounds);
        ASSERT_TRUE(expected.contains(drawn.token)) << drawn.token;
        EXPECT_NEAR(drawn.log_probability, std::log(expected[drawn.token] / sum), 1e-4);
      }
    }
    double distance = 0;
    for (const auto& [piece, weight] : expected) distance += std::abs(weight / sum - found[piece]) / 2;
    EXPECT_LT(distance, 0.2) << "total variation of 800 draws";
  }
}

TEST_P(DeviceSessionTest, LogitsThatAreNotFiniteAreAnError) {
  const tests::FakeCodec codec(tests::fake_words());
  for (const Device device : tests::cuda_devices()) {
    Made there(GetParam(), DType::f32, device);
    DeviceSession session(there.decoder);
    const PieceTable pieces(codec, session.vocab_size());
    fill(there.decoder.final_gain(), std::nan(""));
    session.prefill(tests::integers(6, 280, 1), 5);
    EXPECT_EQ(tests::error_of([&] {
                told(session, pieces, settings_of(1, 4), {{0, 0}});
              }),
              "the model's logits at position 0 are not finite numbers");
  }
}

INSTANTIATE_TEST_SUITE_P(Blocks, DeviceSessionTest, testing::Values(BlockKind::parallel, BlockKind::serial));

}  // namespace
}  // namespace unfurl::train
