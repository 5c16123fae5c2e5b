#include "kernels/shared_library.h"

#include <gtest/gtest.h>

#include <stdexcept>

namespace unfurl::tests {
namespace {

using kernels::SharedLibrary;

template <class Body>
std::string message_of(const Body& body) {
  try {
    body();
  } catch (const std::runtime_error& error) {
    return error.what();
  }
  return "";
}

TEST(SharedLibrary, FindsFunctions) {
  const SharedLibrary library("libm", "libm.so.6", "install it");
  double (*cosine)(double) = nullptr;
  library.find(cosine, "cos");
  EXPECT_EQ(cosine(0), 1);
}

TEST(SharedLibrary, SaysInOneLineWhatIsWrong) {
  const std::string missing = message_of([] { SharedLibrary("Foo", "libfoo.so.7", "install Foo 7"); });
  EXPECT_EQ(missing.find("Foo: libfoo.so.7 cannot be loaded: "), 0u) << missing;
  EXPECT_NE(missing.find("; install Foo 7"), std::string::npos) << missing;
  EXPECT_EQ(missing.find('\n'), std::string::npos) << missing;
  const SharedLibrary library("libm", "libm.so.6", "install it");
  int (*function)() = nullptr;
  EXPECT_EQ(message_of([&] { library.find(function, "fooCreate"); }), "libm: libm.so.6 has no fooCreate");
  EXPECT_EQ(message_of([&] { library.require_version(90800, 91002); }),
            "libm: libm.so.6 is version 9.8.0; 9.10.2 or newer is needed");
  EXPECT_EQ(message_of([&] { library.require_version(91002, 91002); }), "");
}

}  // namespace
}  // namespace unfurl::tests
