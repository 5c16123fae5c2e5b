// .npy files of tests.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

namespace unfurl::tests {

/// The bytes of a file of this header and these elements; version 1 or 2.
inline std::string npy_bytes(const std::string& header, const std::string& elements, int version = 1) {
  std::string out = "\x93NUMPY";
  out += static_cast<char>(version);
  out += '\0';
  for (int i = 0; i < (version == 1 ? 2 : 4); ++i) out += static_cast<char>(header.size() >> (8 * i) & 0xff);
  return out + header + elements;
}

inline std::string npy_bytes(const std::vector<float>& values, std::int64_t rows, std::int64_t cols) {
  const std::string shape = "(" + std::to_string(rows) + ", " + std::to_string(cols) + ")";
  return npy_bytes("{'descr': '<f4', 'fortran_order': False, 'shape': " + shape + ", }\n",
                   {reinterpret_cast<const char*>(values.data()), values.size() * sizeof(float)});
}

}  // namespace unfurl::tests
