#include "core/npy.h"

#include <gtest/gtest.h>

#include "core/files.h"
#include "tests/support/expect_error.h"
#include "tests/support/npy.h"
#include "tests/support/temporary_folder.h"

namespace unfurl::tests {
namespace {

std::string header(const std::string& type, const std::string& shape, const std::string& order = "False") {
  return "{'descr': '" + type + "', 'fortran_order': " + order + ", 'shape': " + shape + ", }          \n";
}

TEST(NpyFile, ReadsFloatsAndHalvesOfBothVersions) {
  const TemporaryFolder folder;
  const std::vector<float> values = {1, -2.5f, 3, 4, 0.1f, 6};
  for (const int version : {1, 2, 3}) {
    write_file(folder / "a.npy",
               npy_bytes(header("<f4", "(3, 2)"), {reinterpret_cast<const char*>(values.data()), 24}, version));
    const NpyFile file(folder / "a.npy");
    EXPECT_EQ(file.tensor().shape, (std::vector<Index>{3, 2}));
    std::vector<float> read(6);
    ASSERT_TRUE(copy_elements(file.tensor().dtype, file.tensor().bytes, read.data()));
    EXPECT_EQ(read, values);
  }
  write_file(folder / "h.npy", npy_bytes(header("<f2", "(2,)", "True"), std::string("\x00\x3c\x00\xc1", 4)));
  const NpyFile file(folder / "h.npy");
  std::vector<float> read(2);
  ASSERT_TRUE(copy_elements(file.tensor().dtype, file.tensor().bytes, read.data()));
  EXPECT_EQ(read, (std::vector<float>{1, -2.5f}));
}

TEST(NpyFile, ReadsAnEmptyArrayAndASingleNumber) {
  const TemporaryFolder folder;
  write_file(folder / "e.npy", npy_bytes(header("<f4", "(0, 9223372036854775807, 9223372036854775807)"), ""));
  EXPECT_EQ(NpyFile(folder / "e.npy").tensor().bytes.size(), 0u);
  write_file(folder / "s.npy", npy_bytes(header("|u1", "()"), "x"));
  EXPECT_EQ(NpyFile(folder / "s.npy").tensor().shape.size(), 0u);
}

TEST(NpyFile, RefusesWhatIsNone) {
  const TemporaryFolder folder;
  const auto error = [&](const std::string& bytes) {
    write_file(folder / "bad.npy", bytes);
    return error_of([&] { NpyFile(folder / "bad.npy"); });
  };
  const std::string begin = (folder / "bad.npy").string() + ": not a usable .npy file: ";
  EXPECT_EQ(error(""), begin + "it does not start with the format's magic");
  EXPECT_EQ(error("\x93NUMPY"), begin + "it ends in its header");
  EXPECT_EQ(error(npy_bytes(header("<f4", "(1,)"), "0123", 9)), begin + "version 9 of the format is not supported");
  EXPECT_EQ(error(std::string("\x93NUMPY\x02\x00\xff\xff\xff\x7f", 12)),
            begin + "a header of 2147483647 bytes is none");
  EXPECT_EQ(error(std::string("\x93NUMPY\x01\x00\xff\x00", 10)), begin + "it ends in its header");
  EXPECT_EQ(error(npy_bytes(header("<f4", "(2, 3)"), "0123")), begin + "its shape takes 24 bytes, but there are 4");
  EXPECT_EQ(error(npy_bytes(header("<f4", "(1,)"), "01234567")), begin + "its shape takes 4 bytes, but there are 8");
  EXPECT_EQ(error(npy_bytes(header("<f4", "(4611686018427387904, 4)"), "0")), begin + "the shape is out of range");
  EXPECT_EQ(error(npy_bytes(header("<f4", "(-1, 4)"), "0")), begin + "the shape is out of range");
  EXPECT_EQ(error(npy_bytes(header("<f4", "(99999999999999999999, 4)"), "0")), begin + "the shape is out of range");
  EXPECT_EQ(error(npy_bytes(header("<f4", "(1, 1)", "True"), "0123")),
            begin + "it is in Fortran's order: save numpy.ascontiguousarray(x)");
  EXPECT_EQ(error(npy_bytes(header("<f4", "(1, 1)", "Maybe"), "0123")),
            begin + "fortran_order is neither True nor False");
  EXPECT_EQ(error(npy_bytes(header(">f4", "(1, 1)"), "0123")),
            begin + "its type is none of ours (<f4, <f2, <f8, ...): it is big-endian");
  EXPECT_EQ(error(npy_bytes(header("|O", "(1, 1)"), "0123")), begin + "its type is none of ours (<f4, <f2, <f8, ...)");
  EXPECT_EQ(error(npy_bytes("{'descr': '<f4', 'shape': (1,)}", "0123")),
            begin + "the header has not all of descr, fortran_order and shape");
  EXPECT_EQ(error(npy_bytes("{'descr': '<f4", "0123")), begin + "a string of the header does not end");
  EXPECT_EQ(error(npy_bytes("{'descr': [('a', '<f4')]}", "0123")),
            begin + "the header has no string where one belongs");
  EXPECT_EQ(error(npy_bytes("{'x': 1}", "0123")), begin + "the header has an unexpected key");
  EXPECT_EQ(error(npy_bytes(header("<f4", "(1,)") + "x", "0123")), begin + "the header goes on behind its dict");
}

TEST(NpyFile, NoCutOrChangedByteCrashes) {
  const TemporaryFolder folder;
  const std::string good = npy_bytes({1, 2, 3, 4}, 2, 2);
  for (std::size_t i = 0; i < good.size(); ++i) {
    write_file(folder / "cut.npy", good.substr(0, i));
    EXPECT_NE(error_of([&] { NpyFile(folder / "cut.npy"); }), "") << i;
    for (const char c : {'\0', '9', '(', '\xff'}) {
      std::string changed = good;
      changed[i] = c;
      write_file(folder / "changed.npy", changed);
      error_of([&] { NpyFile(folder / "changed.npy"); });
    }
  }
}

}  // namespace
}  // namespace unfurl::tests
