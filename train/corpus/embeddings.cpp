#include "train/corpus/embeddings.h"

#include <algorithm>
#include <cmath>
#include <optional>

#include "core/error.h"
#include "core/names.h"
#include "core/npy.h"
#include "core/safetensors.h"

namespace unfurl::train {
namespace {

bool floating(FileDType dtype) {
  return dtype == FileDType::F64 || dtype == FileDType::F32 || dtype == FileDType::F16 || dtype == FileDType::BF16;
}

bool starts_as_npy(const std::filesystem::path& path) { return MappedFile(path).text().starts_with("\x93NUMPY"); }

const FileTensor& matrix_of(const SafetensorsFile& file) {
  if (const FileTensor* named = file.find("embeddings")) return *named;
  const FileTensor* only = nullptr;
  for (const FileTensor& tensor : file.tensors()) {
    if (tensor.shape.size() != 2) continue;
    if (only != nullptr) {
      user_error("{} has several matrices: name the one of the embeddings \"embeddings\"", file.path().string());
    }
    only = &tensor;
  }
  if (only == nullptr) user_error("{} has no matrix of embeddings", file.path().string());
  return *only;
}

}  // namespace

struct EmbeddingFile::Source {
  std::optional<NpyFile> npy;
  std::optional<SafetensorsFile> safetensors;
  const FileTensor* tensor = nullptr;
};

EmbeddingFile::EmbeddingFile(std::filesystem::path path) : path_(std::move(path)), source_(std::make_unique<Source>()) {
  if (starts_as_npy(path_)) {
    source_->tensor = &source_->npy.emplace(path_).tensor();
  } else {
    source_->tensor = &matrix_of(source_->safetensors.emplace(path_));
  }
  const FileTensor& tensor = *source_->tensor;
  if (tensor.shape.size() != 2 || !floating(tensor.dtype)) {
    user_error("{}: embeddings are a matrix of floating type, one a row; this has {} {} of type {}", path_.string(),
               tensor.shape.size(), plural(static_cast<Index>(tensor.shape.size()), "dimension"),
               name_of(tensor.dtype));
  }
  rows_ = tensor.shape[0];
  cols_ = tensor.shape[1];
  if (rows_ == 0 || cols_ == 0) user_error("{} has no embedding: it is {} x {}", path_.string(), rows_, cols_);
}

EmbeddingFile::~EmbeddingFile() = default;

bool EmbeddingFile::simulated() const {
  return source_->safetensors && source_->safetensors->metadata("simulated") == "true";
}

void EmbeddingFile::read(Index first, Index count, float* out) const {
  require(first >= 0 && count >= 0 && count <= rows_ - first, "read embeddings: rows {} to {} of {}", first,
          first + count, rows_);
  const FileTensor& tensor = *source_->tensor;
  const auto row_bytes = static_cast<std::size_t>(cols_ * size_of(tensor.dtype));
  copy_elements(
      tensor.dtype,
      tensor.bytes.subspan(static_cast<std::size_t>(first) * row_bytes, static_cast<std::size_t>(count) * row_bytes),
      out);
}

std::uint64_t EmbeddingFile::fingerprint() const {
  const std::span<const std::byte> bytes = source_->tensor->bytes;
  return hash_bytes({reinterpret_cast<const char*>(bytes.data()), bytes.size()}, static_cast<std::uint64_t>(cols_));
}

const char* fault_of_embedding(std::span<const float> vector) {
  return std::all_of(vector.begin(), vector.end(), [](float x) { return std::isfinite(x); }) ? "zero" : "not finite";
}

bool normalize(std::span<float> vector) {
  double squares = 0;
  for (const float x : vector) squares += static_cast<double>(x) * x;
  if (!std::isfinite(squares) || squares == 0) return false;
  const double scale = 1 / std::sqrt(squares);
  for (float& x : vector) x = static_cast<float>(x * scale);
  return true;
}

std::vector<float> read_unit_rows(const EmbeddingFile& file) {
  const auto cols = static_cast<std::size_t>(file.cols());
  std::vector<float> rows(static_cast<std::size_t>(file.rows()) * cols);
  file.read(0, file.rows(), rows.data());
  for (Index r = 0; r < file.rows(); ++r) {
    const std::span<float> row(rows.data() + static_cast<std::size_t>(r) * cols, cols);
    if (!normalize(row)) {
      user_error("{}: row {} (the first is 0) is {}: it has no direction", file.path().string(), r,
                 fault_of_embedding(row));
    }
  }
  return rows;
}

}  // namespace unfurl::train
