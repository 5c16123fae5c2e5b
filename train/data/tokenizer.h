// Text to pieces and back: a SentencePiece model, trained inside the program, with the pieces of our own.
//
//   id 0 <pad>   1 <unk>   2 <bos>   3 <eos>   4 <sep>   5..12 the prefixes <ABST> ... <MSTP> in the order of kPrefixes
//   13 [R]   14 [S]   15 [X] (UL2's modes)   16.. UL2's sentinels <extra_id_0> ..., none by default
//   then the 256 bytes (with byte fallback), then what was learnt
//
// The first 16 and the sentinels are control pieces: no text is ever encoded as one, not even the text "<FLV>".
//
// Encoding loses nothing: there is no normalisation; what the vocabulary does not cover is spelt in bytes, tabs and
// line ends too, and decode(encode(text)) == text for every valid UTF-8 text (with byte fallback, the default). Every
// text is encoded by itself, opened by one space that decode takes away again: so "a cat" opens a prompt with the same
// pieces that it has as a query, and the query and the prompt of a pair are always encoded separately.
//
// The file is an ordinary .model file of SentencePiece with a seal behind it (an extension field that other readers
// skip), by which a damaged or foreign file is told from ours.
#pragma once
#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "kernels/philox.h"

namespace unfurl::train {

struct TokenizerConfig {
  enum class Model { bpe, unigram };
  int vocab_size = 4096;  // all pieces
  int sentinels = 0;
  Model model = Model::bpe;
  bool byte_fallback = true;           // without it, characters outside of the vocabulary are lost (<unk>)
  bool split_digits = true;            // each digit is a piece of its own
  double character_coverage = 0.9995;  // share of the text's characters that get a piece, in [0.9, 1]
  std::int64_t max_lines = 0;          // train on so many lines, drawn by seed; 0: on all
  std::uint64_t seed = 1;
};

class Tokenizer {
 public:
  static constexpr std::int32_t kPad = 0, kUnknown = 1, kBegin = 2, kEnd = 3, kSeparator = 4, kFirstPrefix = 5;
  static constexpr std::int32_t kModeR = 13, kModeS = 14, kModeX = 15, kControls = 16;

  /// Learns the pieces from the lines and writes the model file. The same lines and configuration give the same file on
  /// any machine and number of threads. Throws UserError for text that is not UTF-8, no text, a vocabulary too small
  /// for the text's characters, or one too large: the message states the greatest size possible.
  static void train(const TokenizerConfig& config, std::span<const std::string_view> lines,
                    const std::filesystem::path& out);

  /// Throws UserError where the file is missing, damaged, or not one of ours.
  explicit Tokenizer(const std::filesystem::path& path);
  ~Tokenizer();
  Tokenizer(const Tokenizer&) = delete;
  Tokenizer& operator=(const Tokenizer&) = delete;

  /// The pieces of the text; none for empty text. Throws UserError where the text is not valid UTF-8.
  std::vector<std::int32_t> encode(std::string_view text) const;

  /// A random segmentation that decodes to the text: a pure function of (text, alpha, key, index). It draws at index,
  /// index + 1, ...: fewer than the text has bytes. alpha in [0, 1]: 0 is encode. BPE: each merge is left out with
  /// probability alpha (BPE-dropout; Provilkov et al., 2020), 1 leaves characters. Unigram: a segmentation is drawn
  /// with probability proportional to P(segmentation)^((1 - alpha) / alpha) (Kudo, 2018): 0.5 is the model's own
  /// distribution, 1 the uniform one. Throws UserError where the text is not valid UTF-8.
  std::vector<std::int32_t> encode_sampled(std::string_view text, double alpha, const PhiloxKey& key,
                                           std::uint64_t index) const;

  /// The text of the pieces, control pieces left out; always valid UTF-8 (bytes that make no character become U+FFFD).
  /// Throws Error for an id outside of the vocabulary.
  std::string decode(std::span<const std::int32_t> ids) const;

  /// How the piece is written in the model: "<eos>", "<FLV>", "<0x0A>", "▁cat". Throws Error as decode does.
  const std::string& piece(std::int32_t id) const;

  /// The bytes that the piece stands for; its leading space, if any, is one of them. Empty for control pieces.
  const std::string& bytes(std::int32_t id) const;

  /// The piece of a prefix. Throws UserError for an unknown name.
  std::int32_t prefix_id(std::string_view name) const;

  std::int32_t vocab_size() const;
  /// The control pieces: kControls, and the sentinels behind them.
  std::int32_t controls() const;
  std::int32_t sentinels() const { return controls() - kControls; }
  /// The first piece that was learnt. With bpe the commonest come first.
  std::int32_t first_learnt() const;
  TokenizerConfig::Model model() const;
  bool byte_fallback() const;
  /// XXH3 of the model file.
  std::uint64_t fingerprint() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace unfurl::train
