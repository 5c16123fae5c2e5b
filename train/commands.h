// The commands behind the command line, each a struct of options and a function. The corpus commands are in
// train/corpus/commands.h. A function returns the program's exit code; mistakes and failures are exceptions
// (core/error.h). Results go to standard output, messages by train/log.h.
#pragma once
#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "train/recipe/recipe.h"
#include "train/trainer/ranks_plan.h"

namespace unfurl::train {

/// unfurl corpus show: pairs of a file as a model sees them.
struct CorpusShowOptions {
  std::filesystem::path file;
  std::filesystem::path tokenizer;
  std::int64_t first = 0;  // index of the first pair shown, from 0
  std::int64_t count = 3;
  std::int64_t context = 128;
};
int run_corpus_show(const CorpusShowOptions& options);

/// unfurl tokenizer train: a tokenizer from the texts of JSONL pairs, or of plain lines.
struct TokenizerTrainOptions {
  std::vector<std::filesystem::path> inputs;  // *.jsonl: queries and prompts of pairs; others: every line
  std::filesystem::path out;
  TokenizerRecipe config;
  std::int64_t seed = 1;
};
int run_tokenizer_train(const TokenizerTrainOptions& options);

/// unfurl plan: what a recipe will take, before it runs.
struct PlanOptions {
  std::filesystem::path recipe;
  std::vector<std::string> sets;
  bool json = false;
  int ranks = 1;
  Cluster cluster;  // that they run on
};
int run_plan(const PlanOptions& options);

/// unfurl train: one stage. A run that was stopped goes on from its newest checkpoint.
struct TrainOptions {
  std::filesystem::path recipe;
  std::vector<std::string> sets;
  bool fresh = false;      // starts over where the output folder holds a run
  bool profile = false;    // writes OUTPUT/trace.json
  double timeout = 600;    // seconds that ranks wait for one another
  std::int64_t ranks = 0;  // starts so many by mpirun; 0: this process is one of those that there are
};
int run_train(const TrainOptions& options);

/// unfurl run: a recipe that lists stages. A stage whose outputs are there and whose inputs have not changed is
/// skipped.
struct RunOptions {
  std::filesystem::path recipe;
  std::vector<std::string> sets;
  std::vector<std::string> only;  // stages to run; empty: all
  bool fresh = false;             // skips nothing
};
int run_pipeline(const RunOptions& options);

/// unfurl expand: queries to prompts. Without a query, a file or --jsonl it asks for queries.
struct ExpandOptions {
  std::filesystem::path run;         // a run or checkpoint folder
  std::optional<std::string> query;  // "" is a mistake of the user's
  std::filesystem::path file;        // queries, one a line; "" for none
  bool json = false;                 // one JSON object a query
  bool jsonl = false;                // requests on standard input, answers on standard output, one a line
  bool expand = true;                // --no-expand: the query comes back as it is
  std::int64_t n = 4;
  std::int64_t diverse = 0;           // draw so many, and take the n that differ most; 0: draw n
  std::string image_side;             // whose prompt embeddings say what differs: a command or URL; "": by words
  std::int64_t steps = 1;             // expansions in a row
  std::string prefix;                 // "" for none
  std::optional<std::uint64_t> seed;  // without one a fresh seed, which is printed
  double temperature = 0.8;
  double top_p = 0.95;
  std::int64_t top_k = 0;
  double min_p = 0;
  std::int64_t max_tokens = 96;
  std::int64_t max_words = 0;     // 0: no limit
  std::vector<std::string> bans;  // phrases, or files of one a line
  KeepMode keep = KeepMode::verbatim;
  DeviceChoice device = DeviceChoice::automatic;
  Precision precision = Precision::automatic;
  DecodePrecision weights = DecodePrecision::int8;  // on the CPU
};
int run_expand(const ExpandOptions& options);

/// unfurl eval: loss, perplexity and bits per byte of a run on held-out pairs.
struct EvalOptions {
  std::filesystem::path run;
  std::vector<std::string> sets;  // over the run's own recipe
  std::filesystem::path pairs;    // another file of pairs, all of it; "" for the held-out side of the run's own data
  bool json = false;
};
int run_eval(const EvalOptions& options);

/// unfurl judge: models and controls by the images of their prompts.
struct JudgeOptions {
  std::vector<std::filesystem::path> runs;
  JudgeConfig config;
  SampleConfig samples;
  std::int64_t seed = 1;
  std::filesystem::path out;
  std::vector<std::filesystem::path> combine;  // folders of judgements, instead of runs
  std::filesystem::path hypotheses;            // a recipe whose judge.hypotheses are tested; "" for none
  std::filesystem::path sheet;                 // the judgement that a sheet is made of, or votes are read of
  std::string pair;                            // "A,B": the systems of the sheet; "" for the standard ones
  std::int64_t rounds = 1;                     // of the sheet, 1x1
  std::vector<std::filesystem::path> votes;    // files of votes on the sheet
  bool json = false;                           // what the votes come to, as one JSON object
};
int run_judge(const JudgeOptions& options);

/// unfurl inspect: what a checkpoint holds.
struct InspectOptions {
  std::filesystem::path path;  // a run, checkpoint or .safetensors file
  bool tensors = false;        // every tensor with its size and statistics
  bool json = false;
};
int run_inspect(const InspectOptions& options);

}  // namespace unfurl::train
