#include "train/corpus/chat_client.h"

#include <fmt/format.h>

#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <mutex>
#include <optional>
#include <thread>
#include <unordered_map>

#include "core/error.h"
#include "core/files.h"
#include "core/json.h"
#include "core/lines.h"
#include "core/names.h"
#include "train/corpus/text.h"
#include "train/image_side/protocol.h"
#include "train/log.h"
#include "train/net/http.h"

namespace unfurl::train {
namespace {

using Clock = std::chrono::steady_clock;

constexpr double kLongestPause = 60;         // seconds between two tries, unless the server asks for more
constexpr double kLongestRetryAfter = 3600;  // seconds that a server may ask for
constexpr double kToldPause = 5;             // seconds from which on a wait is told of
constexpr int kMostFaults = 10;              // in a row

Clock::duration seconds(double value) {
  return std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(value));
}

/// Of the answer's header, which is a number or a date, in seconds from now; 0 where there is none, or it is past.
double retry_after(const HttpAnswer& answer) {
  const std::string text = answer.header("Retry-After");
  char* end = nullptr;
  const double value = std::strtod(text.c_str(), &end);
  if (!text.empty() && *end == '\0') return std::isfinite(value) ? std::max(value, 0.0) : 0;
  const std::optional<double> date = parse_http_date(text);
  if (!date) return 0;
  // By the server's own clock, where it tells the time.
  const std::optional<double> now = parse_http_date(answer.header("Date"));
  const auto here = std::chrono::system_clock::now().time_since_epoch();
  return std::max(*date - now.value_or(std::chrono::duration<double>(here).count()), 0.0);
}

/// choices[0].message.content
std::optional<std::string> content_of(const std::string& body) {
  try {
    const Json object = Json::parse(body);
    const Json* choices = object.find("choices");
    if (choices == nullptr || !choices->is_array() || choices->as_array().empty()) return std::nullopt;
    const Json* message = choices->as_array().front().find("message");
    const Json* content = message == nullptr ? nullptr : message->find("content");
    if (content == nullptr || !content->is_string()) return std::nullopt;
    return content->as_string();
  } catch (const Error&) {
    return std::nullopt;
  }
}

/// What the server says of its refusal.
std::string told(const HttpAnswer& answer) {
  std::string why(trim(answer.body));
  try {
    const Json object = Json::parse(why);
    const Json* error = object.find("error");
    const Json* message = error == nullptr ? nullptr : error->is_string() ? error : error->find("message");
    if (message != nullptr && message->is_string()) why = message->as_string();
  } catch (const Error&) {  // no JSON: as it is
  }
  return why.empty() ? fmt::format("status {}", answer.status)
                     : fmt::format("status {}: {}", answer.status, in_quotes(why, 160));
}

/// Answers by a hash of their questions, in a file that only grows.
class AnswerCache {
 public:
  explicit AnswerCache(const std::filesystem::path& folder) : lock_(folder), path_(folder / "answers.jsonl") {
    std::string text;
    if (std::filesystem::exists(path_)) text = read_file(path_);
    for (const Line& line : Lines(text)) {
      try {  // the last line may be cut off where a run was killed
        const Json object = Json::parse_line(line.text);
        answers_[object.at("key").as_string()] = object.at("text").as_string();
      } catch (const Error&) {
      }
    }
    file_ = std::fopen(path_.c_str(), "ab");
    if (file_ == nullptr) fail("cannot write {}", path_.string());
    if (!text.empty() && text.back() != '\n') std::fputc('\n', file_);
  }
  ~AnswerCache() { std::fclose(file_); }
  AnswerCache(const AnswerCache&) = delete;
  AnswerCache& operator=(const AnswerCache&) = delete;

  const std::string* find(const std::string& key) const {
    const auto found = answers_.find(key);
    return found == answers_.end() ? nullptr : &found->second;
  }
  void add(const std::string& key, const std::string& text) {
    const std::string line = Json(Json::Object{{"key", key}, {"text", text}}).dump() + "\n";
    if (std::fwrite(line.data(), 1, line.size(), file_) != line.size() || std::fflush(file_) != 0) {
      fail("cannot write {}: is the disk full?", path_.string());
    }
    answers_[key] = text;
  }

 private:
  FolderLock lock_;
  std::filesystem::path path_;
  std::FILE* file_ = nullptr;
  std::unordered_map<std::string, std::string> answers_;
};

void check(const ChatConfig& config) {
  check_url(config.endpoint);
  if (config.model.empty()) user_error("--model NAME is missing: which of the endpoint's models is asked?");
  if (!(config.requests_per_minute >= 0)) user_error("--requests-per-minute must be 0 or more");
}

}  // namespace

struct ChatClient::State {
  explicit State(ChatConfig given) : config(std::move(given)), cache(config.cache) {}

  ChatConfig config;
  AnswerCache cache;
  std::string url, authorization;
  std::mutex mutex;
  ChatCounts counts;
  Clock::time_point next = Clock::now();  // no request before
  Clock::time_point told_until = next;    // waits up to here were told of
  int faults = 0;                         // since the last good answer

  void wait_for_turn() {
    Clock::time_point turn;
    {
      const std::lock_guard lock(mutex);
      turn = std::max(next, Clock::now());
      if (config.requests_per_minute > 0) next = turn + seconds(60 / config.requests_per_minute);
    }
    std::this_thread::sleep_until(turn);
  }

  /// Says that for so many seconds nothing will be heard; of several threads that wait for the same, one does.
  void tell_wait(double wait, const std::string& why) {
    if (wait < kToldPause) return;
    const std::lock_guard lock(mutex);
    const Clock::time_point end = Clock::now() + seconds(wait);
    if (end < told_until + seconds(kToldPause)) return;
    told_until = end;
    info("{}: {}; waiting {:.0f} s before the next try", url, why, wait);
  }

  HttpAnswer send(const std::string& body) {
    HttpRequest request{.url = url, .body = body, .timeout_seconds = config.timeout_seconds};
    if (!authorization.empty()) request.headers.emplace_back("Authorization", authorization);
    double pause = config.retry_seconds;
    for (int tries = 1;; ++tries) {
      wait_for_turn();
      std::string why;
      double wait = pause, asked = 0;
      try {
        HttpAnswer answer = send_http(request);
        if (answer.status != 408 && answer.status != 429 && answer.status < 500) return answer;
        why = told(answer);
        asked = retry_after(answer);
      } catch (const UserError&) {
        throw;
      } catch (const Error& error) {
        why = error.what();
      }
      if (tries > config.retries) {
        fail("{} gives no answer after {} {}: {}; the answers so far are kept in {}: the same command goes on", url,
             tries, plural(tries, "try", "tries"), why, config.cache.string());
      }
      if (asked > kLongestRetryAfter) {
        fail(
            "{} wants to be asked again in {:.1f} hours: {}; the answers so far are kept in {}: the same command goes "
            "on then",
            url, asked / 3600, why, config.cache.string());
      }
      if (asked > 0) wait = asked;
      {
        const std::lock_guard lock(mutex);
        ++counts.retried;
        if (asked > 0) next = std::max(next, Clock::now() + seconds(asked));  // of everybody
      }
      tell_wait(wait, why);
      std::this_thread::sleep_for(seconds(wait));
      pause = std::min(2 * pause, kLongestPause);
    }
  }

  ChatAnswer fault(std::string why) {
    const std::lock_guard lock(mutex);
    if (++faults >= kMostFaults) fail("{}: {} answers in a row are of no use, the last: {}", url, faults, why);
    return {{}, std::move(why)};
  }
};

ChatClient::ChatClient(ChatConfig config) {
  check(config);
  std::string authorization;
  if (!config.api_key_env.empty()) {
    const char* key = std::getenv(config.api_key_env.c_str());
    if (key == nullptr || *key == '\0') user_error("the environment variable {} holds no key", config.api_key_env);
    const bool clean = std::string_view(key).find_first_of("\r\n") == std::string_view::npos;
    if (!clean) user_error("the key in the environment variable {} has a line end", config.api_key_env);
    authorization = std::string("Bearer ") + key;
  }
  std::string url = config.endpoint;
  while (url.ends_with('/')) url.pop_back();
  if (!url.ends_with("/chat/completions")) url += "/chat/completions";
  state_ = std::make_unique<State>(std::move(config));
  state_->url = std::move(url);
  state_->authorization = std::move(authorization);
}

ChatClient::~ChatClient() = default;

ChatCounts ChatClient::counts() const {
  const std::lock_guard lock(state_->mutex);
  return state_->counts;
}

ChatAnswer ChatClient::ask(const ChatQuestion& question) {
  State& state = *state_;
  Json messages = Json::array();
  for (const ChatMessage& message : question.messages) {
    messages.push_back(Json::Object{{"role", message.role}, {"content", message.content}});
  }
  const std::string body = Json(Json::Object{{"model", state.config.model},
                                             {"messages", std::move(messages)},
                                             {"temperature", question.temperature},
                                             {"max_tokens", question.max_tokens},
                                             {"seed", question.seed},
                                             {"stream", false}})
                               .dump();
  const std::string key = fmt::format("{:016x}{:016x}", hash_bytes(body), hash_bytes(body, 1));
  {
    const std::lock_guard lock(state.mutex);
    if (const std::string* text = state.cache.find(key)) {
      ++state.counts.cached;
      return {*text};
    }
    ++state.counts.asked;
  }
  const HttpAnswer answer = state.send(body);
  if (answer.status == 401 || answer.status == 403 || answer.status == 404) {
    user_error("{} refuses: {}; are --endpoint, --model and --api-key-env right?", state.url, told(answer));
  }
  if (answer.status != 200) return state.fault("refused by the endpoint (" + told(answer) + ")");
  std::optional<std::string> text = content_of(answer.body);
  if (!text) return state.fault("no chat completion: " + in_quotes(trim(answer.body), 80));
  const std::lock_guard lock(state.mutex);
  state.faults = 0;
  state.cache.add(key, *text);
  return {std::move(*text)};
}

}  // namespace unfurl::train
