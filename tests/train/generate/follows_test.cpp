// What may follow what, as the table for models that draw by themselves has it, against the text itself.
#include <gtest/gtest.h>

#include "core/error.h"
#include "tests/support/random.h"
#include "tests/train/generate/fake_model.h"
#include "train/generate/characters.h"
#include "train/generate/decode.h"

namespace unfurl::train {
namespace {

using tests::FakeCodec;

TEST(Follows, IsWhatUtf8Allows) {
  const FakeCodec codec(
      {" caf\xC3", "\xA9", "\xA9s", " \xE2\x80", "\x9D\xF0\x9F", " sky", "\xBF\xBF", "\x80\xE0", "\n"});
  const Index vocab = codec.size() + 2;  // the model has two pieces more
  const PieceTable pieces(codec, vocab);
  const Follows& follows = pieces.follows();
  const auto next = [&](std::uint8_t state, std::int32_t piece) {
    return follows
        .next[static_cast<std::size_t>(state) * static_cast<std::size_t>(vocab) + static_cast<std::size_t>(piece)];
  };
  // Texts of random pieces that may follow; in each state every piece is tried.
  for (std::uint64_t seed = 0; seed < 60; ++seed) {
    const auto random = tests::integers(12, 1 << 30, seed);
    std::string text;
    std::uint8_t state = pieces.first_state(false, true);
    for (const std::int32_t number : random) {
      const std::string tail = text.substr(text.size() - incomplete_tail(text));
      std::vector<std::int32_t> may;
      for (std::int32_t piece = 0; piece < vocab; ++piece) {
        const bool known = piece >= FakeCodec::kBytes && piece < codec.size();
        bool expected = piece == codec.eos() && tail.empty();
        if (known) {
          const std::string bytes = codec.bytes(piece);
          const bool continues = (static_cast<unsigned char>(bytes[0]) & 0xC0) == 0x80;
          expected = tail.empty() ? pieces.mask(false)[piece] == 0 : continues && valid_utf8_so_far(tail + bytes);
        }
        ASSERT_EQ(next(state, piece) != kernels::kNeverFollows, expected) << "piece " << piece << " after " << text;
        if (expected && known) may.push_back(piece);
      }
      if (may.empty()) break;  // bytes that begin no character
      const std::int32_t piece = may[static_cast<std::size_t>(number) % may.size()];
      state = next(state, piece);
      text += codec.bytes(piece);
    }
  }
}

TEST(Follows, TheFirstPieceDependsOnTheOpening) {
  const FakeCodec codec(tests::fake_words());
  const PieceTable pieces(codec, codec.size());
  const auto may = [&](std::uint8_t state, std::int32_t piece) {
    return pieces.follows().next[static_cast<std::size_t>(state) * static_cast<std::size_t>(codec.size()) +
                                 static_cast<std::size_t>(piece)] != kernels::kNeverFollows;
  };
  for (const bool closed : {false, true}) {
    for (const bool ends : {false, true}) {
      const std::uint8_t state = pieces.first_state(closed, ends);
      EXPECT_EQ(may(state, codec.eos()), ends);
      EXPECT_EQ(may(state, codec.id("ist")), !closed);
      EXPECT_TRUE(may(state, codec.id(" sky")));
      EXPECT_FALSE(may(state, FakeCodec::kSep));
    }
  }
}

}  // namespace
}  // namespace unfurl::train
