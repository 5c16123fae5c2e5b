#include "core/safetensors.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <limits>

#include "core/error.h"
#include "tests/support/random.h"
#include "tests/support/temporary_folder.h"

namespace unfurl::tests {
namespace {

using Header = SafetensorsWriter::Header;

template <class T>
std::string bytes_of(const std::vector<T>& values) {
  return {reinterpret_cast<const char*>(values.data()), values.size() * sizeof(T)};
}

/// Without the sync to disk of write_file: these tests write hundreds of files.
void write_quickly(const std::filesystem::path& path, const std::string& bytes) {
  std::ofstream(path, std::ios::binary) << bytes;
}

/// A file of that header, as it stands, and data.
void write_raw(const std::filesystem::path& path, const std::string& header, const std::string& data) {
  const std::uint64_t length = header.size();
  write_quickly(path, std::string(reinterpret_cast<const char*>(&length), 8) + header + data);
}

std::string error_of(const std::filesystem::path& path) {
  try {
    const SafetensorsFile file(path);
    return "no error";
  } catch (const UserError& error) {
    return error.what();
  }
}

bool contains(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

void write_example(const std::filesystem::path& path) {
  SafetensorsWriter writer(path,
                           {{"z.weight", FileDType::F32, {2, 3}},
                            {"empty", FileDType::I64, {0, 5}},
                            {"scalar", FileDType::F64, {}},
                            {"a \"quoted\" é", FileDType::BF16, {4}}},
                           {{"format", "unfurl"}, {"step", "12"}});
  const std::string weight = bytes_of<float>({1, 2, 3, 4, 5, -0.5f});
  writer.write(weight.data(), 5);  // pieces need not end where elements do
  writer.write(weight.data() + 5, weight.size() - 5);
  writer.write(bytes_of<double>({0.1}).data(), 8);
  const std::vector<bf16> halves{to_bf16(1), to_bf16(-2), to_bf16(0.5f), to_bf16(3e38f)};
  writer.write(halves.data(), 8);
  writer.commit();
}

TEST(Safetensors, WhatWasWrittenIsRead) {
  const TemporaryFolder folder;
  write_example(folder / "a.safetensors");
  const SafetensorsFile file(folder / "a.safetensors");
  ASSERT_EQ(file.tensors().size(), 4u);
  EXPECT_EQ(file.tensors()[0].name, "z.weight");
  EXPECT_EQ(file.tensors()[3].name, "a \"quoted\" é");
  EXPECT_EQ(file.at("z.weight").shape, (std::vector<Index>{2, 3}));
  EXPECT_EQ(file.at("empty").shape, (std::vector<Index>{0, 5}));
  EXPECT_EQ(file.at("empty").count(), 0);
  EXPECT_TRUE(file.at("scalar").shape.empty());
  EXPECT_EQ(file.metadata("step"), "12");
  EXPECT_EQ(file.metadata("none"), std::nullopt);
  EXPECT_EQ(file.metadata(), (FileMetadata{{"format", "unfurl"}, {"step", "12"}}));

  std::vector<float> weight(6);
  file.copy_to(file.at("z.weight"), weight.data(), 6);
  EXPECT_EQ(weight, (std::vector<float>{1, 2, 3, 4, 5, -0.5f}));
  std::vector<double> wide(6);
  file.copy_to(file.at("z.weight"), wide.data(), 6);
  EXPECT_EQ(wide[5], -0.5);
  float scalar = 0;
  file.copy_to(file.at("scalar"), &scalar, 1);
  EXPECT_EQ(scalar, 0.1f);
  std::vector<float> halves(4);
  file.copy_to(file.tensors()[3], halves.data(), 4);
  EXPECT_EQ(halves[0], 1.0f);
  EXPECT_EQ(halves[1], -2.0f);
  file.copy_to(file.at("empty"), static_cast<std::int64_t*>(nullptr), 0);
}

TEST(Safetensors, TheSameInputGivesTheSameBytesAndAlignedData) {
  const TemporaryFolder folder;
  write_example(folder / "a");
  write_example(folder / "b");
  EXPECT_EQ(read_file(folder / "a"), read_file(folder / "b"));
  for (std::size_t length = 1; length < 70; length += 3) {
    SafetensorsWriter writer(folder / "c", {{std::string(length, 'n'), FileDType::U8, {3}}});
    writer.write("abc", 3);
    writer.commit();
    EXPECT_EQ((read_file(folder / "c").size() - 3) % 64, 0u);
    EXPECT_EQ(SafetensorsFile(folder / "c").tensors()[0].bytes.size(), 3u);
  }
  SafetensorsWriter(folder / "none", {}).commit();
  EXPECT_TRUE(SafetensorsFile(folder / "none").tensors().empty());
}

TEST(Safetensors, AWriterThatIsGivenTheWrongBytesFails) {
  const TemporaryFolder folder;
  const auto write = [&](std::size_t count) {
    SafetensorsWriter writer(folder / "a", {{"x", FileDType::F32, {2}}});
    writer.write(std::string(count, 'x').data(), count);
    writer.commit();
  };
  EXPECT_THROW(write(7), Error);
  EXPECT_THROW(write(9), Error);
  EXPECT_FALSE(std::filesystem::exists(folder / "a"));
  const std::vector<Header> twice{{"x", FileDType::F32, {2}}, {"x", FileDType::F32, {2}}};
  EXPECT_THROW(SafetensorsWriter(folder / "a", twice), Error);
  EXPECT_THROW(SafetensorsWriter(folder / "a", {{"__metadata__", FileDType::F32, {2}}}), Error);
  EXPECT_THROW(SafetensorsWriter(folder / "a", {{"x", FileDType::F32, {-2}}}), Error);
  EXPECT_TRUE(std::filesystem::is_empty(folder.path()));
}

TEST(Safetensors, BadFilesAreTheUsersMistake) {
  const TemporaryFolder folder;
  const std::filesystem::path path = folder / "bad.safetensors";
  const auto info = [](const char* dtype, const char* shape, const char* offsets) {
    return fmt::format(R"({{"dtype":"{}","shape":{},"data_offsets":{}}})", dtype, shape, offsets);
  };
  const std::string good = info("F32", "[2]", "[0,8]");
  struct Case {
    std::string header, part;
  };
  const Case cases[] = {
      {"", "in its header, line 1, column 1"},
      {"{\"x\":", "in its header, line 1"},
      {"[]", "its header is an array"},
      {"{\"\xff\":1}", "in its header, line 1"},
      {"{\"x\":3}", "\"x\": \"dtype\" is missing"},
      {"{\"x\":" + good + ",\"x\":" + good + "}", "the key \"x\" appears twice"},
      {"{\"x\":" + info("F8", "[8]", "[0,8]") + "}", "\"x\": the type \"F8\" is not supported"},
      {"{\"x\":" + info("F32", "[3]", "[0,8]") + "}", "\"x\": its type and shape need 12 bytes, it has 8"},
      {"{\"x\":" + info("F64", "[2]", "[0,8]") + "}", "need 16 bytes, it has 8"},
      {"{\"x\":" + info("F32", "[-2]", "[0,8]") + "}", "the shape is out of range"},
      {"{\"x\":" + info("F32", "[4611686018427387904,4]", "[0,8]") + "}", "the shape is out of range"},
      {"{\"x\":" + info("F32", "[2.0]", "[0,8]") + "}", "expected an integer"},
      {"{\"x\":" + info("F32", "8", "[0,8]") + "}", "expected an array"},
      {"{\"x\":" + info("F32", "[2]", "[0,8,9]") + "}", "data_offsets has 3 numbers"},
      {"{\"x\":" + info("F32", "[2]", "[-8,0]") + "}", "are not within the file's 8 bytes"},
      {"{\"x\":" + info("F32", "[2]", "[8,0]") + "}", "are not within the file's 8 bytes"},
      {"{\"x\":" + info("F32", "[2]", "[4,12]") + "}", "are not within the file's 8 bytes"},
      {"{\"x\":" + info("F32", "[2]", "[0,18446744073709551615]") + "}", "expected an integer"},
      {"{\"x\":" + good + ",\"y\":" + info("F32", "[1]", "[4,8]") + "}", "\"y\" overlaps"},
      {"{\"x\":" + good + ",\"y\":" + good + "}", "overlaps"},
      {"{\"x\":" + info("F32", "[1]", "[4,8]") + "}", "there is a gap before \"x\""},
      {"{\"x\":" + info("F32", "[1]", "[0,4]") + "}", "4 bytes at its end are no tensor's"},
      {"{\"__metadata__\":{\"a\":1},\"x\":" + good + "}", "\"__metadata__\": expected a string"},
      {"{\"__metadata__\":[],\"x\":" + good + "}", "\"__metadata__\": expected an object"},
      {std::string(300, '[') + std::string(300, ']'), "nested more than 256 deep"},
  };
  for (const Case& c : cases) {
    write_raw(path, c.header, std::string(8, 'x'));
    const std::string message = error_of(path);
    EXPECT_TRUE(contains(message, c.part)) << c.header << "\n  gave: " << message;
    EXPECT_TRUE(contains(message, path.string())) << message;
    EXPECT_FALSE(contains(message, "\n")) << message;
  }
  write_raw(path, "{\"x\":" + good + "}", std::string(8, 'x'));
  EXPECT_EQ(error_of(path), "no error");
}

TEST(Safetensors, ATruncatedFileIsTheUsersMistakeAtEveryLength) {
  const TemporaryFolder folder;
  write_example(folder / "whole");
  const std::string whole = read_file(folder / "whole");
  for (std::size_t size = 0; size < whole.size(); size += size < 300 ? 1 : 7) {
    write_quickly(folder / "cut", whole.substr(0, size));
    EXPECT_TRUE(contains(error_of(folder / "cut"), "is not a whole safetensors file")) << size;
  }
  write_quickly(folder / "cut", whole + "x");
  EXPECT_TRUE(contains(error_of(folder / "cut"), "1 byte at its end is no tensor's"));
}

TEST(Safetensors, GarbageNeverCrashes) {
  const TemporaryFolder folder;
  write_example(folder / "whole");
  const std::string whole = read_file(folder / "whole");
  int rejected = 0;
  for (std::uint64_t seed = 0; seed < 400; ++seed) {
    std::string text = whole;
    for (const std::int32_t at :
         integers(1 + static_cast<Index>(seed % 3), static_cast<std::int32_t>(text.size()), seed)) {
      text[static_cast<std::size_t>(at)] = static_cast<char>(philox({seed, 1, 0}, 0)[0]);
    }
    write_quickly(folder / "bad", text);
    rejected += error_of(folder / "bad") != "no error";
  }
  EXPECT_GT(rejected, 200);
  const std::uint64_t huge = std::numeric_limits<std::uint64_t>::max();
  write_quickly(folder / "bad", std::string(reinterpret_cast<const char*>(&huge), 8) + std::string(100, '{'));
  EXPECT_TRUE(contains(error_of(folder / "bad"), "its header should have 18446744073709551615 bytes"));
}

TEST(Safetensors, ALookupThatFailsNamesTheFileAndTheNearestName) {
  const TemporaryFolder folder;
  write_example(folder / "a");
  const SafetensorsFile file(folder / "a");
  const auto error = [](const auto& body) -> std::string {
    try {
      body();
    } catch (const UserError& e) {
      return e.what();
    }
    return "no error";
  };
  EXPECT_EQ(file.find("z.weigth"), nullptr);
  EXPECT_EQ(error([&] { file.at("z.weigth"); }),
            (folder / "a").string() + " has no tensor \"z.weigth\"; did you mean \"z.weight\"?");
  std::vector<float> out(8);
  EXPECT_TRUE(contains(error([&] { file.copy_to(file.at("z.weight"), out.data(), 5); }), "has 6 elements, expected 5"));
  EXPECT_TRUE(contains(error([&] { file.copy_to(file.at("empty"), out.data(), 0); }), "is of type I64, expected F32"));
  std::int32_t number = 0;
  EXPECT_TRUE(contains(error([&] { file.copy_to(file.at("scalar"), &number, 1); }), "is of type F64, expected I32"));
}

TEST(Safetensors, HalvesBecomeFloats) {
  const TemporaryFolder folder;
  std::vector<std::uint16_t> halves(65536);
  for (std::size_t i = 0; i < halves.size(); ++i) halves[i] = static_cast<std::uint16_t>(i);
  SafetensorsWriter writer(folder / "a", {{"x", FileDType::F16, {256, 256}}});
  writer.write(halves.data(), 131072);
  writer.commit();
  const SafetensorsFile file(folder / "a");
  std::vector<float> out(65536);
  file.copy_to(file.at("x"), out.data(), 65536);
  for (std::size_t i = 0; i < out.size(); ++i) {
    const int exponent = static_cast<int>(i >> 10) & 31, fraction = static_cast<int>(i & 1023);
    const float sign = i >= 32768 ? -1.0f : 1.0f;
    if (exponent == 31 && fraction != 0) {
      ASSERT_TRUE(std::isnan(out[i])) << i;
      continue;
    }
    const float magnitude = exponent == 31  ? std::numeric_limits<float>::infinity()
                            : exponent == 0 ? std::ldexp(static_cast<float>(fraction), -24)
                                            : std::ldexp(static_cast<float>(1024 + fraction), exponent - 25);
    ASSERT_EQ(out[i], sign * magnitude) << i;
    ASSERT_EQ(std::signbit(out[i]), i >= 32768) << i;
  }
}

TEST(Safetensors, RoundTripsWithTheOfficialLibrary) {
  if (std::system("python3 -c 'import safetensors.numpy' 2>/dev/null") != 0) {
    GTEST_SKIP() << "python3 has no safetensors and numpy";
  }
  const TemporaryFolder folder;
  write_example(folder / "ours.safetensors");
  write_quickly(folder / "check.py", R"(
import sys, numpy as np, safetensors
from safetensors.numpy import load_file, save_file
folder = sys.argv[1]
raw = dict(safetensors.deserialize(open(folder + "/ours.safetensors", "rb").read()))
assert raw['a "quoted" é']["dtype"] == "BF16" and raw["empty"]["shape"] == [0, 5], raw
assert bytes(raw['a "quoted" é']["data"][:4]) == b"\x80\x3f\x00\xc0", raw
with safetensors.safe_open(folder + "/ours.safetensors", "np") as f:
  assert f.metadata() == {"format": "unfurl", "step": "12"}, f.metadata()
  assert (f.get_tensor("z.weight") == np.array([[1, 2, 3], [4, 5, -.5]], np.float32)).all()
  assert f.get_tensor("scalar") == 0.1
  assert f.get_tensor("empty").shape == (0, 5)
types = "float64 float32 float16 int64 int32 int16 int8 uint8 bool".split()
save_file({t: np.arange(15).reshape(3, 5).astype(t) for t in types}, folder + "/theirs.safetensors", {"by": "python"})
)");
  const std::string command = "python3 '" + (folder / "check.py").string() + "' '" + folder.path().string() + "'";
  ASSERT_EQ(std::system(command.c_str()), 0);

  const SafetensorsFile file(folder / "theirs.safetensors");
  EXPECT_EQ(file.metadata("by"), "python");
  ASSERT_EQ(file.tensors().size(), 9u);
  for (const char* name : {"float64", "float32", "float16"}) {
    std::vector<double> values(15);
    file.copy_to(file.at(name), values.data(), 15);
    EXPECT_EQ(file.at(name).shape, (std::vector<Index>{3, 5}));
    for (std::size_t i = 0; i < 15; ++i) EXPECT_EQ(values[i], static_cast<double>(i)) << name;
  }
  std::vector<std::int64_t> integers(15);
  file.copy_to(file.at("int64"), integers.data(), 15);
  EXPECT_EQ(integers[14], 14);
  EXPECT_EQ(file.at("int16").dtype, FileDType::I16);
  EXPECT_EQ(file.at("bool").bytes.size(), 15u);

  // Read and written again, the bytes of the tensors are the same.
  std::vector<Header> headers;
  for (const FileTensor& tensor : file.tensors()) headers.push_back({tensor.name, tensor.dtype, tensor.shape});
  SafetensorsWriter writer(folder / "again.safetensors", headers, file.metadata());
  for (const FileTensor& tensor : file.tensors()) writer.write(tensor.bytes.data(), tensor.bytes.size());
  writer.commit();
  const std::string compare =
      "python3 -c 'import sys; from safetensors.numpy import load_file as l; a, b = map(l, sys.argv[1:]);"
      " assert a.keys() == b.keys() and all(a[k].dtype == b[k].dtype and (a[k] == b[k]).all() for k in a)' '" +
      (folder / "theirs.safetensors").string() + "' '" + (folder / "again.safetensors").string() + "'";
  EXPECT_EQ(std::system(compare.c_str()), 0);
}

TEST(Safetensors, ReadsPublishedFiles) {
  const char* data = std::getenv("UNFURL_TEST_DATA");
  if (data == nullptr) GTEST_SKIP() << "UNFURL_TEST_DATA is not set";
  const std::filesystem::path folder = std::filesystem::path(data) / "aesthetic";
  int files = 0;
  for (const auto& entry : std::filesystem::directory_iterator(folder)) {
    if (entry.path().extension() != ".safetensors") continue;
    const SafetensorsFile file(entry.path());
    ++files;
    EXPECT_FALSE(file.tensors().empty());
    EXPECT_TRUE(file.metadata("license").has_value());
    for (const FileTensor& tensor : file.tensors()) {
      std::vector<float> values(static_cast<std::size_t>(tensor.count()));
      file.copy_to(tensor, values.data(), tensor.count());
      for (const float value : values) ASSERT_TRUE(std::isfinite(value)) << tensor.name;
    }
  }
  EXPECT_GT(files, 0);
  const SafetensorsFile mlp(folder / "improved_mlp_l14.safetensors");
  EXPECT_EQ(mlp.at("layers.0.weight").shape, (std::vector<Index>{1024, 768}));
}

}  // namespace
}  // namespace unfurl::tests
