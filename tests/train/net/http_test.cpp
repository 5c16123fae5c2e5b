#include "train/net/http.h"

#include <gtest/gtest.h>

namespace unfurl::tests {
namespace {

using train::parse_http_date;

TEST(Http, ReadsDatesOfAllForms) {
  for (const char* text :
       {"Sun, 06 Nov 1994 08:49:37 GMT", "Sunday, 06-Nov-94 08:49:37 GMT", "Sun Nov  6 08:49:37 1994"}) {
    EXPECT_EQ(parse_http_date(text), 784111777) << text;
  }
  EXPECT_EQ(parse_http_date("Mon, 23 Nov 2026 12:00:00 GMT").value() - 784111777, 1011323423);
  for (const char* text : {"", "30", "Sun, 06 Nov 1994", "Sun, 06 Nov 1994 08:49:37 GMT!",
                           "Sun, 36 Nov 1994 08:49:37 GMT", "tomorrow", "1994-11-06T08:49:37Z"}) {
    EXPECT_FALSE(parse_http_date(text)) << text;
  }
}

}  // namespace
}  // namespace unfurl::tests
