#include "core/json.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "core/error.h"

namespace unfurl::tests {
namespace {

std::string error_of(std::string_view text) {
  try {
    const Json parsed = Json::parse(text);
    return "no error, but " + parsed.dump();
  } catch (const Error& error) {
    return error.what();
  }
}

TEST(Json, KeepsEveryKindOfValueAndTheOrderOfMembers) {
  const std::string text =
      R"({"z":null,"a":true,"m":[1,-2,9223372036854775807,0.5,1e-07,"\u00e9\n\"\\"],"b":{"":{}},"e":[]})";
  const Json value = Json::parse(text);
  EXPECT_EQ(value.dump(),
            "{\"z\":null,\"a\":true,\"m\":[1,-2,9223372036854775807,0.5,1e-07,\"é\\n\\\"\\\\\"],"
            "\"b\":{\"\":{}},\"e\":[]}");
  EXPECT_EQ(Json::parse(value.dump()), value);
  EXPECT_EQ(Json::parse(value.dump(2)), value);
  EXPECT_EQ(value.as_object()[0].first, "z");
  EXPECT_EQ(value.at("m").as_array()[2].as_integer(), INT64_MAX);
  EXPECT_TRUE(value.at("m").as_array()[3].is_number());
  EXPECT_FALSE(value.at("m").as_array()[3].is_integer());
}

TEST(Json, DoublesRoundTrip) {
  for (const double x : {0.1, 1.0 / 3, 1e300, 5e-324, -0.0, 123456789.123456789, 6.02214076e23}) {
    const double back = Json::parse(Json(x).dump()).as_number();
    EXPECT_EQ(back, x);
    EXPECT_EQ(std::signbit(back), std::signbit(x));
  }
  EXPECT_EQ(Json(std::numeric_limits<double>::quiet_NaN()).dump(), "null");
  EXPECT_EQ(Json(std::numeric_limits<double>::infinity()).dump(), "null");
}

TEST(Json, IntegersBeyondSixtyThreeBitsBecomeDoubles) {
  const Json value = Json::parse("18446744073709551615");
  EXPECT_FALSE(value.is_integer());
  EXPECT_EQ(value.as_number(), 18446744073709551615.0);
}

TEST(Json, MalformedTextIsAnErrorWithItsPlace) {
  EXPECT_EQ(error_of("").rfind("line 1, column 1: ", 0), 0u) << error_of("");
  EXPECT_EQ(error_of("{\n \"a\": }").rfind("line 2, column 7: ", 0), 0u) << error_of("{\n \"a\": }");
  EXPECT_EQ(error_of("[\n1e999]").rfind("line 2, column 5: number overflow", 0), 0u) << error_of("[\n1e999]");
  for (const char* text :
       {"{", "[1,]", "nul", "1 2", "{\"a\" 1}", "\"\\x\"", "'a'", "// c", "[1] x", "NaN", "\"\n\""}) {
    EXPECT_EQ(error_of(text).rfind("line ", 0), 0u) << text << ": " << error_of(text);
  }
}

TEST(Json, TextThatIsNotUtf8IsAnError) {
  for (const char* text :
       {"\"\xff\"", "\"\xc0\x80\"", "\"\xed\xa0\x80\"", "\"\xe2\x82\"", "\"\\ud800\"", "{\"\xfe\":1}"}) {
    EXPECT_EQ(error_of(text).rfind("line ", 0), 0u) << error_of(text);
  }
  EXPECT_EQ(Json("a\xff"
                 "b")
                .dump(),
            "\"a\xef\xbf\xbd"
            "b\"");
}

TEST(Json, DepthIsLimited) {
  const auto nested = [](std::size_t depth) { return std::string(depth, '[') + std::string(depth, ']'); };
  EXPECT_TRUE(Json::parse(nested(256)).is_array());
  EXPECT_EQ(error_of(nested(257)), "nested more than 256 deep");
  EXPECT_EQ(error_of(std::string(1'000'000, '[')), "nested more than 256 deep");
}

TEST(Json, OneLineOfAFileHasColumnsAlone) {
  EXPECT_EQ(Json::parse_line(R"({"a":1})"), Json::parse(R"({"a":1})"));
  const auto error = [](std::string_view line) -> std::string {
    try {
      Json::parse_line(line);
    } catch (const Error& e) {
      return e.what();
    }
    return "no error";
  };
  for (const char* line : {"", "{\"a\": x}", "[1,]", "\"caf\xe9\"", "1e999", "{\"a\":1} 2"}) {
    EXPECT_TRUE(error(line).starts_with("column ")) << error(line);
    EXPECT_EQ("line 1, " + error(line), error_of(line));
  }
  EXPECT_EQ(error(R"({"a":1,"a":2})"), "the key \"a\" appears twice in an object");
}

TEST(Json, AKeyMayAppearOnce) {
  EXPECT_EQ(error_of(R"({"a":1,"b":{"a":2},"a":3})"), "the key \"a\" appears twice in an object");
  EXPECT_EQ(Json::parse(R"([{"a":1},{"a":{"a":[]}}])").dump(), R"([{"a":1},{"a":{"a":[]}}])");
}

TEST(Json, LargeObjectsParseInLinearTime) {
  std::string text = "{";
  for (int i = 0; i < 50'000; ++i) text += fmt::format("{}\"key {}\":{}", i == 0 ? "" : ",", i, i);
  EXPECT_EQ(Json::parse(text + "}").as_object().size(), 50'000u);
}

TEST(Json, AccessorsNameWhatTheyGot) {
  const Json value = Json::parse(R"({"a":"text","n":1.5})");
  const auto error = [](const auto& body) -> std::string {
    try {
      body();
    } catch (const Error& e) {
      return e.what();
    }
    return "no error";
  };
  EXPECT_EQ(error([&] { value.at("b"); }), "\"b\" is missing");
  EXPECT_EQ(error([&] { value.at("a").as_integer(); }), "expected an integer, got a string");
  EXPECT_EQ(error([&] { value.at("n").as_integer(); }), "expected an integer, got a number");
  EXPECT_EQ(error([&] { value.as_array(); }), "expected an array, got an object");
  EXPECT_EQ(error([&] { Json(3).as_bool(); }), "expected a boolean, got a number");
  EXPECT_EQ(value.find("b"), nullptr);
  const Json number(3);
  EXPECT_EQ(number.find("b"), nullptr);
  EXPECT_EQ(Json(3).as_number(), 3.0);
}

TEST(Json, MembersAndElementsAreMadeOnFirstUse) {
  Json value;
  value["a"]["b"] = 1;
  value["list"].push_back("x");
  value["list"].push_back(Json::object());
  value["a"]["b"] = 2;
  EXPECT_EQ(value.dump(), R"({"a":{"b":2},"list":["x",{}]})");
  EXPECT_THROW(value["list"]["b"], Error);
}

}  // namespace
}  // namespace unfurl::tests
