// A request to an HTTP server. cpp-httplib, whose header is slow to compile, is used in one translation unit alone.
#pragma once
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace unfurl::train {

struct HttpRequest {
  std::string url;   // "http://host:port/path", or https
  bool post = true;  // else GET, without a body
  std::string body = {}, content_type = "application/json";
  std::vector<std::pair<std::string, std::string>> headers = {};  // "Authorization", ...
  double timeout_seconds = 120;                                   // without a byte of the answer
};

struct HttpAnswer {
  int status = 0;
  std::string body;
  std::vector<std::pair<std::string, std::string>> headers = {};

  /// "" where there is none of that name; letter case does not count.
  std::string header(const std::string& name) const;
};

/// A date of an HTTP header, "Sun, 06 Nov 1994 08:49:37 GMT" or one of the two old forms of RFC 9110 (5.6.7), in
/// seconds since 1970; nothing where it is none.
std::optional<double> parse_http_date(const std::string& text);

/// Throws UserError for a URL that is none.
void check_url(const std::string& url);

/// The server's answer, whatever its status. Throws Error, without the URL, where there is none: "cannot connect",
/// "no answer for 120 s", ...
HttpAnswer send_http(const HttpRequest& request);

}  // namespace unfurl::train
