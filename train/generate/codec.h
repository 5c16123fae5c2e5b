// What generation asks of a tokenizer.
#pragma once
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "kernels/types.h"

namespace unfurl::train {

/// What the model reads before the prompt begins: "[prefix] query <sep>" as the training data lays it out.
struct Condition {
  std::vector<std::int32_t> tokens;
  Index prefix_length = 0;  // how many of the tokens attend both ways
};

class Codec {
 public:
  virtual ~Codec() = default;

  /// How many pieces there are.
  virtual Index size() const = 0;

  /// The end of a prompt.
  virtual std::int32_t eos() const = 0;

  /// True for pieces that stand for no text (<eos>, <sep>, <unk>, prefixes, mode tokens): they are never generated, but
  /// for eos.
  virtual bool is_control(std::int32_t piece) const = 0;

  /// The bytes a piece stands for inside of a text: " cat" for "▁cat", one byte for a byte piece (so they may be a part
  /// of a character), nothing for control pieces.
  virtual std::string bytes(std::int32_t piece) const = 0;

  /// A prompt's opening words, in the pieces that training gave them, no control pieces.
  virtual std::vector<std::int32_t> encode(std::string_view text) const = 0;

  /// The condition for a query; `prefix` is one of prefixes(), or empty for none.
  virtual Condition condition(std::string_view query, std::string_view prefix) const = 0;

  /// The names of the prefixes the tokenizer knows ("FLV", ...).
  virtual std::vector<std::string> prefixes() const = 0;
};

}  // namespace unfurl::train
