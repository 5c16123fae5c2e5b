#include "core/npy.h"

#include <array>
#include <charconv>
#include <cstring>
#include <optional>
#include <utility>

#include "core/error.h"

namespace unfurl {
namespace {

constexpr std::string_view kMagic = "\x93NUMPY";
constexpr std::size_t kMaxHeader = 1 << 20;  // an honest one has about a hundred bytes
constexpr std::size_t kMaxDimensions = 32;   // NumPy's limit

constexpr std::array<std::pair<std::string_view, FileDType>, 12> kTypes = {{{"<f8", FileDType::F64},
                                                                            {"<f4", FileDType::F32},
                                                                            {"<f2", FileDType::F16},
                                                                            {"<i8", FileDType::I64},
                                                                            {"<i4", FileDType::I32},
                                                                            {"<i2", FileDType::I16},
                                                                            {"|i1", FileDType::I8},
                                                                            {"<u8", FileDType::U64},
                                                                            {"<u4", FileDType::U32},
                                                                            {"<u2", FileDType::U16},
                                                                            {"|u1", FileDType::U8},
                                                                            {"|b1", FileDType::BOOL}}};

/// Reads the header's dict: {'descr': '<f4', 'fortran_order': False, 'shape': (3, 4), }. Throws Error for any other.
class HeaderReader {
 public:
  explicit HeaderReader(std::string_view text) : text_(text) {}

  struct Header {
    std::string_view type;
    bool fortran = false;
    std::vector<Index> shape;
  };

  Header read() {
    std::optional<std::string_view> type;
    std::optional<bool> fortran;
    std::optional<std::vector<Index>> shape;
    expect('{');
    while (!take('}')) {
      const std::string_view key = string();
      expect(':');
      if (key == "descr" && !type) {
        type = string();
      } else if (key == "fortran_order" && !fortran) {
        fortran = boolean();
      } else if (key == "shape" && !shape) {
        shape = tuple();
      } else {
        fail("the header has an unexpected key");
      }
      if (!take(',')) {
        expect('}');
        break;
      }
    }
    skip_space();
    if (!text_.empty()) fail("the header goes on behind its dict");
    if (!type || !fortran || !shape) fail("the header has not all of descr, fortran_order and shape");
    return {*type, *fortran, std::move(*shape)};
  }

 private:
  void skip_space() {
    const std::size_t first = text_.find_first_not_of(" \t\r\n");
    text_.remove_prefix(first == std::string_view::npos ? text_.size() : first);
  }
  bool take(char c) {
    skip_space();
    if (text_.empty() || text_.front() != c) return false;
    text_.remove_prefix(1);
    return true;
  }
  void expect(char c) {
    if (!take(c)) fail("the header has no '{}' where one belongs", c);
  }
  std::string_view string() {
    skip_space();
    if (text_.empty() || (text_.front() != '\'' && text_.front() != '"')) {
      fail("the header has no string where one belongs");
    }
    const std::size_t end = text_.find(text_.front(), 1);
    if (end == std::string_view::npos) fail("a string of the header does not end");
    const std::string_view out = text_.substr(1, end - 1);
    text_.remove_prefix(end + 1);
    return out;
  }
  bool boolean() {
    skip_space();
    for (const bool value : {false, true}) {
      const std::string_view word = value ? "True" : "False";
      if (!text_.starts_with(word)) continue;
      text_.remove_prefix(word.size());
      return value;
    }
    fail("fortran_order is neither True nor False");
  }
  std::vector<Index> tuple() {
    std::vector<Index> sizes;
    expect('(');
    while (!take(')')) {
      skip_space();
      Index size = 0;
      const auto [end, problem] = std::from_chars(text_.data(), text_.data() + text_.size(), size);
      if (problem != std::errc() || size < 0) fail("the shape is out of range");
      text_.remove_prefix(static_cast<std::size_t>(end - text_.data()));
      sizes.push_back(size);
      if (sizes.size() > kMaxDimensions) fail("the shape has more than {} dimensions", kMaxDimensions);
      if (!take(',')) {
        expect(')');
        break;
      }
    }
    return sizes;
  }

  std::string_view text_;
};

}  // namespace

NpyFile::NpyFile(std::filesystem::path path) : path_(std::move(path)), file_(path_) {
  try {
    parse();
  } catch (const Error& error) {
    user_error("{}: not a usable .npy file: {}", path_.string(), error.what());
  }
}

void NpyFile::parse() {
  const std::string_view bytes = file_.text();
  if (!bytes.starts_with(kMagic)) fail("it does not start with the format's magic");
  if (bytes.size() < kMagic.size() + 4) fail("it ends in its header");
  const int version = static_cast<unsigned char>(bytes[kMagic.size()]);
  if (version < 1 || version > 3) fail("version {} of the format is not supported", version);
  const std::size_t wide = version == 1 ? 2 : 4, start = kMagic.size() + 2 + wide;
  if (bytes.size() < start) fail("it ends in its header");
  std::uint32_t length = 0;
  std::memcpy(&length, bytes.data() + start - wide, wide);
  if (length > kMaxHeader) fail("a header of {} bytes is none", length);
  if (length > bytes.size() - start) fail("it ends in its header");

  HeaderReader::Header header = HeaderReader(bytes.substr(start, length)).read();
  const auto* const found =
      std::find_if(kTypes.begin(), kTypes.end(), [&](const auto& type) { return type.first == header.type; });
  if (found == kTypes.end()) {
    fail("its type is none of ours (<f4, <f2, <f8, ...){}", header.type.starts_with('>') ? ": it is big-endian" : "");
  }
  if (header.fortran && header.shape.size() > 1) fail("it is in Fortran's order: save numpy.ascontiguousarray(x)");
  Index expected = size_of(found->second);
  bool empty = false;
  for (const Index size : header.shape) empty = empty || size == 0;
  for (const Index size : header.shape) {
    if (!empty && __builtin_mul_overflow(expected, size, &expected)) fail("the shape is out of range");
  }
  if (empty) expected = 0;
  const std::size_t there = bytes.size() - start - length;
  if (there != static_cast<std::size_t>(expected)) {
    fail("its shape takes {} bytes, but there are {}", expected, there);
  }
  tensor_.name = path_.filename().string();
  tensor_.dtype = found->second;
  tensor_.shape = std::move(header.shape);
  tensor_.bytes = {file_.data() + start + length, there};
}

}  // namespace unfurl
