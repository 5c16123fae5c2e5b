// Questions to a language model behind an OpenAI-compatible HTTP endpoint (llama.cpp's server, vLLM, Ollama, ...): POST
// URL/chat/completions. Waits as the server and the rate limit ask, tries again what failed on the way, and keeps each
// answer in a file, so that a run that was stopped asks nothing twice.
#pragma once
#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

namespace unfurl::train {

struct ChatConfig {
  std::string endpoint = {};         // "http://localhost:8080/v1"
  std::string model = {};            // the name that the server knows it by
  std::string api_key_env = {};      // environment variable with the key; "" for none
  double requests_per_minute = 0;    // 0: no limit
  double timeout_seconds = 120;      // without a byte of an answer
  int retries = 6;                   // of a request that failed on the way
  double retry_seconds = 0.5;        // before the first retry; twice as long before each further one, up to a minute
  std::filesystem::path cache = {};  // folder of the answers
};

struct ChatMessage {
  std::string role, content;  // role: "system", "user" or "assistant"
};

struct ChatQuestion {
  std::vector<ChatMessage> messages;
  double temperature = 0.7;
  std::int64_t max_tokens = 96;
  std::uint64_t seed = 0;  // another one for another answer
};

struct ChatAnswer {
  std::string text;
  std::string fault = {};  // why there is no text; empty where there is
};

struct ChatCounts {
  std::int64_t asked = 0, cached = 0, retried = 0;
};

class ChatClient {
 public:
  /// Asks nothing yet. Throws UserError for a bad config, a key that is not set, or a cache that another run uses.
  explicit ChatClient(ChatConfig config);
  ~ChatClient();
  ChatClient(const ChatClient&) = delete;
  ChatClient& operator=(const ChatClient&) = delete;

  /// May be called from several threads. A question that the server refuses, or an answer that is no completion, is a
  /// fault of the answer. Throws UserError where the server knows no such address, model or key, and Error where it
  /// stays unreachable, or where ten questions in a row are faults.
  ChatAnswer ask(const ChatQuestion& question);

  ChatCounts counts() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace unfurl::train
