#include "train/image_side/image_side.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <fstream>
#include <set>
#include <thread>

#include "core/files.h"
#include "tests/support/expect_error.h"
#include "tests/support/subprocess.h"
#include "tests/support/temporary_folder.h"
#include "train/image_side/cache.h"
#include "train/image_side/session.h"
#include "train/split_command.h"

namespace unfurl::tests {
namespace {

namespace fs = std::filesystem;
using train::ImageAnswer;
using train::ImageRequest;
using train::ImageSide;
using train::ImageSideConfig;

/// A side in a few lines of python: `answer(r)` gives the right answer to a request; LOG counts the requests it has
/// seen, over all its lives. `body` says what it does with them.
class FakeSide {
 public:
  explicit FakeSide(const std::string& body) {
    std::ofstream(script()) << R"(import json, os, sys, time
LOG = sys.argv[1]
def say(o):
    print(o if isinstance(o, str) else json.dumps(o), flush=True)
def embed(text, k):
    return [((sum(map(ord, text)) * (i + 3) + k) % 97) / 97 for i in range(4)]
def answer(r):
    return {"id": r["id"], "image_embedding": embed(r["prompt"], r["seed"]),
            "query_embedding": embed(r["query"], 1), "prompt_embedding": embed(r["prompt"], 1)}
def seen():
    return len(open(LOG).read().splitlines()) if os.path.exists(LOG) else 0
def batches():
    batch = []
    for line in sys.stdin:
        if line.strip():
            batch.append(json.loads(line))
            with open(LOG, "a") as log:
                log.write(batch[-1]["prompt"] + "\n")
        elif batch:
            yield batch
            batch = []
def hello(**more):
    say({**{"name": "fake", "version": "1", "simulated": True, "embedding_size": 4}, **more})
)" << body;
  }
  fs::path script() const { return folder_ / "side.py"; }
  fs::path cache() const { return folder_ / "cache"; }
  fs::path log() const { return folder_ / "log"; }
  ImageSideConfig config() const {
    ImageSideConfig config;
    config.command = fmt::format("python3 '{}' '{}'", script().string(), log().string());
    config.batch = 4;
    config.retry_seconds = 0.01;
    config.timeout_seconds = 20;
    return config;
  }
  /// Prompts in the order in which the side has seen them.
  std::vector<std::string> seen() const {
    std::vector<std::string> lines;
    std::ifstream file(log());
    for (std::string line; std::getline(file, line);) lines.push_back(line);
    return lines;
  }

 private:
  TemporaryFolder folder_;
};

std::vector<ImageRequest> requests(int count) {
  std::vector<ImageRequest> made;
  for (int i = 0; i < count; ++i) {
    made.push_back({.id = fmt::format("q{}", i),
                    .query = fmt::format("query {}", i / 2),
                    .prompt = fmt::format("prompt {}", i),
                    .seed = 7});
  }
  return made;
}

std::vector<float> embedding(const std::string& text, int k) {
  int sum = 0;
  for (const char c : text) sum += c;
  std::vector<float> made;
  for (int i = 0; i < 4; ++i) made.push_back(static_cast<float>(((sum * (i + 3) + k) % 97) / 97.0));
  return made;
}

void expect_right(const std::vector<ImageAnswer>& answers, const std::vector<ImageRequest>& asked) {
  ASSERT_EQ(answers.size(), asked.size());
  for (std::size_t i = 0; i < asked.size(); ++i) {
    EXPECT_EQ(answers[i].id, asked[i].id);
    EXPECT_EQ(answers[i].image, embedding(asked[i].prompt, static_cast<int>(asked[i].seed)));
    EXPECT_EQ(answers[i].query, embedding(asked[i].query, 1));
    EXPECT_EQ(answers[i].prompt, embedding(asked[i].prompt, 1));
  }
}

/// What render() throws, what it logs, and what is in the cache then.
struct Bad {
  std::string error, log;
  std::size_t cached = 0;
};
Bad render_badly(const FakeSide& side, ImageSideConfig config, int count = 6) {
  Bad bad;
  config.cache = side.cache();
  testing::internal::CaptureStderr();
  bad.error = error_of([&] { ImageSide(config).render(requests(count)); });
  bad.log = testing::internal::GetCapturedStderr();
  if (fs::exists(side.cache())) {
    const train::ImageSideHello hello{.name = "fake", .version = "1", .simulated = true, .embedding_size = 4};
    bad.cached = train::ImageCache(side.cache(), hello).size();
  }
  return bad;
}

const char* const kGood = "hello()\nfor b in batches():\n  for r in b: say(answer(r))\n";

TEST(ImageSide, AnswersInTheOrderOfTheRequests) {
  const FakeSide side("hello()\nfor b in batches():\n  for r in reversed(b): say(answer(r))\n");
  for (const int workers : {1, 3}) {
    ImageSideConfig config = side.config();
    config.workers = workers;
    ImageSide images(config);
    EXPECT_EQ(images.hello().name, "fake");
    EXPECT_TRUE(images.hello().simulated);
    EXPECT_EQ(images.hello().embedding_size, 4);
    std::size_t last = 0;
    const auto asked = requests(11);
    const auto answers = images.render(asked, [&](const train::RenderProgress& progress) {
      EXPECT_GE(progress.done, last);
      EXPECT_EQ(progress.total, 11u);
      last = progress.done;
    });
    EXPECT_EQ(last, 11u);
    expect_right(answers, asked);
    expect_right(images.render(asked), asked);  // the side runs on between two calls
    EXPECT_TRUE(images.render({}).empty());
  }
}

TEST(ImageSide, RendersNothingTwice) {
  const FakeSide side(kGood);
  ImageSideConfig config = side.config();
  config.cache = side.cache();
  auto asked = requests(5);
  asked.push_back(asked[1]);
  asked.back().id = "again";
  expect_right(ImageSide(config).render(asked), asked);
  EXPECT_EQ(side.seen().size(), 5u);
  asked.push_back({.id = "new", .query = "query 0", .prompt = "prompt 0", .seed = 8});
  train::RenderProgress end;
  expect_right(ImageSide(config).render(asked, [&](const auto& progress) { end = progress; }), asked);
  EXPECT_EQ(side.seen().size(), 6u);
  EXPECT_EQ(end.cached, 6u);
  EXPECT_EQ(end.done, 7u);
}

TEST(ImageSide, AnotherVersionIsAnotherCache) {
  const FakeSide side(
      "hello(version=open(LOG + '.version').read())\nfor b in batches():\n  for r in b: say(answer(r))\n");
  ImageSideConfig config = side.config();
  config.cache = side.cache();
  for (const char* const version : {"1", "2", "1"}) {
    std::ofstream(side.log().string() + ".version") << version;
    expect_right(ImageSide(config).render(requests(3)), requests(3));
  }
  EXPECT_EQ(side.seen().size(), 6u);
}

TEST(ImageSide, TornAndDamagedRecordsAreRenderedAgain) {
  const FakeSide side(kGood);
  ImageSideConfig config = side.config();
  config.cache = side.cache();
  const auto asked = requests(6);
  expect_right(ImageSide(config).render(asked), asked);
  fs::path file;
  for (const auto& entry : fs::directory_iterator(side.cache())) {
    if (entry.path().extension() == ".cache") file = entry.path();
  }
  std::string bytes = read_file(file);
  const std::size_t record = bytes.size() / 6;
  for (const std::size_t cut : {std::size_t{1}, record - 1, record}) {
    const std::size_t before = side.seen().size();
    std::ofstream(file, std::ios::binary).write(bytes.data(), static_cast<std::streamsize>(bytes.size() - cut));
    testing::internal::CaptureStderr();
    expect_right(ImageSide(config).render(asked), asked);
    const std::string log = testing::internal::GetCapturedStderr();
    EXPECT_EQ(log.find("1 answer was cut short or damaged") != std::string::npos, cut != record) << log;
    EXPECT_EQ(side.seen().size(), before + 1) << cut;
    EXPECT_EQ(fs::file_size(file), bytes.size());
  }
  bytes = read_file(file);
  bytes[2 * record + 60] = static_cast<char>(bytes[2 * record + 60] ^ 1);  // in the middle: only that one is lost
  std::ofstream(file, std::ios::binary) << bytes;
  const std::size_t before = side.seen().size();
  expect_right(ImageSide(config).render(asked), asked);
  EXPECT_EQ(side.seen().size(), before + 1);
}

TEST(ImageSide, AKilledRunGoesOnWhereItWas) {
  const FakeSide side("hello()\nfor b in batches():\n  for r in b:\n    time.sleep(0.02)\n    say(answer(r))\n");
  ImageSideConfig config = side.config();
  config.cache = side.cache();
  config.batch = 1;
  const pid_t child = ::fork();
  if (child == 0) {
    ImageSide(config).render(requests(40));
    ::_exit(0);
  }
  while (side.seen().size() < 8) std::this_thread::sleep_for(std::chrono::milliseconds(2));
  ::kill(child, SIGKILL);
  ::waitpid(child, nullptr, 0);
  const std::size_t before = side.seen().size();
  testing::internal::CaptureStderr();
  expect_right(ImageSide(config).render(requests(40)), requests(40));
  testing::internal::GetCapturedStderr();
  EXPECT_LE(side.seen().size(), 40 + 2u) << "after " << before;  // at most what was on its way
}

TEST(ImageSide, AFullDiskEndsTheRun) {
  const FakeSide side(kGood);
  ImageSideConfig config = side.config();
  config.cache = side.cache();
  const pid_t child = ::fork();
  if (child == 0) {
    const rlimit limit{300, 300};  // two answers
    ::signal(SIGXFSZ, SIG_IGN);
    ::setrlimit(RLIMIT_FSIZE, &limit);
    const std::string error = error_of([&] { ImageSide(config).render(requests(9)); });
    ::_exit(error.find("cannot write the image cache") == 0 && error.find("File too large") != std::string::npos ? 0
                                                                                                                 : 1);
  }
  int status = 0;
  ::waitpid(child, &status, 0);
  EXPECT_EQ(status, 0);
  fs::remove(side.log());
  expect_right(ImageSide(config).render(requests(9)), requests(9));
  EXPECT_EQ(side.seen().size(), 7u);
}

TEST(ImageSide, TwoProcessesDoNotShareACache) {
  const FakeSide side(kGood);
  ImageSideConfig config = side.config();
  config.cache = side.cache();
  ImageSide first(config);
  first.hello();
  EXPECT_NE(error_of([&] { ImageSide(config).hello(); }), "");
}

TEST(ImageSide, OneThatDiesIsStartedAgain) {
  const FakeSide side(
      "hello()\nfor b in batches():\n  for r in b:\n    if seen() == 4: sys.exit(3)\n    say(answer(r))\n");
  testing::internal::CaptureStderr();
  expect_right(ImageSide(side.config()).render(requests(9)), requests(9));
  const std::string log = testing::internal::GetCapturedStderr();
  EXPECT_NE(log.find("ended with exit code 3; its 4 requests without an answer"), std::string::npos) << log;
}

TEST(ImageSide, ARequestThatKillsItIsNamedAndTheOthersAreKept) {
  const FakeSide side(R"(hello()
print("loading the weights", file=sys.stderr)
for b in batches():
  for r in b:
    if r["prompt"] == "prompt 2":
      print("Traceback\nMemoryError: too large", file=sys.stderr, flush=True)
      os._exit(1)
    say(answer(r))
)");
  const Bad bad = render_badly(side, side.config(), 4);
  EXPECT_NE(bad.error.find("image side \"python3 "), std::string::npos) << bad.error;
  EXPECT_NE(bad.error.find("request \"q2\" (prompt \"prompt 2\", seed 7): ended with exit code 1; its last words: "
                           "\"MemoryError: too large\", in 3 attempts; the "),
            std::string::npos)
      << bad.error;
  EXPECT_EQ(bad.error.find('\n'), std::string::npos);
  EXPECT_GE(bad.cached, 2u);
}

TEST(ImageSide, OneThatHangsIsStoppedAndStartedAgain) {
  const FakeSide side(
      "hello()\nfor b in batches():\n  if seen() == 4: time.sleep(600)\n  for r in b: say(answer(r))\n");
  ImageSideConfig config = side.config();
  config.timeout_seconds = 0.5;
  testing::internal::CaptureStderr();
  expect_right(ImageSide(config).render(requests(6)), requests(6));
  const std::string log = testing::internal::GetCapturedStderr();
  EXPECT_NE(log.find("is silent for 0.5 s"), std::string::npos) << log;
}

TEST(ImageSide, OneThatAlwaysHangsEndsTheRun) {
  const FakeSide side("hello()\nsys.stderr.write('stuck at step 3')\nsys.stderr.flush()\ntime.sleep(600)\n");
  ImageSideConfig config = side.config();
  config.timeout_seconds = 0.3;
  config.retries = 1;
  const Bad bad = render_badly(side, config, 1);
  EXPECT_NE(bad.error.find("is silent for 0.3 s; its last words: \"stuck at step 3\", in 2 attempts"),
            std::string::npos)
      << bad.error;
}

TEST(ImageSide, OneThatNeverAnswersIsNotAskedForEachOfABatch) {
  const FakeSide side("hello()\ntime.sleep(600)\n");
  ImageSideConfig config = side.config();
  config.timeout_seconds = 0.2;
  config.retries = 2;
  config.batch = 16;
  const Bad bad = render_badly(side, config, 16);
  EXPECT_NE(bad.error.find("is silent for 0.2 s; so it was 5 times in a row, without an answer"), std::string::npos)
      << bad.error;
}

TEST(ImageSide, ASecondAnswerDoesNotCount) {
  const FakeSide side(R"(hello()
for b in batches():
  for r in b:
    say(answer(r))
    r["prompt"] = "another"
    say(answer(r))
)");
  ImageSideConfig config = side.config();
  testing::internal::CaptureStderr();
  expect_right(ImageSide(config).render(requests(9)), requests(9));
  const std::string log = testing::internal::GetCapturedStderr();
  EXPECT_NE(log.find("it answers request \"q0\" twice; the first answer counts"), std::string::npos) << log;
  EXPECT_EQ(std::count(log.begin(), log.end(), '\n'), 1) << log;
}

TEST(ImageSide, BadAnswersAreAskedForAgainThenNamed) {
  struct Case {
    const char* name;
    const char* spoil;  // makes `a`, a good answer, a bad one
    const char* says;
  };
  const Case cases[] = {
      {"nan", "a['image_embedding'][2] = float('nan')", "has \"NaN\" in image_embedding, which is no finite number"},
      {"infinite", "a['prompt_embedding'][0] = 1e39", "has 1e+39 in prompt_embedding, which is no finite number"},
      {"text", "a['query_embedding'][0] = 'x'", "has \"x\" in query_embedding, which is no finite number"},
      {"zeros", "a['image_embedding'] = [0, 0, 0, 0]", "has nothing but zeros in image_embedding"},
      {"size", "a['query_embedding'] += [1]", "has 5 numbers in query_embedding, and its hello says 4"},
      {"missing", "del a['prompt_embedding']", "has no prompt_embedding"},
      {"score", "a['aesthetic'] = float('inf')", "has an aesthetic that"},
      {"error", "a = {'id': a['id'], 'error': 'no such style'}", "says \"no such style\""},
      {"garbage", "a = 'Loading 30%'", "an answer is not JSON: \"Loading 30%\""},
      {"array", "a = '[1, 2]'", "an answer is not a JSON object: \"[1, 2]\""},
      {"half", "a = json.dumps(a)[:40]", "an answer is not JSON: \"{"},
      {"no id", "del a['id']", "an answer has no text \"id\""},
      {"unknown id", "a['id'] = 'q99'", "it answers \"q99\", which was not asked"},
  };
  for (const Case& c : cases) {
    SCOPED_TRACE(c.name);
    const std::string loop = fmt::format(
        "hello()\nfor b in batches():\n  for r in b:\n    a = answer(r)\n    if r['prompt'] == 'prompt 1' and (ALWAYS "
        "or seen() == 4):\n      {}\n    say(a)\n",
        c.spoil);
    const FakeSide once("ALWAYS = False\n" + loop);
    testing::internal::CaptureStderr();
    expect_right(ImageSide(once.config()).render(requests(4)), requests(4));
    const std::string log = testing::internal::GetCapturedStderr();
    EXPECT_NE(log.find(c.says), std::string::npos) << log;

    const FakeSide always("ALWAYS = True\n" + loop);
    ImageSideConfig config = always.config();
    config.retries = 1;
    const Bad bad = render_badly(always, config, 4);
    EXPECT_NE(bad.error.find("request \"q1\" (prompt \"prompt 1\", seed 7): "), std::string::npos) << bad.error;
    EXPECT_NE(bad.error.find(c.says), std::string::npos) << bad.error;
    EXPECT_NE(bad.error.find("in 2 attempts; the "), std::string::npos) << bad.error;
    EXPECT_EQ(bad.error.find('\n'), std::string::npos) << bad.error;
    EXPECT_GE(bad.cached, 1u);
  }
}

TEST(ImageSide, MayRefuseATenthOfTheImages) {
  const FakeSide side(
      "hello()\nfor b in batches():\n  for r in b:\n    a = answer(r)\n"
      "    if int(r['prompt'].split()[1]) % 16 == 5: a = {'id': a['id'], 'error': 'unsafe'}\n    say(a)\n");
  ImageSideConfig config = side.config();
  config.retries = 1;
  const std::vector<ImageRequest> asked = requests(48);
  testing::internal::CaptureStderr();
  const std::vector<ImageAnswer> answers = ImageSide(config).render(asked);
  const std::string log = testing::internal::GetCapturedStderr();
  EXPECT_NE(log.find("says \"unsafe\", in 2 attempts; there is no such image"), std::string::npos) << log;
  ASSERT_EQ(answers.size(), asked.size());
  for (std::size_t i = 0; i < answers.size(); ++i) {
    EXPECT_EQ(answers[i].id, asked[i].id);
    EXPECT_EQ(answers[i].refused.empty(), i % 16 != 5) << i;
    EXPECT_EQ(answers[i].image.empty(), i % 16 == 5) << i;
  }
  const Bad bad = render_badly(side, config, 9);  // one is more than a tenth
  EXPECT_NE(bad.error.find("says \"unsafe\", in 2 attempts"), std::string::npos) << bad.error;
}

TEST(ImageSide, BadHellosAreNamed) {
  const std::pair<const char*, const char*> cases[] = {
      {"print('Welcome!', flush=True)\ntime.sleep(9)\n", "it did not start: its first line is not JSON: \"Welcome!\""},
      {"hello(embedding_size=0)\n", "its first line has no \"embedding_size\" from 1 to 65536"},
      {"hello(simulated='yes')\n", "its first line does not say \"simulated\": true or false"},
      {"hello(name=3)\n", "its first line has no text \"name\""},
      {"raise ImportError('no torch')\n",
       "it did not start: ended with exit code 1; its last words: \"ImportError: no torch\""},
      {"time.sleep(600)\n", "does not say hello for 0.6 s"},
      {"os.kill(os.getpid(), 9)\n", "was ended by signal 9"}};
  for (const auto& [body, says] : cases) {
    SCOPED_TRACE(body);
    const FakeSide side(body);
    ImageSideConfig config = side.config();
    config.retries = 0;
    config.start_timeout_seconds = std::string_view(says).find("0.6") != std::string_view::npos ? 0.6 : 20;
    const Bad bad = render_badly(side, config);
    EXPECT_NE(bad.error.find(says), std::string::npos) << bad.error;
    EXPECT_EQ(bad.error.find('\n'), std::string::npos);
  }
}

TEST(ImageSide, StandardErrorMayBeNoisy) {
  const FakeSide side(
      "hello()\nfor b in batches():\n  sys.stderr.write('noise ' * 50000)\n  for r in b: say(answer(r))\n");
  expect_right(ImageSide(side.config()).render(requests(20)), requests(20));
}

TEST(ImageSide, WarningsOfAChildAreForTheUser) {
  const FakeSide side(R"(hello()
n = 0
for b in batches():
  sys.stderr.write('100%|####| step\nwarning: low on mem'); sys.stderr.flush()
  sys.stderr.write(f'ory {n}\nall is well\n'); sys.stderr.flush()
  n += 1
  for r in b: say(answer(r))
)");
  testing::internal::CaptureStderr();
  ImageSideConfig config = side.config();
  config.batch = 1;
  expect_right(ImageSide(config).render(requests(20)), requests(20));
  const std::string said = testing::internal::GetCapturedStderr();
  EXPECT_TRUE(said.starts_with("warning: the image side: low on memory 0\nwarning: the image side: low on memory 1\n"))
      << said;
  EXPECT_EQ(said.find("step"), std::string::npos) << said;
  EXPECT_NE(said.find("memory 9\n"), std::string::npos) << said;
  EXPECT_EQ(said.find("memory 10"), std::string::npos) << "ten are enough: " << said;
}

TEST(ImageSide, LargeBatchesDoNotBlock) {
  // More than a pipe holds goes both ways at once.
  const FakeSide side(R"(hello()
for line in sys.stdin:
  if line.strip(): say(answer(json.loads(line)))
)");
  ImageSideConfig config = side.config();
  config.batch = 500;
  auto asked = requests(500);
  for (ImageRequest& request : asked) request.query.append(2000, 'x');
  expect_right(ImageSide(config).render(asked), asked);
}

TEST(ImageSide, BadConfigsAreTheUsersMistake) {
  const auto message = [](const ImageSideConfig& config) { return error_of([&] { ImageSide(config).hello(); }); };
  EXPECT_EQ(message({}), "the image side needs either a command or a URL");
  EXPECT_EQ(message({.command = "a", .url = "http://b"}), "the image side needs either a command or a URL");
  EXPECT_EQ(message({.command = " "}), "the image side's command is blank");
  EXPECT_EQ(message({.command = "a 'b"}), "a command has a quote that does not end: a 'b");
  EXPECT_EQ(message({.command = {}, .url = "ftp://b"}), "\"ftp://b\" is no URL: http://host:port/path is one");
  EXPECT_EQ(message({.command = "a", .url = {}, .workers = 0}),
            "the image side's workers must be from 1 to 256, got 0");
  EXPECT_EQ(message({.command = "/no/such/program --x"}),
            "image side \"/no/such/program --x\": cannot start \"/no/such/program\": No such file or directory");
}

TEST(ImageSide, CommandsAreSplitAsAShellDoes) {
  using Words = std::vector<std::string>;
  EXPECT_EQ(train::split_command("  a  b\tc "), (Words{"a", "b", "c"}));
  EXPECT_EQ(train::split_command("a 'b c' \"d 'e\" f\\ g '' h\"i\"'j'"), (Words{"a", "b c", "d 'e", "f g", "", "hij"}));
  EXPECT_EQ(train::split_command("\"a\\\"b\\n\" '\\'"), (Words{"a\"b\\n", "\\"}));
}

TEST(ImageSide, ServersSpeakTheSameProtocol) {
  const FakeSide side(R"(from http.server import BaseHTTPRequestHandler, HTTPServer
class Side(BaseHTTPRequestHandler):
  def reply(self, text, status=200):
    data = text.encode()
    self.send_response(status); self.send_header("Content-Length", str(len(data))); self.end_headers(); self.wfile.write(data)
  def do_GET(self):
    self.reply(json.dumps({"name": "http", "version": "1", "simulated": False, "embedding_size": 4}))
  def do_POST(self):
    lines = self.rfile.read(int(self.headers["Content-Length"])).decode().splitlines()
    asked = [json.loads(l) for l in lines if l.strip()]
    open(LOG, "a").write("".join(r["prompt"] + "\n" for r in asked))
    if seen() == 8: return self.reply("out of memory\nretry", 503)
    answers = [answer(r) for r in reversed(asked) if r["prompt"] != "prompt 30"]
    self.reply("".join(json.dumps(a) + "\n" for a in answers))
  def log_message(self, *a): pass
server = HTTPServer(("127.0.0.1", 0), Side)
open(LOG + ".part", "w").write(str(server.server_port)); os.rename(LOG + ".part", LOG + ".port")
server.serve_forever()
)");
  const fs::path port = side.log().string() + ".port";
  const Process server({"/usr/bin/env", "python3", side.script().string(), side.log().string()});
  ASSERT_TRUE(server.wait_until([&] { return fs::exists(port); }, 60));
  ImageSideConfig config = side.config();
  config.command.clear();
  config.url = "http://127.0.0.1:" + read_file(port) + "/render";
  config.workers = 2;
  testing::internal::CaptureStderr();
  ImageSide images(config);
  expect_right(images.render(requests(30)), requests(30));
  const std::string log = testing::internal::GetCapturedStderr();
  EXPECT_FALSE(images.hello().simulated);
  EXPECT_NE(
      log.find("POST gives status 503: \"out of memory retry\"; its 4 requests without an answer are tried again"),
      std::string::npos)
      << log;
  const Bad bad = render_badly(side, config, 31);
  EXPECT_NE(bad.error.find("its answer ends before all requests of the batch are answered"), std::string::npos)
      << bad.error;
  config.url = "http://127.0.0.1:1/";
  config.retries = 0;
  EXPECT_NE(error_of([&] { ImageSide(config).hello(); }).find("it did not start: cannot connect"), std::string::npos);
}

}  // namespace
}  // namespace unfurl::tests
