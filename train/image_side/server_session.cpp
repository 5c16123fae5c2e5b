#include "core/error.h"
#include "train/corpus/text.h"
#include "train/image_side/protocol.h"
#include "train/image_side/session.h"
#include "train/net/http.h"

namespace unfurl::train {
namespace {

class ServerSession : public ImageSession {
 public:
  explicit ServerSession(const ImageSideConfig& config) : url_(config.url), timeout_(config.timeout_seconds) {
    const HttpAnswer answer = send_http({.url = url_, .post = false, .timeout_seconds = config.start_timeout_seconds});
    if (answer.status != 200) fail("GET gives status {}: {}", answer.status, in_quotes(trim(answer.body)));
    hello_ = parse_hello(trim(answer.body));
  }

  void exchange(const std::string& lines, const std::function<bool(std::string_view)>& on_line) override {
    const HttpAnswer answer =
        send_http({.url = url_, .body = lines, .content_type = "application/x-ndjson", .timeout_seconds = timeout_});
    if (answer.status != 200) fail("POST gives status {}: {}", answer.status, in_quotes(trim(answer.body)));
    bool all = false;
    for (std::string_view rest = answer.body; !rest.empty();) {
      const std::size_t end = std::min(rest.find('\n'), rest.size());
      const std::string_view line = trim(rest.substr(0, end));
      rest.remove_prefix(std::min(end + 1, rest.size()));
      if (!line.empty()) all = on_line(line) || all;
    }
    if (!all) fail("its answer ends before all requests of the batch are answered");
  }

 private:
  std::string url_;
  double timeout_;
};

}  // namespace

std::unique_ptr<ImageSession> connect_server(const ImageSideConfig& config) {
  return std::make_unique<ServerSession>(config);
}

}  // namespace unfurl::train
