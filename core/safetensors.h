// The safetensors file format (https://huggingface.co/docs/safetensors): a little-endian 64-bit header length, a JSON
// header of that many bytes, and the elements of all tensors, without gaps.
#pragma once
#include <filesystem>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "core/files.h"
#include "kernels/types.h"

namespace unfurl {

/// Element types of the format, by the names it gives them.
enum class FileDType : std::uint8_t { F64, F32, F16, BF16, I64, I32, I16, I8, U64, U32, U16, U8, BOOL };

/// "F64", ...
const char* name_of(FileDType dtype);
/// Bytes of an element.
Index size_of(FileDType dtype);

using FileMetadata = std::vector<std::pair<std::string, std::string>>;

/// A tensor in a file that is open.
struct FileTensor {
  std::string name;
  FileDType dtype = FileDType::F32;
  std::vector<Index> shape;
  std::span<const std::byte> bytes;  // row-major; not aligned

  Index count() const { return static_cast<Index>(bytes.size()) / size_of(dtype); }
};

/// Elements of a file as T: any floating type rounded to float or double, equal types as they are. False, and nothing
/// written, for types that do not convert.
template <class T>
bool copy_elements(FileDType dtype, std::span<const std::byte> bytes, T* out);

/// A file, mapped into memory; every size and offset in it has been checked against the file.
class SafetensorsFile {
 public:
  /// Throws UserError naming the file where it cannot be read or is not well formed.
  explicit SafetensorsFile(std::filesystem::path path);

  const std::filesystem::path& path() const { return path_; }
  /// In the order of their bytes.
  const std::vector<FileTensor>& tensors() const { return tensors_; }
  const FileMetadata& metadata() const { return metadata_; }
  std::optional<std::string> metadata(std::string_view key) const;

  /// Null where there is none of that name.
  const FileTensor* find(std::string_view name) const;
  /// Throws UserError naming the file and the nearest name where there is none.
  const FileTensor& at(std::string_view name) const;

  /// The elements of `tensor`, one of this file's, as float or double (rounded to the nearest), or as they are for
  /// other T. Throws UserError where there are not `count` of them, or of a type that does not convert: any floating
  /// type to float and double, equal types otherwise.
  template <class T>
  void copy_to(const FileTensor& tensor, T* out, Index count) const;

 private:
  void parse();
  std::filesystem::path path_;
  MappedFile file_;
  FileMetadata metadata_;
  std::vector<FileTensor> tensors_;
};

/// Writes a file tensor by tensor, without holding it in memory; it appears, whole, at commit. The same input gives the
/// same bytes. The elements of the first tensor start at a multiple of 64 bytes.
class SafetensorsWriter {
 public:
  struct Header {
    std::string name;
    FileDType dtype = FileDType::F32;
    std::vector<Index> shape;
  };

  /// Throws Error where two names are equal or the file cannot be written.
  SafetensorsWriter(const std::filesystem::path& path, const std::vector<Header>& tensors,
                    const FileMetadata& metadata = {});

  /// The next bytes of the tensors' elements, in the order of the headers, in pieces of any size.
  void write(const void* bytes, std::size_t count) { file_.write(bytes, count); }
  /// Throws Error where fewer or more bytes were written than the headers say.
  void commit();

 private:
  FileWriter file_;
  std::filesystem::path path_;
  std::size_t expected_ = 0;  // bytes of the whole file
};

}  // namespace unfurl
