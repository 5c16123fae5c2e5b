// The .npy file format of NumPy (https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html): a magic, a
// version, the length of a header, the header (a Python dict of type, order and shape) and the elements of one array.
#pragma once
#include <filesystem>

#include "core/files.h"
#include "core/safetensors.h"

namespace unfurl {

/// An array of numbers in a file, mapped into memory. Versions 1 to 3, little-endian or one-byte elements of any type
/// that a FileDType names, in C order (in Fortran's order where that is the same: at most one dimension).
class NpyFile {
 public:
  /// Throws UserError naming the file where it cannot be read or is none of that.
  explicit NpyFile(std::filesystem::path path);

  const FileTensor& tensor() const { return tensor_; }

 private:
  void parse();
  std::filesystem::path path_;
  MappedFile file_;
  FileTensor tensor_;
};

}  // namespace unfurl
