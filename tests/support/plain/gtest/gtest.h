// As much of GoogleTest as the tests of kernels use, for MemorySanitizer: the real one, and iostream, are not
// instrumented, so every value that comes from them would count as uninitialised. All of this is compiled, and
// instrumented, with the tests. Used in place of <gtest/gtest.h> by the preset host-cuda-msan.
#pragma once
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <string>
#include <type_traits>
#include <vector>

namespace testing {

/// Text that grows by <<.
class Message {
 public:
  template <class T>
  Message& operator<<(const T& value) {
    if constexpr (std::is_same_v<T, bool>) {
      add(value ? "true" : "false");
    } else if constexpr (std::is_floating_point_v<T>) {
      print("%.9g", static_cast<double>(value));
    } else if constexpr (std::is_integral_v<T> || std::is_enum_v<T>) {
      print("%lld", static_cast<long long>(value));
    } else if constexpr (std::is_convertible_v<T, const char*>) {
      add(static_cast<const char*>(value));
    } else if constexpr (std::is_same_v<T, std::string>) {
      text_.insert(text_.end(), value.data(), value.data() + value.size());
    } else if constexpr (std::is_same_v<T, Message>) {
      text_.insert(text_.end(), value.text_.begin(), value.text_.end());
    } else {
      add("...");
    }
    return *this;
  }
  template <class T>
  Message& operator<<(const std::vector<T>& values) {
    add("{");
    for (const T& value : values) *this << value << " ";
    add("}");
    return *this;
  }
  std::string GetString() const { return std::string(text_.data(), text_.size()); }
  void print() const { std::printf("%.*s", static_cast<int>(text_.size()), text_.data()); }

 private:
  void add(const char* text) { text_.insert(text_.end(), text, text + std::strlen(text)); }
  template <class T>
  void print(const char* format, T value) {
    char buffer[64] = {};
    std::snprintf(buffer, sizeof buffer, format, value);
    add(buffer);
  }
  std::vector<char> text_;
};

template <class T>
std::string PrintToString(const T& value) {
  return (Message() << value).GetString();
}

class Test {
 public:
  virtual ~Test() = default;
  virtual void SetUp() {}
  virtual void TearDown() {}
  virtual void TestBody() = 0;
};

template <class... T>
struct Types {};

namespace plain {

struct Case {
  const char* suite;
  const char* name;
  Test* (*make)();
};
inline std::vector<Case>& cases() {
  static std::vector<Case> all;
  return all;
}
inline int failures = 0;

/// SCOPED_TRACE: the text is made only when something has failed.
struct Trace {
  const void* make;
  Message (*call)(const void*);
  Trace* outer;
  static inline Trace* innermost = nullptr;

  template <class Make>
  explicit Trace(const Make& body)
      : make(&body), call([](const void* m) { return (*static_cast<const Make*>(m))(); }), outer(innermost) {
    innermost = this;
  }
  ~Trace() { innermost = outer; }
  Trace(const Trace&) = delete;
  Trace& operator=(const Trace&) = delete;
};

/// Reports when the message is assigned, so that ASSERT can return the (void) assignment.
struct Failure {
  const char* file;
  int line;
  const char* what;
  void operator=(const Message& message) const {
    ++failures;
    std::printf("%s:%d: %s\n  ", file, line, what);
    message.print();
    std::printf("\n");
    for (const Trace* trace = Trace::innermost; trace != nullptr; trace = trace->outer) {
      std::printf("  with ");
      trace->call(trace->make).print();
      std::printf("\n");
    }
  }
};
struct Skipped {
  void operator=(const Message& message) const {
    std::printf("skipped: ");
    message.print();
    std::printf("\n");
  }
};

template <class T>
bool add(const char* suite, const char* name) {
  cases().push_back({suite, name, [] { return static_cast<Test*>(new T); }});
  return true;
}
template <template <class> class T, class... Types>
bool add_typed(const char* suite, const char* name, testing::Types<Types...>) {
  return (add<T<Types>>(suite, name) && ...);
}

template <class Body, class Exception>
bool throws(const Body& body, const Exception*) {
  try {
    body();
  } catch (const Exception&) {
    return true;
  }
  return false;
}

inline int number_of(const char* variable, int standard) {
  const char* const value = std::getenv(variable);
  return value == nullptr ? standard : std::atoi(value);
}

/// argument: run only the tests whose "Suite.Name" contains it. Of them, the part that GoogleTest's variables ask for.
inline int run_all(const char* wanted) {
  const int parts = number_of("GTEST_TOTAL_SHARDS", 1), part = number_of("GTEST_SHARD_INDEX", 0);
  int run = 0, number = 0;
  for (const Case& test : cases()) {
    if (number++ % parts != part) continue;
    const std::string name = std::string(test.suite) + "." + test.name;
    if (wanted != nullptr && std::strstr(name.c_str(), wanted) == nullptr) continue;
    std::printf("%s\n", name.c_str());
    std::fflush(stdout);
    Test* made = test.make();
    try {
      made->SetUp();
      made->TestBody();
      made->TearDown();
    } catch (const std::exception& exception) {
      ++failures;
      std::printf("threw: %s\n", exception.what());
    }
    delete made;
    ++run;
  }
  std::printf("%d tests, %d failures\n", run, failures);
  return failures > 0 ? 1 : 0;
}

}  // namespace plain
}  // namespace testing

#define UNFURL_PLAIN_TEST(suite, test, base)                                                                        \
  class suite##_##test##_Test : public base {                                                                       \
    void TestBody() override;                                                                                       \
  };                                                                                                                \
  [[maybe_unused]] const bool suite##_##test##_added = ::testing::plain::add<suite##_##test##_Test>(#suite, #test); \
  void suite##_##test##_Test::TestBody()
#define TEST(suite, test) UNFURL_PLAIN_TEST(suite, test, ::testing::Test)
#define TEST_F(suite, test) UNFURL_PLAIN_TEST(suite, test, suite)
#define TYPED_TEST_SUITE(suite, types) using suite##_Types = types
#define TYPED_TEST(suite, test)                                                           \
  template <class TypeParam>                                                              \
  class suite##_##test##_Test : public suite<TypeParam> {                                 \
    void TestBody() override;                                                             \
  };                                                                                      \
  [[maybe_unused]] const bool suite##_##test##_added =                                    \
      ::testing::plain::add_typed<suite##_##test##_Test>(#suite, #test, suite##_Types()); \
  template <class TypeParam>                                                              \
  void suite##_##test##_Test<TypeParam>::TestBody()

#define UNFURL_PLAIN_CHECK(holds, what, leave) \
  if (holds)                                   \
    ;                                          \
  else                                         \
    leave ::testing::plain::Failure{__FILE__, __LINE__, what} = ::testing::Message()
#define EXPECT_TRUE(a) UNFURL_PLAIN_CHECK((a), #a, )
#define EXPECT_FALSE(a) UNFURL_PLAIN_CHECK(!(a), "not " #a, )
#define EXPECT_EQ(a, b) UNFURL_PLAIN_CHECK((a) == (b), #a " == " #b, )
#define EXPECT_NE(a, b) UNFURL_PLAIN_CHECK((a) != (b), #a " != " #b, )
#define EXPECT_LT(a, b) UNFURL_PLAIN_CHECK((a) < (b), #a " < " #b, )
#define EXPECT_LE(a, b) UNFURL_PLAIN_CHECK((a) <= (b), #a " <= " #b, )
#define EXPECT_GT(a, b) UNFURL_PLAIN_CHECK((a) > (b), #a " > " #b, )
#define EXPECT_GE(a, b) UNFURL_PLAIN_CHECK((a) >= (b), #a " >= " #b, )
#define EXPECT_NEAR(a, b, c) UNFURL_PLAIN_CHECK(std::abs((a) - (b)) <= (c), #a " near " #b, )
#define EXPECT_THROW(statement, exception)                                                                 \
  UNFURL_PLAIN_CHECK(::testing::plain::throws([&] { statement; }, static_cast<const exception*>(nullptr)), \
                     "throws " #exception, )
#define EXPECT_NO_THROW(statement)                                                                               \
  UNFURL_PLAIN_CHECK(!::testing::plain::throws([&] { statement; }, static_cast<const std::exception*>(nullptr)), \
                     "does not throw", )
#define ASSERT_TRUE(a) UNFURL_PLAIN_CHECK((a), #a, return )
#define ASSERT_FALSE(a) UNFURL_PLAIN_CHECK(!(a), "not " #a, return )
#define ASSERT_EQ(a, b) UNFURL_PLAIN_CHECK((a) == (b), #a " == " #b, return )
#define ASSERT_NE(a, b) UNFURL_PLAIN_CHECK((a) != (b), #a " != " #b, return )
#define ASSERT_LE(a, b) UNFURL_PLAIN_CHECK((a) <= (b), #a " <= " #b, return )
#define ASSERT_GE(a, b) UNFURL_PLAIN_CHECK((a) >= (b), #a " >= " #b, return )
#define ASSERT_LT(a, b) UNFURL_PLAIN_CHECK((a) < (b), #a " < " #b, return )
#define ASSERT_GT(a, b) UNFURL_PLAIN_CHECK((a) > (b), #a " > " #b, return )
#define ASSERT_NEAR(a, b, c) UNFURL_PLAIN_CHECK(std::abs((a) - (b)) <= (c), #a " near " #b, return )
#define ADD_FAILURE() UNFURL_PLAIN_CHECK(false, "failure", )
#define GTEST_SKIP() return ::testing::plain::Skipped{} = ::testing::Message()

#define UNFURL_PLAIN_JOIN(a, b) a##b
#define UNFURL_PLAIN_NAME(a, b) UNFURL_PLAIN_JOIN(a, b)
#define SCOPED_TRACE(text)                                                                              \
  const auto UNFURL_PLAIN_NAME(trace_text_, __LINE__) = [&] { return ::testing::Message() << (text); }; \
  const ::testing::plain::Trace UNFURL_PLAIN_NAME(trace_, __LINE__)(UNFURL_PLAIN_NAME(trace_text_, __LINE__))
