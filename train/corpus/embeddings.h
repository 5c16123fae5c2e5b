// Files of embeddings: one vector a row, in .safetensors or .npy, of float32, float16, bfloat16 or float64.
#pragma once
#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "kernels/types.h"

namespace unfurl::train {

/// A file, mapped into memory and converted row by row.
class EmbeddingFile {
 public:
  /// The kind is told by the file's first bytes. Of a .safetensors file it is the tensor "embeddings", or the only
  /// matrix. Throws UserError naming the file where it is none, or has no matrix of floating type with a row and a
  /// column at least.
  explicit EmbeddingFile(std::filesystem::path path);
  ~EmbeddingFile();
  EmbeddingFile(const EmbeddingFile&) = delete;
  EmbeddingFile& operator=(const EmbeddingFile&) = delete;

  const std::filesystem::path& path() const { return path_; }
  Index rows() const { return rows_; }
  Index cols() const { return cols_; }
  /// The file says so: "simulated" is "true" in the metadata of a .safetensors file.
  bool simulated() const;

  /// Rows [first, first + count), as they are: out is [count, cols].
  void read(Index first, Index count, float* out) const;

  /// A hash of all elements.
  std::uint64_t fingerprint() const;

 private:
  struct Source;
  std::filesystem::path path_;
  std::unique_ptr<Source> source_;
  Index rows_ = 0, cols_ = 0;
};

/// Divides the vector by its length (summed in double). False, with the vector as it was, where an element is not
/// finite or the length is 0.
bool normalize(std::span<float> vector);

/// Why normalize() cannot: "not finite" or "zero".
const char* fault_of_embedding(std::span<const float> vector);

/// All rows, of length 1: [rows, cols]. Throws UserError naming the file and the first row that has no direction.
std::vector<float> read_unit_rows(const EmbeddingFile& file);

}  // namespace unfurl::train
