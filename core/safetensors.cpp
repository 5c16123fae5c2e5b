#include "core/safetensors.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstring>
#include <unordered_set>

#include "core/error.h"
#include "core/json.h"
#include "core/names.h"

namespace unfurl {
namespace {

static_assert(std::endian::native == std::endian::little, "the format is little-endian");

constexpr std::size_t kPrefix = 8;                 // bytes of the header's length
constexpr std::uint64_t kMaxHeader = 100'000'000;  // the official library's limit
constexpr std::size_t kAlignment = 64;

struct DTypeInfo {
  const char* name;
  Index size;
};
constexpr std::array<DTypeInfo, 13> kDTypes = {{{"F64", 8},
                                                {"F32", 4},
                                                {"F16", 2},
                                                {"BF16", 2},
                                                {"I64", 8},
                                                {"I32", 4},
                                                {"I16", 2},
                                                {"I8", 1},
                                                {"U64", 8},
                                                {"U32", 4},
                                                {"U16", 2},
                                                {"U8", 1},
                                                {"BOOL", 1}}};

/// A name from a file, in quotes, safe to print.
std::string quoted(const std::string& name) {
  constexpr std::size_t kLongest = 200;
  return Json(name.size() <= kLongest ? name : name.substr(0, kLongest) + "...").dump();
}

FileDType parse_dtype(const std::string& name) {
  for (std::size_t i = 0; i < kDTypes.size(); ++i) {
    if (name == kDTypes[i].name) return static_cast<FileDType>(i);
  }
  fail("the type {} is not supported", quoted(name));
}

/// Bytes of a tensor; throws Error where they do not fit 63 bits.
Index checked_bytes(FileDType dtype, const std::vector<Index>& shape) {
  Index bytes = size_of(dtype);
  for (const Index size : shape) {
    if (size < 0 || __builtin_mul_overflow(bytes, size, &bytes)) fail("the shape is out of range");
  }
  return bytes;
}

float half_to_float(std::uint16_t half) {
  const std::uint32_t sign = static_cast<std::uint32_t>(half & 0x8000u) << 16;
  const std::uint32_t exponent = (half >> 10) & 31u, fraction = half & 1023u;
  if (exponent == 0) {  // zero, or a multiple of the smallest subnormal
    const float magnitude = static_cast<float>(fraction) * 0x1p-24f;
    return sign != 0 ? -magnitude : magnitude;
  }
  const std::uint32_t wide = exponent == 31 ? 255 : exponent + 112;
  return std::bit_cast<float>(sign | wide << 23 | fraction << 13);
}

template <class From, class T, class Convert>
void convert_elements(std::span<const std::byte> bytes, T* out, const Convert& convert) {
  for (std::size_t i = 0; i < bytes.size() / sizeof(From); ++i) {
    From value;
    std::memcpy(&value, bytes.data() + i * sizeof(From), sizeof(From));
    out[i] = static_cast<T>(convert(value));
  }
}

template <class T>
constexpr FileDType kFileDType = FileDType::BOOL;
template <>
constexpr FileDType kFileDType<double> = FileDType::F64;
template <>
constexpr FileDType kFileDType<float> = FileDType::F32;
template <>
constexpr FileDType kFileDType<bf16> = FileDType::BF16;
template <>
constexpr FileDType kFileDType<std::int64_t> = FileDType::I64;
template <>
constexpr FileDType kFileDType<std::int32_t> = FileDType::I32;
template <>
constexpr FileDType kFileDType<std::uint8_t> = FileDType::U8;

std::string header_text(const std::vector<SafetensorsWriter::Header>& tensors, const FileMetadata& metadata,
                        std::size_t& data_bytes) {
  Json header = Json::object();
  if (!metadata.empty()) {
    Json& entries = header["__metadata__"] = Json::object();
    for (const auto& [key, value] : metadata) entries[key] = value;
  }
  Index end = 0;
  std::unordered_set<std::string> names;
  for (const SafetensorsWriter::Header& tensor : tensors) {
    require(tensor.name != "__metadata__", "write safetensors: no tensor may be named {}", tensor.name);
    require(names.insert(tensor.name).second, "write safetensors: there are two tensors named {}", quoted(tensor.name));
    const Index begin = end;
    end += checked_bytes(tensor.dtype, tensor.shape);
    Json shape = Json::array();
    for (const Index size : tensor.shape) shape.push_back(size);
    header.as_object().emplace_back(tensor.name, Json::Object{{"dtype", name_of(tensor.dtype)},
                                                              {"shape", std::move(shape)},
                                                              {"data_offsets", Json::Array{begin, end}}});
  }
  data_bytes = static_cast<std::size_t>(end);
  std::string text = header.dump();
  text.append((kAlignment - (kPrefix + text.size()) % kAlignment) % kAlignment, ' ');
  return text;
}

}  // namespace

const char* name_of(FileDType dtype) { return kDTypes[static_cast<std::size_t>(dtype)].name; }
Index size_of(FileDType dtype) { return kDTypes[static_cast<std::size_t>(dtype)].size; }

SafetensorsFile::SafetensorsFile(std::filesystem::path path) : path_(std::move(path)), file_(path_) {
  try {
    parse();
  } catch (const Error& error) {
    user_error("{} is not a whole safetensors file: {}", path_.string(), error.what());
  }
}

void SafetensorsFile::parse() {
  std::uint64_t header_bytes = 0;
  if (file_.size() < kPrefix) fail("it has {} {}", file_.size(), plural(file_.size(), "byte"));
  std::memcpy(&header_bytes, file_.data(), kPrefix);
  const std::size_t rest = file_.size() - kPrefix;
  if (header_bytes > rest)
    fail("its header should have {} {}, but only {} {}", header_bytes, plural(header_bytes, "byte"), rest,
         plural(rest, "follows", "follow"));
  if (header_bytes > kMaxHeader) fail("its header has {} bytes, more than {}", header_bytes, kMaxHeader);
  const std::span<const std::byte> data(file_.data() + kPrefix + header_bytes, rest - header_bytes);

  Json header;
  try {
    header = Json::parse(file_.text().substr(kPrefix, header_bytes));
  } catch (const Error& error) {
    fail("in its header, {}", error.what());
  }
  if (!header.is_object()) fail("its header is {}", header.kind());

  std::vector<std::pair<std::uint64_t, std::uint64_t>> offsets;
  for (const auto& [name, value] : header.as_object()) {
    try {
      if (name == "__metadata__") {
        for (const auto& [key, text] : value.as_object()) metadata_.emplace_back(key, text.as_string());
        continue;
      }
      FileTensor tensor{name, parse_dtype(value.at("dtype").as_string()), {}, {}};
      for (const Json& size : value.at("shape").as_array()) tensor.shape.push_back(size.as_integer());
      const Json::Array& pair = value.at("data_offsets").as_array();
      if (pair.size() != 2) fail("data_offsets has {} {}", pair.size(), plural(pair.size(), "number"));
      const Index begin = pair[0].as_integer(), end = pair[1].as_integer();
      if (begin < 0 || begin > end || static_cast<std::uint64_t>(end) > data.size()) {
        fail("bytes [{}, {}) are not within the file's {} {} of data", begin, end, data.size(),
             plural(data.size(), "byte"));
      }
      const Index expected = checked_bytes(tensor.dtype, tensor.shape);
      if (end - begin != expected)
        fail("its type and shape need {} {}, it has {}", expected, plural(expected, "byte"), end - begin);
      tensor.bytes = data.subspan(static_cast<std::size_t>(begin), static_cast<std::size_t>(expected));
      tensors_.push_back(std::move(tensor));
    } catch (const Error& error) {
      fail("{}: {}", quoted(name), error.what());
    }
  }

  const auto place = [](const FileTensor& tensor) { return std::pair(tensor.bytes.data(), tensor.bytes.size()); };
  std::stable_sort(tensors_.begin(), tensors_.end(),
                   [&](const FileTensor& a, const FileTensor& b) { return place(a) < place(b); });
  const std::byte* at = data.data();
  for (const FileTensor& tensor : tensors_) {
    if (tensor.bytes.data() < at) fail("{} overlaps the tensor before it", quoted(tensor.name));
    if (tensor.bytes.data() > at) fail("there is a gap before {}", quoted(tensor.name));
    at += tensor.bytes.size();
  }
  if (const auto left = data.data() + data.size() - at; left != 0) {
    fail("{} {} at its end {} no tensor's", left, plural(left, "byte"), left == 1 ? "is" : "are");
  }
}

std::optional<std::string> SafetensorsFile::metadata(std::string_view key) const {
  for (const auto& [name, value] : metadata_) {
    if (name == key) return value;
  }
  return std::nullopt;
}

const FileTensor* SafetensorsFile::find(std::string_view name) const {
  for (const FileTensor& tensor : tensors_) {
    if (tensor.name == name) return &tensor;
  }
  return nullptr;
}

const FileTensor& SafetensorsFile::at(std::string_view name) const {
  if (const FileTensor* tensor = find(name)) return *tensor;
  std::vector<std::string_view> names;
  for (const FileTensor& tensor : tensors_) names.push_back(tensor.name);
  user_error("{} has no tensor {}{}", path_.string(), quoted(std::string(name)), did_you_mean(name, names));
}

template <class T>
bool copy_elements(FileDType dtype, std::span<const std::byte> bytes, T* out) {
  if (dtype == kFileDType<T>) {
    if (!bytes.empty()) std::memcpy(out, bytes.data(), bytes.size());
    return true;
  }
  if constexpr (std::is_floating_point_v<T>) {
    switch (dtype) {
      case FileDType::F64:
        convert_elements<double>(bytes, out, [](double value) { return value; });
        return true;
      case FileDType::F32:
        convert_elements<float>(bytes, out, [](float value) { return value; });
        return true;
      case FileDType::F16:
        convert_elements<std::uint16_t>(bytes, out, half_to_float);
        return true;
      case FileDType::BF16:
        convert_elements<bf16>(bytes, out, to_float);
        return true;
      default:
        break;
    }
  }
  return false;
}

template bool copy_elements(FileDType, std::span<const std::byte>, float*);

template <class T>
void SafetensorsFile::copy_to(const FileTensor& tensor, T* out, Index count) const {
  if (tensor.count() != count) {
    user_error("{}: {} has {} {}, expected {}", path_.string(), quoted(tensor.name), tensor.count(),
               plural(tensor.count(), "element"), count);
  }
  if (copy_elements(tensor.dtype, tensor.bytes, out)) return;
  user_error("{}: {} is of type {}, expected {}", path_.string(), quoted(tensor.name), name_of(tensor.dtype),
             name_of(kFileDType<T>));
}

template void SafetensorsFile::copy_to(const FileTensor&, float*, Index) const;
template void SafetensorsFile::copy_to(const FileTensor&, double*, Index) const;
template void SafetensorsFile::copy_to(const FileTensor&, bf16*, Index) const;
template void SafetensorsFile::copy_to(const FileTensor&, std::int64_t*, Index) const;
template void SafetensorsFile::copy_to(const FileTensor&, std::int32_t*, Index) const;
template void SafetensorsFile::copy_to(const FileTensor&, std::uint8_t*, Index) const;

SafetensorsWriter::SafetensorsWriter(const std::filesystem::path& path, const std::vector<Header>& tensors,
                                     const FileMetadata& metadata)
    : file_(path), path_(path) {
  std::size_t data_bytes = 0;
  const std::string header = header_text(tensors, metadata, data_bytes);
  const std::uint64_t length = header.size();
  file_.write(&length, kPrefix);
  file_.write(header);
  expected_ = kPrefix + header.size() + data_bytes;
}

void SafetensorsWriter::commit() {
  require(file_.size() == expected_, "write safetensors: {} should have {} bytes, got {}", path_.string(), expected_,
          file_.size());
  file_.commit();
}

}  // namespace unfurl
