#include "train/net/http.h"

#include <httplib.h>

#include <cmath>
#include <ctime>

#include "core/error.h"
#include "train/corpus/text.h"

namespace unfurl::train {
namespace {

constexpr std::size_t kLongestBody = std::size_t{256} << 20;

struct Place {
  std::string server, path;  // "http://host:port", "/path"
};

Place split_url(const std::string& url) {
  const std::size_t scheme = url.starts_with("http://") ? 7 : url.starts_with("https://") ? 8 : 0;
  if (scheme == 0 || url.size() == scheme || url.find_first_of(" \t\r\n") != std::string::npos) {
    user_error("\"{}\" is no URL: http://host:port/path is one", url);
  }
  const std::size_t slash = url.find('/', scheme);
  if (slash == scheme) user_error("the URL \"{}\" names no host", url);
  if (slash == std::string::npos) return {url, "/"};
  return {url.substr(0, slash), url.substr(slash)};
}

std::string reason(httplib::Error error, double seconds) {
  switch (error) {
    case httplib::Error::Connection:
      return "cannot connect: does the server run, at this address?";
    case httplib::Error::ConnectionTimeout:
      return "cannot connect: the server does not react";
    case httplib::Error::Read:
      return fmt::format("the connection broke, or there was no answer for {:g} s", seconds);
    case httplib::Error::Write:
      return "the connection broke while the request was sent";
    default:
      return httplib::to_string(error);
  }
}

}  // namespace

std::string HttpAnswer::header(const std::string& name) const {
  for (const auto& [key, value] : headers) {
    if (lower(key) == lower(name)) return value;
  }
  return {};
}

std::optional<double> parse_http_date(const std::string& text) {
  for (const char* const form : {"%a, %d %b %Y %H:%M:%S GMT", "%A, %d-%b-%y %H:%M:%S GMT", "%a %b %d %H:%M:%S %Y"}) {
    std::tm time{};
    const char* const end = ::strptime(text.c_str(), form, &time);
    if (end != nullptr && *end == '\0') return static_cast<double>(::timegm(&time));
  }
  return std::nullopt;
}

void check_url(const std::string& url) { split_url(url); }

HttpAnswer send_http(const HttpRequest& request) {
  const Place place = split_url(request.url);
  httplib::Client client(place.server);
  if (!client.is_valid()) user_error("\"{}\" is no URL that can be asked", request.url);
  const auto whole = static_cast<time_t>(request.timeout_seconds);
  const auto part = static_cast<time_t>(std::fmod(request.timeout_seconds, 1.0) * 1e6);
  client.set_connection_timeout(std::min<time_t>(whole + 1, 30));
  client.set_read_timeout(whole, part);
  client.set_write_timeout(whole, part);
  httplib::Request sent;
  sent.method = request.post ? "POST" : "GET";
  sent.path = place.path;
  sent.headers = httplib::Headers(request.headers.begin(), request.headers.end());
  if (request.post) {
    sent.body = request.body;
    sent.set_header("Content-Type", request.content_type);
  }
  HttpAnswer answer;
  bool endless = false;
  sent.content_receiver = [&](const char* data, std::size_t size, std::uint64_t, std::uint64_t) {
    endless = answer.body.size() + size > kLongestBody;
    if (!endless) answer.body.append(data, size);
    return !endless;
  };
  const httplib::Result result = client.send(sent);
  if (endless) fail("the answer is longer than {} MiB", kLongestBody >> 20);
  if (!result) fail("{}", reason(result.error(), request.timeout_seconds));
  answer.status = result->status;
  answer.headers.assign(result->headers.begin(), result->headers.end());
  return answer;
}

}  // namespace unfurl::train
