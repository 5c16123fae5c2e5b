// Random segmentations of a text into the pieces of a SentencePiece model, drawn from counter-based random numbers.
// (The library's own sampler draws from a generator per thread, which cannot be addressed.)
#pragma once
#include <cstdint>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "kernels/philox.h"

namespace unfurl::train {

/// Numbers in [0, 1) in a row, a pure function of (key, index).
class Draws {
 public:
  Draws(const PhiloxKey& key, std::uint64_t index) : key_(key), index_(index) {}
  float next() {
    if (used_ == 4) {
      numbers_ = philox(key_, index_++);
      used_ = 0;
    }
    return uniform(numbers_[used_++]);
  }

 private:
  PhiloxKey key_;
  std::uint64_t index_;
  std::array<std::uint32_t, 4> numbers_{};
  std::size_t used_ = 4;
};

class Segmenter {
 public:
  /// Adds a learnt piece: the bytes it stands for (a space for the model's "▁"), its score in the model.
  void add(std::string_view bytes, std::int32_t id, float score);

  // Both append the pieces of a text that is valid UTF-8. Pieces do not go across the beginning of a word (a space
  // opens the next word), so words are segmented one by one. A character without a piece is appended as -1 - byte, byte
  // by byte.

  /// Byte-pair merges, the best score first, each left out with probability `dropout` (0: the model's segmentation).
  void merge(std::string_view text, double dropout, Draws& draws, std::vector<std::int32_t>& out) const;
  /// A path through all segmentations, with probability proportional to exp(power * sum of scores).
  void sample(std::string_view text, double power, Draws& draws, std::vector<std::int32_t>& out) const;

 private:
  struct Piece {
    std::int32_t id;
    float score;
  };
  struct Hash {
    using is_transparent = void;
    std::size_t operator()(std::string_view text) const { return std::hash<std::string_view>{}(text); }
  };
  const Piece* find(std::string_view bytes) const;
  void merge_word(std::string_view word, double dropout, Draws& draws, std::vector<std::int32_t>& out) const;
  void sample_word(std::string_view word, double power, Draws& draws, std::vector<std::int32_t>& out) const;
  static void append_bytes(std::string_view bytes, std::vector<std::int32_t>& out);

  std::unordered_map<std::string, Piece, Hash, std::equal_to<>> pieces_;
  std::size_t longest_ = 1;  // bytes
  float lowest_ = 0;         // score
};

}  // namespace unfurl::train
