#include "train/corpus/extract_queries.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>

#include "core/files.h"
#include "tests/support/expect_error.h"
#include "tests/support/subprocess.h"
#include "tests/support/temporary_folder.h"
#include "tests/train/trainer/fixture.h"
#include "train/corpus/commands.h"
#include "train/corpus/pair.h"

namespace unfurl::tests {
namespace {

using namespace unfurl::train;
namespace fs = std::filesystem;

std::string fault(const std::string& answer, const char* type = "concrete",
                  const std::string& previous = "a red fox in the deep snow, oil painting") {
  return std::string(
      check_query(answer, *find_query_type(type), "a red fox in the deep snow, oil painting", previous).fault);
}

TEST(CheckQuery, TakesAQueryOutOfItsWrapping) {
  const auto text = [](const std::string& answer) {
    return check_query(answer, *find_query_type("concrete"), "a red fox in the deep snow, oil painting",
                       "a red fox in the deep snow, oil painting")
        .text;
  };
  EXPECT_EQ(text(" \"a red fox.\"\n"), "a red fox");
  EXPECT_EQ(text("Query: a red fox"), "a red fox");
  EXPECT_EQ(text("<think>hm\nhm</think>\n\na red fox"), "a red fox");
  EXPECT_EQ(text("<think>hm"), "");
}

TEST(CheckQuery, NamesTheFault) {
  EXPECT_EQ(fault("a red fox"), "");
  EXPECT_EQ(fault("foxes in snow"), "");  // the stem counts
  EXPECT_EQ(fault(""), "empty");
  EXPECT_EQ(fault(" ... "), "empty");
  EXPECT_EQ(fault("I'm sorry, I can't help with that."), "a refusal");
  EXPECT_EQ(fault("Sure! Here is a query: a red fox"), "prose");
  EXPECT_EQ(fault("a red fox\na blue fox"), "prose");
  EXPECT_EQ(fault("A fox runs. It is red"), "prose");
  EXPECT_EQ(fault("a red fox in the deep snow, oil paintings"), "not shorter");
  EXPECT_EQ(fault("a red fox", "short", "the fox"), "not shorter");
  EXPECT_EQ(fault("one red fox", "short", "a red fox"), "not shorter");
  EXPECT_EQ(fault("fox by a red and deep snow", "short"), "too long");
  EXPECT_EQ(fault("a blue whale"), "unrelated");
  EXPECT_EQ(fault("solitude", "abstract"), "");
}

/// A server in python; MODE says what it does, LOG has a letter for each request.
const char* const kServer = R"(
import json, os, re, sys, time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
folder = sys.argv[1]
class Handler(BaseHTTPRequestHandler):
  protocol_version = "HTTP/1.0"
  def log_message(self, *a): pass
  def reply(self, status, body, headers={}):
    body = body.encode()
    self.send_response(status)
    for k, v in headers.items(): self.send_header(k, v)
    self.send_header("Content-Length", str(len(body)))
    self.end_headers()
    self.wfile.write(body)
  def do_POST(self):
    request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
    mode = open(folder + "/mode").read()
    with open(folder + "/log", "a") as f: f.write("x")
    first = os.path.getsize(folder + "/log") == 1
    system, text = request["messages"][0]["content"], request["messages"][-1]["content"]
    most, words = int(re.search(r"at most (\d+) words", system)[1]), text.split()
    answer = " ".join(words[:min(most, len(words) - 1)])
    if "place, time" in system: answer = " ".join(words[1:most + 1])
    if "one of" in system: answer = "a thing"
    if self.path != "/v1/chat/completions" or request["model"] != "fake": return self.reply(404, "no such model")
    if mode == "key" and self.headers.get("Authorization") != "Bearer secret": return self.reply(401, '{"error": {"message": "bad key"}}')
    if mode == "429" and first: return self.reply(429, "slow down", {"Retry-After": "0.3"})
    if mode == "date" and first: return self.reply(429, "slow down", {"Retry-After": self.date_time_string(time.time() + 1)})
    if mode == "past" and first: return self.reply(503, "slow down", {"Retry-After": "Sun, 06 Nov 1994 08:49:37 GMT"})
    if mode.startswith("wait "): return self.reply(429, "slow down", {"Retry-After": mode[5:]})
    if mode == "500 once" and first: return self.reply(500, "oh")
    if mode == "500": return self.reply(500, "oh")
    if mode == "400": return self.reply(400, '{"error": "too long for me"}')
    if mode == "close" and first: return self.connection.close()
    if mode == "slow" and first: time.sleep(1.5)
    if mode == "garbage": return self.reply(200, '{"choices": [')
    if mode == "other": return self.reply(200, '{"choices": [{"message": {"content": null}}]}')
    if mode == "refuse": answer = "I'm sorry, but I can't do that."
    if mode == "prose first" and request["seed"] == 1: answer = "Sure, here is one: " + answer
    if mode == "stop" and os.path.getsize(folder + "/log") > 9: return self.reply(403, "enough")
    self.reply(200, json.dumps({"choices": [{"message": {"role": "assistant", "content": answer}}]}))
server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
open(folder + "/port.new", "w").write(str(server.server_port))
os.rename(folder + "/port.new", folder + "/port")
server.serve_forever()
)";

class ExtractQueries : public testing::Test {
 protected:
  void SetUp() override {
    mode("good");
    write_file(folder / "server.py", kServer);
    server.emplace(
        std::vector<std::string>{"/usr/bin/env", "python3", (folder / "server.py").string(), folder.path().string()});
    ASSERT_TRUE(server->wait_until([&] { return fs::exists(folder / "port"); }, 60));
    std::string exemplars;
    for (const QueryType& type : kQueryTypes) {
      exemplars +=
          "{\"type\":\"" + std::string(type.name) + "\",\"prompt\":\"a cat on a mat by a wall\",\"query\":\"a cat\"}\n";
    }
    write_file(folder / "exemplars.jsonl", exemplars);
    write_file(folder / "p.jsonl",
               "{\"id\":\"i1\",\"source\":\"natural\",\"prompt\":\"a red fox sits in the deep white snow at dawn, oil "
               "painting\"}\n"
               "{\"id\":\"i2\",\"source\":\"generated\",\"simulated\":true,\"prompt\":\"an old tower, above a green "
               "valley with sheep, "
               "soft light\","
               "\"caption\":\"an old tower\",\"flavors\":[\"soft light\"]}\n");
    options.prompts = folder / "p.jsonl";
    options.out = folder / "out.jsonl";
    options.exemplars = folder / "exemplars.jsonl";
    options.chat.endpoint = "http://127.0.0.1:" + read_file(folder / "port") + "/v1/";
    options.chat.model = "fake";
    options.chat.retry_seconds = 0.01;
    options.chat.timeout_seconds = 20;
    options.parallel = 1;
  }
  void mode(const std::string& text) { write_file(folder / "mode", text); }
  std::size_t requests() { return fs::exists(folder / "log") ? fs::file_size(folder / "log") : 0; }
  void forget() {
    std::error_code ignored;
    fs::remove(folder / "log", ignored);
    fs::remove(folder / "out.jsonl", ignored);
    fs::remove(folder / "out.jsonl.cache/answers.jsonl", ignored);
  }
  /// What it prints, or its error.
  std::string run() {
    testing::internal::CaptureStdout();
    std::string error;
    try {
      run_corpus_extract_queries(options);
    } catch (const Error& e) {
      error = e.what();
      EXPECT_FALSE(fs::exists(options.out));
    }
    return error + testing::internal::GetCapturedStdout();
  }
  void says(const std::string& part) {
    const std::string text = run();
    EXPECT_NE(text.find(part), std::string::npos) << text;
  }

  TemporaryFolder folder;
  std::optional<Process> server;
  ExtractQueriesOptions options;
};

TEST_F(ExtractQueries, QueriesGetShorterAndShorter) {
  const std::string report = run();
  const std::vector<Pair> pairs = read_pairs(options.out);
  ASSERT_EQ(pairs.size(), 14u) << report;
  EXPECT_EQ(requests(), 14u);
  for (const std::size_t first : {0, 7}) {
    for (std::size_t i = 0; i < 7; ++i) EXPECT_EQ(pairs[first + i].type, kQueryTypes[i].name);
    for (std::size_t i = 1; i < 5; ++i) EXPECT_LT(pairs[first + i].query.size(), pairs[first + i - 1].query.size());
  }
  EXPECT_EQ(pairs[0].id, "i1");
  EXPECT_EQ(pairs[0].source, "natural");
  for (const Pair& pair : pairs) EXPECT_EQ(pair.simulated, pair.id == "i2");
  EXPECT_EQ(pairs[4].prefix, "ABST");
  EXPECT_EQ(pairs[5].query, "red fox sits in the deep white snow at dawn, oil painting");
  EXPECT_EQ(pairs[6].query, "a thing");
  EXPECT_EQ(pairs[7].content, (std::vector<std::string>{"old", "tower"}));
  EXPECT_EQ(pairs[7].flavors, (std::vector<std::string>{"soft light"}));
  EXPECT_NE(report.find("sources   generated 7 (50 %), natural 7 (50 %)"), std::string::npos) << report;

  // Again: everything is in the cache, also with more threads.
  const std::string bytes = read_file(options.out);
  options.parallel = 4;
  says("0 asked for, 14 from");
  EXPECT_EQ(read_file(options.out), bytes);
  EXPECT_EQ(requests(), 14u);
  options.rules.types = {"short"};
  forget();
  run();
  EXPECT_EQ(read_pairs(options.out).size(), 2u);
}

TEST_F(ExtractQueries, WhatFailsOnTheWayIsSentAgain) {
  const auto good = [&](const char* how) {
    SCOPED_TRACE(how);
    forget();
    mode(how);
    const auto begin = std::chrono::steady_clock::now();
    says("14 asked for, 0 from");
    EXPECT_EQ(read_pairs(options.out).size(), 14u);
    EXPECT_EQ(requests(), 15u);
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  };
  EXPECT_GE(good("429"), 0.3);
  EXPECT_GE(good("date"), 0.9);  // the server's own clock has whole seconds
  EXPECT_LT(good("past"), 5);
  good("500 once");
  good("close");
  options.chat.timeout_seconds = 0.5;
  good("slow");
}

TEST_F(ExtractQueries, ALongWaitIsToldOfAndAnAbsurdOneIsRefused) {
  mode("wait 18000");
  says(
      "/v1/chat/completions wants to be asked again in 5.0 hours: status 429: \"slow down\"; the answers so far are "
      "kept in ");
  EXPECT_EQ(requests(), 1u);
  mode("wait 30");
  const fs::path said = folder / "said";
  const Process waiting({"/bin/sh", "-c", "exec \"$@\" 2>" + said.string(), "sh", unfurl_binary(), "corpus",
                         "extract-queries", "--prompts", (folder / "p.jsonl").string(), "--exemplars",
                         options.exemplars.string(), "--out", (folder / "o.jsonl").string(), "--endpoint",
                         options.chat.endpoint, "--model", "fake"});
  const auto told = [&] {
    return fs::exists(said) &&
           read_file(said).find("status 429: \"slow down\"; waiting 30 s before the next try\n") != std::string::npos;
  };
  EXPECT_TRUE(waiting.wait_until(told, 60)) << read_file(said);
}

TEST_F(ExtractQueries, AnswersOfNoUseAreAskedForAgainThenDropped) {
  mode("prose first");
  says("14 of no use and asked for again");
  EXPECT_EQ(read_pairs(options.out).size(), 14u);
  forget();
  mode("refuse");
  options.rules.attempts = 2;
  says("no query can be used (a refusal: 14)");
  forget();
  mode("garbage");
  says("10 answers in a row are of no use, the last: no chat completion: \"{\"choices\": [\"");
  mode("other");
  says("10 answers in a row are of no use, the last: no chat completion");
  mode("400");
  says("10 answers in a row are of no use, the last: refused by the endpoint (status 400: \"too long for me\")");
}

TEST_F(ExtractQueries, GoesOnWhereItWasStopped) {
  mode("stop");
  says("are --endpoint, --model and --api-key-env right?");
  EXPECT_EQ(requests(), 10u);
  const fs::path cache = folder / "out.jsonl.cache/answers.jsonl";
  std::string kept = read_file(cache);
  EXPECT_EQ(std::count(kept.begin(), kept.end(), '\n'), 9);
  kept.resize(kept.size() - 20);  // a kill in the midst of the last line
  write_file(cache, kept);
  fs::remove(folder / "log");
  mode("good");
  says("6 asked for, 8 from");
  const std::string whole = read_file(options.out);
  forget();
  run();
  EXPECT_EQ(read_file(options.out), whole);
}

TEST_F(ExtractQueries, SaysWhatIsWrongWithTheEndpoint) {
  mode("key");
  says("status 401: \"bad key\"; are --endpoint, --model and --api-key-env right?");
  options.chat.api_key_env = "UNFURL_TEST_NO_SUCH_KEY";
  says("the environment variable UNFURL_TEST_NO_SUCH_KEY holds no key");
  ::setenv("UNFURL_TEST_KEY", "secret", 1);
  options.chat.api_key_env = "UNFURL_TEST_KEY";
  says("14 pairs");
  forget();
  mode("500");
  options.chat.retries = 2;
  says("gives no answer after 3 tries: status 500: \"oh\"; the answers so far are kept in");
  EXPECT_EQ(requests(), 3u);
  options.chat.model = "other";
  says("status 404");
  options.chat.endpoint = "http://127.0.0.1:1/v1";
  says("gives no answer after 3 tries: cannot connect");
  options.chat.endpoint = "localhost";
  says("is no URL");
  options.chat.model = "";
  options.chat.endpoint = "http://127.0.0.1:1/v1";
  says("--model NAME is missing");
}

TEST_F(ExtractQueries, TheRateIsLimited) {
  options.rules.types = {"concrete", "short"};
  options.chat.requests_per_minute = 600;
  options.parallel = 3;
  const auto begin = std::chrono::steady_clock::now();
  run();
  EXPECT_EQ(requests(), 4u);
  EXPECT_GE(std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count(), 0.3);
}

TEST_F(ExtractQueries, RulesNeedNoModel) {
  options.chat.endpoint.clear();
  says("from 2 prompts");
  const std::vector<Pair> pairs = read_pairs(options.out);
  ASSERT_GE(pairs.size(), 4u);
  for (const Pair& pair : pairs) {
    EXPECT_NE(find_query_type(pair.type), nullptr) << pair.type;
    EXPECT_TRUE(pair.id == "i1" || pair.id == "i2");
    EXPECT_FALSE(pair.source.empty());
    EXPECT_EQ(pair.simulated, pair.id == "i2");
    // Where the file says caption and flavors, they are the parts.
    if (pair.id != "i2") continue;
    EXPECT_EQ(pair.flavors, (std::vector<std::string>{"soft light"}));
    EXPECT_TRUE(pair.type != "concrete" || pair.query == "an old tower") << pair.query;
  }
  EXPECT_EQ(requests(), 0u);
}

TEST_F(ExtractQueries, SaysWhatIsWrongWithFiles) {
  options.rules.types = {"shrot"};
  says("there is no type \"shrot\"; did you mean \"short\"?");
  options.rules.types = {};
  write_file(folder / "exemplars.jsonl", "{\"type\":\"short\",\"prompt\":\"a cat\",\"query\":\"a big cat\"}\n");
  says("exemplars.jsonl:1: its query is not shorter");
  write_file(folder / "exemplars.jsonl", "{\"type\":\"short\",\"prompt\":\"a big cat\",\"query\":\"a cat\"}\n");
  says("has no exemplar of type long");
  write_file(folder / "p.jsonl", "{\"prompt\":\"\"}\n");
  says("1 of 1 line is not a prompt");
  write_file(folder / "p.jsonl", "");
  says("is empty");
}

TEST(Exemplars, OfTheRecipesAreGood) {
  std::vector<std::string> types;
  for (const QueryType& type : kQueryTypes) types.emplace_back(type.name);
  EXPECT_GE(read_exemplars(UNFURL_RECIPES "/query_exemplars.jsonl", types).size(), 21u);
}

}  // namespace
}  // namespace unfurl::tests
