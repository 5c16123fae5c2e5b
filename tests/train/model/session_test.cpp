#include "train/model/session.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <memory>
#include <vector>

#include "tests/support/random.h"

namespace unfurl::train {
namespace {

ModelConfig small() {
  ModelConfig config;
  config.vocab_size = 61;
  config.width = 32;
  config.layers = 2;
  config.heads = 2;
  config.head_dim = 16;
  config.ff_width = 80;
  config.context = 40;
  config.init_std = 0.3;
  return config;
}

std::vector<float> row(const DecoderSession& session, Index r) {
  const float* first = session.logits().row(r);
  return {first, first + session.vocab_size()};
}

void expect_near(const std::vector<float>& a, const std::vector<float>& b) {
  ASSERT_EQ(a.size(), b.size());
  for (std::size_t i = 0; i < a.size(); ++i) ASSERT_NEAR(a[i], b[i], 2e-4f * (1 + std::abs(b[i]))) << i;
}

class SessionTest : public testing::TestWithParam<BlockKind> {
 protected:
  SessionTest() {
    ModelConfig config = small();
    config.block = GetParam();
    decoder = std::make_unique<Decoder>(config, DType::f32, Device::cpu, false);
    decoder->initialise(3);
    session = std::make_unique<DecoderSession>(*decoder);
  }
  void rows_do_not_depend_on_others();

  std::unique_ptr<Decoder> decoder;
  std::unique_ptr<DecoderSession> session;
};

// The logits after a step are those of a prefill of everything at once.
TEST_P(SessionTest, StepsGiveWhatOnePrefillGives) {
  const auto tokens = tests::integers(12, 61, 5);
  for (const Index shared : {1, 4, 9}) {
    const Index prefix = std::min<Index>(shared, 3);
    session->prefill({tokens.data(), static_cast<std::size_t>(shared)}, prefix);
    session->fork(1, 12);
    for (Index i = shared; i < 12; ++i) {
      const std::vector<float> stepped = row(*session, 0);
      DecoderSession whole(*decoder);
      whole.prefill({tokens.data(), static_cast<std::size_t>(i)}, prefix);
      whole.fork(1, 1);
      expect_near(stepped, row(whole, 0));
      session->step({&tokens[static_cast<std::size_t>(i)], 1});
    }
  }
}

// The bits of a row are the same in any company, whatever happened to the other rows.
void SessionTest::rows_do_not_depend_on_others() {
  const auto shared = tests::integers(5, 61, 1), own = tests::integers(8 * 10, 61, 2);
  session->prefill(shared, 4);
  std::vector<std::vector<float>> alone;
  for (Index r = 0; r < 8; ++r) {
    session->fork(1, 10);
    for (Index i = 0; i < 6; ++i) session->step({&own[static_cast<std::size_t>(r * 10 + i)], 1});
    alone.push_back(row(*session, 0));
  }
  for (Index rows = 2; rows <= 8; ++rows) {
    session->fork(rows, 10);
    const auto step = [&](Index position, const std::vector<Index>& open, Index late) {
      std::vector<std::int32_t> tokens;
      for (const Index r : open) {
        tokens.push_back(own[static_cast<std::size_t>(r * 10 + (r == late ? position - 2 : position))]);
      }
      session->step(tokens);
    };
    std::vector<Index> open;
    for (Index r = 0; r < rows; ++r) open.push_back(r);
    for (Index i = 0; i < 4; ++i) step(i, open, -1);
    session->truncate(1, 2);  // row 1 goes back by two tokens, and is two behind from here on
    step(4, open, 1);
    session->keep(std::vector<Index>(open.begin() + 1, open.end()));
    open.erase(open.begin());
    step(5, open, 1);
    for (std::size_t i = 1; i < open.size(); ++i) {
      const std::vector<float> found = row(*session, static_cast<Index>(i));
      const std::vector<float>& expected = alone[static_cast<std::size_t>(open[i])];
      EXPECT_EQ(std::memcmp(found.data(), expected.data(), found.size() * sizeof(float)), 0)
          << "row " << open[i] << " of " << rows;
    }
    step(6, open, 1);
    step(7, open, 1);
    EXPECT_EQ(row(*session, 0), alone[1]) << rows;
  }
}

TEST_P(SessionTest, RowsDoNotDependOnOthers) { rows_do_not_depend_on_others(); }

TEST_P(SessionTest, RowsDoNotDependOnOthersWithWeightsOf8Bits) {
  session = std::make_unique<DecoderSession>(*decoder, DecodePrecision::int8);
  rows_do_not_depend_on_others();
}

// Rounding the weights to 8 bits moves the logits by little, though not by nothing.
TEST_P(SessionTest, WeightsOf8BitsGiveNearlyTheSameLogits) {
  DecoderSession rounded(*decoder, DecodePrecision::int8);
  const auto tokens = tests::integers(20, 61, 5);
  for (DecoderSession* each : {session.get(), &rounded}) {
    each->prefill({tokens.data(), 12}, 5);
    each->fork(1, 8);
    for (std::size_t i = 12; i < 20; ++i) each->step({&tokens[i], 1});
  }
  const auto exact = row(*session, 0), near = row(rounded, 0);
  double difference = 0, size = 0;
  for (std::size_t i = 0; i < exact.size(); ++i) {
    difference += std::pow(static_cast<double>(near[i] - exact[i]), 2);
    size += std::pow(static_cast<double>(exact[i]), 2);
  }
  EXPECT_GT(difference, 0);
  EXPECT_LT(std::sqrt(difference / size), 0.03);
}

INSTANTIATE_TEST_SUITE_P(Blocks, SessionTest, testing::Values(BlockKind::parallel, BlockKind::serial));

}  // namespace
}  // namespace unfurl::train
