// unfurl judge from end to end, with a side that is a few lines of Python.
#include <gtest/gtest.h>

#include <algorithm>
#include <map>

#include "core/files.h"
#include "core/json.h"
#include "core/lines.h"
#include "tests/support/subprocess.h"
#include "tests/support/temporary_folder.h"
#include "tests/train/judge/check_page.h"
#include "tests/train/trainer/fixture.h"
#include "train/trainer/checkpoint.h"
#include "train/trainer/trainer.h"

namespace unfurl::train {
namespace {

namespace fs = std::filesystem;

constexpr const char* kSide = R"(import sys, json, random
broken = len(sys.argv) > 1 and sys.argv[1] == "broken"
score = len(sys.argv) < 2 or sys.argv[1] != "blind"
print(json.dumps({"name": "fake", "version": "1", "simulated": True, "embedding_size": 4}), flush=True)
def vector(text):
    r = random.Random(text)
    return [r.gauss(0, 1) for _ in range(4)]
count = 0
for line in sys.stdin:
    if not line.strip(): continue
    r = json.loads(line)
    count += 1
    if broken and count > 5: sys.exit(1)
    answer = {"id": r["id"], "image_embedding": vector(r["prompt"] + str(r["seed"])),
              "query_embedding": vector(r["query"]), "prompt_embedding": vector(r["prompt"])}
    if score: answer["aesthetic"] = float(len(r["prompt"]))
    print(json.dumps(answer), flush=True)
)";

class JudgeTest : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    folder_ = new tests::TemporaryFolder;
    write_file(*folder_ / "side.py", kSide);
    testing::internal::CaptureStderr();
    train_stage(tests::tiny_recipe(*folder_ / "run", {"train.steps=2", "train.validate_every=0"}));
    testing::internal::GetCapturedStderr();
  }
  static void TearDownTestSuite() { delete folder_; }

  tests::Finished judge(const fs::path& out, const std::string& side = "", std::vector<std::string> more = {}) const {
    std::vector<std::string> command = {tests::unfurl_binary(),
                                        "judge",
                                        (*folder_ / "run").string(),
                                        "--out",
                                        out.string(),
                                        "--side",
                                        "/usr/bin/env python3 " + (*folder_ / "side.py").string() + " " + side,
                                        "--max-queries",
                                        "4",
                                        "--max-tokens",
                                        "8",
                                        "--resamples",
                                        "20"};
    if (std::find(more.begin(), more.end(), "-n") == more.end()) more.insert(more.end(), {"-n", "2"});
    command.insert(command.end(), more.begin(), more.end());
    return tests::Process(command).wait();
  }
  static tests::TemporaryFolder* folder_;
};
tests::TemporaryFolder* JudgeTest::folder_ = nullptr;

TEST_F(JudgeTest, JudgesModelsAndControlsAndGoesOn) {
  const fs::path out = *folder_ / "j";
  const std::vector<std::string> more = {"--frontier", "2", "--prefixes", "FLV"};
  const tests::Finished first = judge(out, "", more);
  ASSERT_EQ(first.code, 0) << first.error;
  EXPECT_EQ(first.error.find("without prefixes"), std::string::npos) << first.error;
  EXPECT_NE(first.out.find("SIMULATED"), std::string::npos);
  const Json json = Json::parse(read_file(out / "judge.json"));
  EXPECT_TRUE(json.at("simulated").as_bool());
  for (const char* system : {"straight", "tiny", "random_flavors", "nearest"}) {
    EXPECT_TRUE(json.at("systems").at(system).at("alignment").at("mean").is_number()) << system;
  }
  EXPECT_EQ(json.at("systems").at("straight").at("win_aesthetic").at("mean").as_number(), 0.5);
  EXPECT_TRUE(json.at("frontier").at("tiny").as_object().size() == 2);
  EXPECT_TRUE(json.at("prefixes").at("tiny +FLV").at("words").is_object());
  const std::string page = read_file(out / "report.html");
  EXPECT_NE(page.find("<svg"), std::string::npos);
  EXPECT_EQ(page.find("http"), std::string::npos) << "the page must need nothing else";
  EXPECT_EQ(tests::page_faults(out / "report.html"), "");

  // The model has seen no simulated pair, though the side that looks at what it says is simulated.
  EXPECT_EQ(read_file(out / "expansions.jsonl").find("simulated"), std::string::npos);

  // A judgement that was killed: half of the expansions, the last line torn, and none of the rest.
  const std::string whole = read_file(out / "expansions.jsonl"), text = read_file(out / "judge.json");
  write_file(out / "expansions.jsonl", std::string_view(whole).substr(0, whole.size() / 2));
  fs::remove(out / "judge.json");
  const tests::Finished again = judge(out, "", more);
  ASSERT_EQ(again.code, 0) << again.error;
  EXPECT_EQ(read_file(out / "expansions.jsonl"), whole);
  EXPECT_EQ(read_file(out / "judge.json"), text);
}

TEST_F(JudgeTest, SaysWhatAModelHasSeenThatMatters) {
  const tests::TemporaryFolder at;
  fs::copy(*folder_ / "run", at / "run", fs::copy_options::recursive);
  const fs::path path = resolve_checkpoint(at / "run") / "state.json";
  Json state = Json::parse(read_file(path));
  state["simulated"] = true;
  std::string recipe = state.at("recipe").as_string();
  recipe.replace(recipe.find("mode: dropout"), 13, "mode: none");
  state["recipe"] = recipe;
  write_file(path, sealed(state));
  const tests::Finished done =
      tests::Process({tests::unfurl_binary(), "judge", (at / "run").string(), "--out", (at / "j").string(), "--side",
                      "/usr/bin/env python3 " + (*folder_ / "side.py").string(), "--max-queries", "2", "--max-tokens",
                      "4", "--resamples", "20", "-n", "1", "--prefixes", "FLV", "DTL"})
          .wait();
  ASSERT_EQ(done.code, 0) << done.error;
  const std::string expansions = read_file(at / "j/expansions.jsonl");
  EXPECT_EQ(Json::parse(expansions.substr(0, expansions.find('\n'))).at("simulated"), Json(true));
  EXPECT_NE(done.out.find(", trained on SIMULATED data"), std::string::npos) << done.out;
  EXPECT_NE(
      done.error.find("warning: tiny was trained without prefixes: FLV, DTL say little to it; name a run last that "
                      "was trained with them\n"),
      std::string::npos)
      << done.error;
}

TEST_F(JudgeTest, QueriesOfTrainingAreLeftOut) {
  const fs::path file = *folder_ / "q.txt";
  const auto judged = [&](const std::string& queries) {
    write_file(file, queries);
    return judge(*folder_ / "seen", "", {"--queries", file.string()});
  };
  const std::string pairs = read_file(tests::tiny_corpus() / "pairs.jsonl");
  int trained = 0, held_out = 0;
  for (const auto& [number, line] : Lines(pairs)) {
    const std::string query = Json::parse(line).at("query").as_string(), typed = "  " + query + " !\n";
    const tests::Finished found = judged(typed + "a zeppelin over a teapot\n");
    ASSERT_EQ(found.code, 0) << found.error;
    const std::string expansions = read_file(*folder_ / "seen/expansions.jsonl");
    EXPECT_NE(expansions.find("a zeppelin over a teapot"), std::string::npos);
    const std::string left_out =
        "warning: " + file.string() + ": 1 of 2 queries, with which a model was trained, are left out\n";
    const bool is_left_out = found.error.find(left_out) != std::string::npos;
    EXPECT_EQ(expansions.find(Json(query + " !").dump()) == std::string::npos, is_left_out) << query;
    ++(is_left_out ? trained : held_out);
    if (is_left_out) {
      const tests::Finished none = judged(typed);
      EXPECT_EQ(none.code, 2);
      EXPECT_EQ(none.error,
                "error: " + file.string() + ": the models were trained with all of its 1 query; give others\n");
    }
    if (trained > 0 && (held_out > 0 || number > 3)) break;
  }
  EXPECT_GT(trained, 0);
}

constexpr const char* kServer = R"(import json, os, sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
folder = sys.argv[1]
class Handler(BaseHTTPRequestHandler):
    def log_message(self, *a): pass
    def do_POST(self):
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with open(folder + "/asked", "a") as f: f.write(json.dumps(request["messages"]) + "\n")
        query = request["messages"][-1]["content"]
        answer = "Prompt: \"" + query + ", from a language model, seed " + str(request["seed"]) + "\""
        if request["seed"] % 6 == 0: answer = "I'm sorry, I can't."
        body = json.dumps({"choices": [{"message": {"role": "assistant", "content": answer}}]}).encode()
        self.send_response(200 if request["model"] == "fake" else 404)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
open(folder + "/port.new", "w").write(str(server.server_port))
os.rename(folder + "/port.new", folder + "/port")
server.serve_forever()
)";

TEST_F(JudgeTest, ALanguageModelIsAControlWhereThereIsOne) {
  const tests::TemporaryFolder at;
  write_file(at / "server.py", kServer);
  const tests::Process server({"/usr/bin/env", "python3", (at / "server.py").string(), at.path().string()});
  ASSERT_TRUE(server.wait_until([&] { return fs::exists(at / "port"); }, 60));
  const std::vector<std::string> more = {"--endpoint", "http://127.0.0.1:" + read_file(at / "port") + "/v1", "--model",
                                         "fake"};
  const fs::path out = *folder_ / "few";
  const tests::Finished found = judge(out, "", more);
  ASSERT_EQ(found.code, 0) << found.error;
  const Json json = Json::parse(read_file(out / "judge.json"));
  EXPECT_TRUE(json.at("systems").at("few_shot").at("alignment").is_object());
  EXPECT_EQ(found.out.find("no endpoint was given"), std::string::npos);
  const std::string expansions = read_file(out / "expansions.jsonl");
  EXPECT_NE(expansions.find(", from a language model, seed "), std::string::npos);
  EXPECT_EQ(expansions.find("Prompt: "), std::string::npos);
  EXPECT_EQ(expansions.find("sorry"), std::string::npos);
  // The same pairs are shown each time, and none is of a query that is asked.
  const std::string asked = read_file(at / "asked");
  const Json::Array first = Json::parse(asked.substr(0, asked.find('\n'))).as_array();
  ASSERT_EQ(first.size(), 2u + 2 * 8);
  for (std::size_t line = 0; line + 1 < asked.size();) {
    const std::size_t end = asked.find('\n', line);
    const Json::Array messages = Json::parse(asked.substr(line, end - line)).as_array();
    line = end + 1;
    for (std::size_t i = 0; i + 1 < messages.size(); ++i) {
      EXPECT_EQ(messages[i], first[i]);
      EXPECT_NE(messages[i].at("content"), messages.back().at("content"));
    }
  }
  // All of it is kept: the server is not asked again, even where the expansions are lost.
  fs::remove(out / "expansions.jsonl");
  ASSERT_EQ(judge(out, "", more).code, 0);
  EXPECT_EQ(read_file(at / "asked"), asked);
  EXPECT_EQ(read_file(out / "expansions.jsonl"), expansions);

  const tests::Finished other = judge(*folder_ / "few2", "", {"--endpoint", more[1], "--model", "another"});
  EXPECT_EQ(other.code, 2);
  EXPECT_NE(other.error.find("refuses"), std::string::npos) << other.error;
  const tests::Finished none = judge(*folder_ / "few3", "", {"--endpoint", more[1]});
  EXPECT_NE(none.error.find("--model NAME is missing"), std::string::npos) << none.error;
}

TEST_F(JudgeTest, ASheetIsMadeOfAJudgement) {
  const fs::path out = *folder_ / "sheet";
  ASSERT_EQ(judge(out, "", {"-n", "4"}).code, 0);
  const auto run = [&](std::vector<std::string> more) {
    more.insert(more.begin(), {tests::unfurl_binary(), "judge", "--sheet", out.string()});
    return tests::run_process(more);
  };
  const tests::Finished made = run({"--pairs-of", "tiny,random_flavors"});
  ASSERT_EQ(made.code, 0) << made.error;
  EXPECT_NE(made.out.find(" comparisons of tiny and random_flavors, 0 of them with images"), std::string::npos);
  EXPECT_EQ(tests::page_faults(out / "sheet.html"), "");
  EXPECT_NE(read_file(out / "sheet.html").find("section class=\"item four\""), std::string::npos);
  const Json key = Json::parse(read_file(out / "sheet-key.json"));
  write_file(out / "votes.json", "{\"sheet\":\"" + key.at("sheet").as_string() +
                                     "\",\"rater\":\"ann\",\"votes\":[{\"item\":\"i001\",\"vote\":\"tie\"}]}");
  const tests::Finished read = run({"--votes", (out / "votes.json").string()});
  ASSERT_EQ(read.code, 0) << read.error;
  EXPECT_NE(read.out.find("1 vote of 1 rater"), std::string::npos) << read.out;
  const tests::Finished both = run({"--votes", (out / "votes.json").string(), "--rounds", "2"});
  EXPECT_EQ(both.code, 2) << both.error;
}

TEST_F(JudgeTest, TheBestOfSeveralByScoreIsAControl) {
  const std::string side = "/usr/bin/env python3 " + (*folder_ / "side.py").string();
  const auto run = [&](const std::string& name, const std::string& term) {
    write_file(*folder_ / (name + ".yaml"),
               "name: best\noutput: " + (*folder_ / name).string() +
                   "\nsamples: {max_tokens: 8}\nstages:\n- kind: judge\n" + "  runs: [" + (*folder_ / "run").string() +
                   "]\n  judge:\n    side: {command: \"" + side + "\"}\n    best_of: {of: 3, side: {command: \"" +
                   side + "\"}, score: [{term: " + term + "}]}\n    max_queries: 4\n    n: 2\n    resamples: 20\n" +
                   "    hypotheses: [{name: h, better: best_of, worse: tiny, metric: aesthetic}]\n");
    return tests::run_process({tests::unfurl_binary(), "run", (*folder_ / (name + ".yaml")).string()});
  };
  const tests::Finished found = run("best", "aesthetic");  // of this side: the length in characters
  ASSERT_EQ(found.code, 0) << found.error;
  const Json json = Json::parse(read_file(*folder_ / "best" / "judge" / "judge.json"));
  EXPECT_GT(json.at("systems").at("best_of").at("aesthetic").at("mean").as_number(),
            json.at("systems").at("tiny").at("aesthetic").at("mean").as_number());
  // As many prompts a query, and none that scores less than the model's own at its place, for that is one of the three.
  std::map<std::string, std::map<std::string, std::vector<std::string>>> texts;
  const std::string lines = read_file(*folder_ / "best" / "judge" / "expansions.jsonl");
  for (std::size_t at = lines.find('\n') + 1; at < lines.size(); at = lines.find('\n', at) + 1) {
    const Json line = Json::parse(lines.substr(at, lines.find('\n', at) - at));
    for (const Json& prompt : line.at("prompts").as_array()) {
      texts[line.at("system").as_string()][line.at("query_id").as_string()].push_back(prompt.at("text").as_string());
    }
  }
  ASSERT_EQ(texts["best_of"].size(), 4U);
  for (const auto& [query, best] : texts["best_of"]) {
    const std::vector<std::string>& own = texts["tiny"][query];  // one where the query is too long to be expanded
    ASSERT_EQ(best.size(), own.size());
    for (std::size_t i = 0; i < own.size(); ++i) EXPECT_GE(best[i].size(), own[i].size());
  }
  EXPECT_NE(run("bad", "aesthetics").error.find("judge.best_of.score: there is no term \"aesthetics\""),
            std::string::npos);
}

TEST_F(JudgeTest, AHypothesisOnNobodyEndsBeforeTheWork) {
  write_file(*folder_ / "nobody.yaml", "stages:\n- kind: judge\n  runs: [" + (*folder_ / "run").string() +
                                           "]\n  judge: {side: {command: cat}, " +
                                           "hypotheses: [{name: h, better: tini, worse: straight}]}\n");
  const tests::Finished found = tests::run_process({tests::unfurl_binary(), "run", (*folder_ / "nobody.yaml").string(),
                                                    "--set", "output=" + (*folder_ / "nobody").string()});
  EXPECT_NE(found.code, 0);
  EXPECT_NE(found.error.find("the system \"tini\", which is not judged; did you mean"), std::string::npos)
      << found.error;
}

TEST_F(JudgeTest, AHypothesisIsOnAMetricThatThereIs) {
  write_file(*folder_ / "metric.yaml",
             "judge: {hypotheses: [{name: h, better: tiny, worse: straight, metric: aesthetics}]}\n");
  const tests::Finished found =
      tests::run_process({tests::unfurl_binary(), "judge", "--combine", "a", "b", "--hypotheses",
                          (*folder_ / "metric.yaml").string(), "--out", (*folder_ / "metric").string()});
  EXPECT_NE(found.code, 0);
  EXPECT_NE(found.error.find("the metric \"aesthetics\", which there is not; did you mean \"aesthetic\"?"),
            std::string::npos)
      << found.error;
}

TEST_F(JudgeTest, ASideWithoutAestheticsHasNoneToShow) {
  const tests::Finished found = judge(*folder_ / "blind", "blind");
  ASSERT_EQ(found.code, 0) << found.error;
  const Json json = Json::parse(read_file(*folder_ / "blind" / "judge.json"));
  EXPECT_TRUE(json.at("systems").at("tiny").at("aesthetic").is_null());
  EXPECT_TRUE(json.at("systems").at("tiny").at("alignment").is_object());
  EXPECT_NE(found.out.find("n/a, here and below: no query has a value, as where the image side gives no score"),
            std::string::npos);
}

TEST_F(JudgeTest, JudgementsOfSeveralWorldsAreOne) {
  write_file(*folder_ / "h.yaml",
             "judge: {hypotheses: [{name: longer, better: tiny, worse: straight, metric: words, smallest: 0.5}]}\n");
  for (const char* unit : {"a", "b"}) {
    ASSERT_EQ(judge(*folder_ / unit, "", {"--seed", unit[0] == 'a' ? "1" : "2"}).code, 0);
  }
  const std::vector<std::string> command = {tests::unfurl_binary(),
                                            "judge",
                                            "--combine",
                                            (*folder_ / "a").string(),
                                            (*folder_ / "b").string(),
                                            "--hypotheses",
                                            (*folder_ / "h.yaml").string(),
                                            "--out",
                                            (*folder_ / "ab").string()};
  const tests::Finished found = tests::Process(command).wait();
  ASSERT_EQ(found.code, 0) << found.error;
  const Json json = Json::parse(read_file(*folder_ / "ab" / "judge.json"));
  EXPECT_EQ(json.at("units").as_integer(), 2);
  EXPECT_NE(json.at("hypotheses").as_array().at(0).at("verdict").as_string(), "");
  EXPECT_NE(found.out.find("units that find it"), std::string::npos);
  EXPECT_NE(found.out.find("over worlds (1), their training seeds (2 in all)"), std::string::npos);
  for (const std::string& page : {found.out, read_file(*folder_ / "ab" / "report.html")}) {
    EXPECT_NE(page.find("; intervals over two units say little"), std::string::npos);
  }
  std::vector<std::string> twice = command;
  twice[4] = twice[3];
  const tests::Finished same = tests::Process(twice).wait();
  EXPECT_NE(same.code, 0);
  EXPECT_NE(same.error.find("each unit counts once"), std::string::npos) << same.error;
}

TEST_F(JudgeTest, MistakesAreOneLine) {
  const auto fails = [&](const std::vector<std::string>& command, const std::string& expected) {
    const tests::Finished found = tests::Process(command).wait();
    EXPECT_NE(found.code, 0);
    EXPECT_NE(found.error.find(expected), std::string::npos) << found.error;
  };
  const std::string out = (*folder_ / "bad").string(), run = (*folder_ / "run").string();
  fails({tests::unfurl_binary(), "judge", "--out", out}, "name the folder of a run");
  fails({tests::unfurl_binary(), "judge", run, "--out", out}, "command");
  fails({tests::unfurl_binary(), "judge", run}, "--out FOLDER is missing");
  fails({tests::unfurl_binary(), "judge", "--sheet", (*folder_ / "none").string()}, "expansions.jsonl");
  fails({tests::unfurl_binary(), "judge", run, run, "--side", "cat", "--out", out}, "two of the runs are named");
  fails({tests::unfurl_binary(), "judge", "--combine", run, "--out", out}, "at least two");
  const tests::Finished dead = judge(*folder_ / "dead", "broken");
  EXPECT_EQ(dead.code, 1);
  EXPECT_NE(dead.error.find("error: "), std::string::npos);
  // What it had rendered is kept, and a side that lives goes on from it.
  EXPECT_EQ(judge(*folder_ / "dead").code, 0);
}

}  // namespace
}  // namespace unfurl::train
