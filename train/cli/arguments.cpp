#include "train/cli/arguments.h"

#include "core/error.h"
#include "train/cli/cli11.h"
#include "train/commands.h"
#include "train/commands/export.h"
#include "train/recipe/pipeline.h"
#include "train/version.h"

namespace unfurl::train {
namespace {

/// A command of commands.
CLI::App& add_family(CLI::App& parent, const char* name, const char* what) {
  CLI::App* const app = parent.add_subcommand(name, what);
  app->require_subcommand(1);
  return *app;
}

CLI::Option* add_sets(CLI::App& app, std::vector<std::string>& sets) {
  return app.add_option("--set", sets, "lays one key over the recipe: --set train.steps=100")
      ->type_name("KEY=VALUE")
      ->default_str("")
      ->allow_extra_args(false)
      ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
}

struct RecipeFlags {
  bool dump = false, help = false;
};

/// The positional RECIPE with --set, --dump and --help-recipe.
std::shared_ptr<RecipeFlags> add_recipe(CLI::App& app, std::filesystem::path& recipe, std::vector<std::string>& sets) {
  auto flags = std::make_shared<RecipeFlags>();
  app.add_option("recipe", recipe, "the recipe, YAML")->type_name("RECIPE");
  add_sets(app, sets);
  app.add_flag("--dump", flags->dump, "print the resolved recipe, every key, and stop");
  app.add_flag("--help-recipe", flags->help, "print every key with its default, type and meaning, and stop");
  return flags;
}

/// True where the flags asked for a text, which is then printed.
bool answer(const RecipeFlags& flags, const std::filesystem::path& recipe, const std::vector<std::string>& sets,
            const char* command) {
  if (flags.help) {
    fmt::print(
        "# Every key of a recipe with its default. `extends: FILE` takes what is not given from another one.\n\n{}",
        document_recipe());
    fmt::print(
        "\n# `unfurl run` takes a recipe with a list of stages. A stage may give any of the keys above, and:\n\n{}",
        document_stage());
    return true;
  }
  if (recipe.empty()) user_error("a recipe is missing; try `unfurl {} --help`", command);
  if (flags.dump)
    fmt::print("{}",
               is_pipeline(recipe) ? load_pipeline(recipe, sets).resolved : dump_recipe(load_recipe(recipe, sets)));
  return flags.dump;
}

void add_tokenizer_train(CLI::App& parent, Action& action) {
  CLI::App& app = add_command(parent, "train", "Train a tokenizer on pairs or plain lines",
                              "  unfurl tokenizer train data/pairs.jsonl --out data/tokenizer.model\n"
                              "  unfurl tokenizer train prompts.txt --vocab-size 8000 --type unigram --out t.model\n");
  auto options = std::make_shared<TokenizerTrainOptions>();
  app.add_option("files", options->inputs, "*.jsonl: the queries and prompts of pairs; other files: their lines")
      ->type_name("FILE")
      ->default_str("")
      ->check(not_empty())
      ->required();
  add_path(app, "--out", options->out, "the model", "FILE")->required();
  app.add_option("--sentinels", options->config.sentinels, "pieces for spans left out of a text (objective ul2)")
      ->check(from_to(0, 1000, "from 0 to 1000"));
  app.add_option("--vocab-size", options->config.vocab_size, "pieces")
      ->check(from_to(300, 1 << 20, "from 300 to 1048576"));
  add_choice(app, "--type", options->config.type, "how pieces are learnt");
  app.add_option("--character-coverage", options->config.character_coverage,
                 "share of the text's characters with a piece")
      ->check(from_to(0.9, 1, "from 0.9 to 1"));
  app.add_option("--max-lines", options->config.max_lines, "lines to learn from, drawn by seed; 0: all")
      ->check(from_to(0, 1e15, "0 or more"));
  app.add_option("--seed", options->seed, "for --max-lines")->check(seed());
  add_threads(app);
  app.callback([options, &action] { action = [options] { return run_tokenizer_train(*options); }; });
}

void add_plan(CLI::App& parent, Action& action) {
  CLI::App& app = add_command(parent, "plan", "Say what a recipe will take: parameters, memory, tokens, time",
                              "  unfurl plan recipes/quickstart.yaml\n"
                              "  unfurl plan recipes/quickstart.yaml --set model.preset=palm-125m\n"
                              "  unfurl plan recipes/base_1b_8gpu.yaml --ranks 1024\n");
  auto options = std::make_shared<PlanOptions>();
  auto flags = add_recipe(app, options->recipe, options->sets);
  app.add_flag("--json", options->json, "as one JSON object");
  Cluster& cluster = options->cluster;
  app.add_option("--ranks", options->ranks,
                 "of so many GPUs, and of fewer: memory a rank, time and communication a step")
      ->check(from_to(1, 1 << 16, "from 1 to 65536"))
      ->default_str("");
  app.add_option("--gpu", cluster.gpu, "with --ranks: which GPUs");
  const auto scaled = [&app](const char* name, double& value, double unit, const char* units, const char* help) {
    app.add_option_function<double>(
           name, [&value, unit](const double& given) { value = given * unit; }, help)
        ->check(from_to(1e-9, 1e12, "greater than 0"))
        ->type_name(units)
        ->default_str(fmt::format("{:g}", value / unit));
  };
  scaled("--peak", cluster.peak, 1e12, "TFLOPS", "with --ranks: of a GPU in bf16; 0: by its data sheet");
  scaled("--share", cluster.share, 0.01, "PERCENT", "with --ranks: of the peak that one GPU alone reaches");
  scaled("--node-bandwidth", cluster.node_bandwidth, 1e9, "GB/S", "with --ranks: that a GPU sends within its node");
  scaled("--network-bandwidth", cluster.network_bandwidth, 1e9, "GB/S",
         "with --ranks: that a GPU sends to other nodes");
  scaled("--latency", cluster.latency, 1e-6, "US", "with --ranks: of a message");
  scaled("--host-rate", cluster.host_rate, 1e6, "MTOKENS/S", "with --ranks: of which a host makes micro-batches");
  app.add_option("--gpus-per-node", cluster.ranks_per_node, "with --ranks")
      ->check(from_to(1, 1 << 16, "from 1 to 65536"));
  add_threads(app);
  app.callback([options, flags, &action] {
    action = [options, flags] {
      return answer(*flags, options->recipe, options->sets, "plan") ? 0 : run_plan(*options);
    };
  });
}

void add_train(CLI::App& parent, Action& action) {
  CLI::App& app =
      add_command(parent, "train", "Train one stage; a run that was stopped goes on",
                  "  unfurl train recipes/own_pairs.yaml\n"
                  "  unfurl train recipes/own_pairs.yaml --set optimizer.learning_rate=2e-3 --set output=runs/b\n"
                  "  unfurl train recipes/own_pairs.yaml --dump\n"
                  "  unfurl train --help-recipe\n");
  auto options = std::make_shared<TrainOptions>();
  auto flags = add_recipe(app, options->recipe, options->sets);
  app.add_flag("--fresh", options->fresh, "start over, even where the output folder holds a run");
  app.add_flag("--profile", options->profile, "write OUTPUT/trace.json, for chrome://tracing");
  app.add_option("--ranks", options->ranks, "train with so many ranks, started by mpirun on this machine")
      ->check(from_to(1, 1 << 16, "from 1 to 65536"))
      ->default_str("");
  app.add_option("--timeout", options->timeout, "seconds that the ranks of a run wait for one another")
      ->check(from_to(1, 1e6, "from 1 to 1000000"))
      ->type_name("SECONDS");
  add_threads(app);
  app.callback([options, flags, &action] {
    action = [options, flags] {
      return answer(*flags, options->recipe, options->sets, "train") ? 0 : run_train(*options);
    };
  });
}

void add_run(CLI::App& parent, Action& action) {
  CLI::App& app = add_command(parent, "run", "Run a recipe of stages; what is done and unchanged is skipped",
                              "  unfurl run recipes/quickstart.yaml\n"
                              "  unfurl run recipes/diffusiondb_small.yaml --set data.prompts=prompts.txt\n"
                              "  unfurl run recipes/quickstart.yaml --only base --set stages.base.train.steps=50\n");
  auto options = std::make_shared<RunOptions>();
  auto flags = add_recipe(app, options->recipe, options->sets);
  app.add_option("--only", options->only, "a stage to run; may be given several times")
      ->type_name("STAGE")
      ->default_str("")
      ->allow_extra_args(false)
      ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
  app.add_flag("--fresh", options->fresh, "skip nothing");
  add_threads(app);
  app.callback([options, flags, &action] {
    action = [options, flags] {
      return answer(*flags, options->recipe, options->sets, "run") ? 0 : run_pipeline(*options);
    };
  });
}

void add_expand(CLI::App& parent, Action& action) {
  CLI::App& app = add_command(
      parent, "expand", "Expand queries to prompts",
      "  unfurl expand runs/quickstart/base \"a fox in the snow\" -n 4\n"
      "  unfurl expand RUN \"undying love\" --prefix ABST --seed 7 --json\n"
      "  unfurl expand RUN                     # asks for queries\n"
      "  unfurl expand RUN --file queries.txt  # one query a line\n"
      "  unfurl expand RUN --jsonl             # {\"query\": ...} in, {\"expansions\": [...]} out\n"
      "  unfurl expand RUN -- \"-a query that starts with a dash\"\n"
      "A request of --jsonl has a query, and may have: id, n, prefix, seed, temperature, top_p, top_k,\n"
      "min_p, max_tokens, max_words, keep, ban (a list), expand (false: as it is); what it leaves out is as\n"
      "the options say.\n");
  auto options = std::make_shared<ExpandOptions>();
  add_path(app, "run", options->run, "run or checkpoint folder", "RUN")->required();
  auto* const query = app.add_option_function<std::string>(
                             "query", [options](const std::string& text) { options->query = text; }, "what to expand")
                          ->type_name("QUERY");
  auto* const file = add_path(app, "--file", options->file, "queries, one a line", "FILE")->excludes(query);
  auto* const json = app.add_flag("--json", options->json, "one JSON object a query");
  app.add_flag("--jsonl", options->jsonl, "serve requests: JSON lines in, JSON lines out")
      ->excludes(query)
      ->excludes(file)
      ->excludes(json);
  app.add_option("-n,--count", options->n, "prompts for each query")->check(from_to(1, 256, "from 1 to 256"));
  app.add_option("--diverse", options->diverse, "draw so many and give the --count that differ most; 0: off")
      ->check(from_to(0, 256, "from 0 to 256"));
  app.add_option("--image-side", options->image_side,
                 "with --diverse: the program, or http:// server, by whose embeddings of the prompts these differ")
      ->type_name("COMMAND|URL");
  app.add_option("--steps", options->steps, "expand each prompt further, so many times in all")
      ->check(from_to(1, 16, "from 1 to 16"));
  app.add_option("--prefix", options->prefix, "ABST, DTL, GRD, SPCT, FLV, HAST, RFT or MSTP");
  app.add_option("--seed", options->seed, "the same seed gives the same prompts; by default a fresh one, which is told")
      ->check(seed());
  app.add_option("--temperature", options->temperature, "0 takes the likeliest word")
      ->check(from_to(0, 100, "from 0 to 100"));
  app.add_option("--top-p", options->top_p, "smallest set of likeliest tokens with this probability; 1: off")
      ->check(from_to(1e-9, 1, "above 0, at most 1"));
  app.add_option("--top-k", options->top_k, "this many likeliest tokens; 0: off")->check(from_to(0, 1e9, "0 or more"));
  app.add_option("--min-p", options->min_p, "tokens with this share of the likeliest's probability; 0: off")
      ->check(from_to(0, 1, "from 0 to 1"));
  app.add_option("--max-tokens", options->max_tokens, "longest prompt, in tokens")
      ->check(from_to(1, 1 << 20, "from 1 to 1048576"));
  app.add_option("--max-words", options->max_words, "longest prompt, in words; 0: no limit")
      ->check(from_to(0, 1 << 20, "from 0 to 1048576"));
  app.add_option("--ban", options->bans,
                 "a phrase that is never generated, or a file of them; may be given several times")
      ->type_name("PHRASE|FILE")
      ->default_str("")
      ->allow_extra_args(false)
      ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
  add_choice(app, "--keep", options->keep, "verbatim: prompts open with the query; free: the model may rewrite it");
  add_choice(app, "--device", options->device, "auto: a GPU if there is one. host_cuda is for tests");
  add_choice(app, "--precision", options->precision, "of what is computed; auto: bf16 on a GPU, f32 on the CPU");
  add_choice(app, "--weights", options->weights,
             "on the CPU: int8, rounded to 8 bits, which draws up to three times as fast, or f32, as trained");
  app.add_flag_callback(
      "--no-expand", [options] { options->expand = false; }, "give the query back as it is");
  add_threads(app);
  app.callback([options, &action] { action = [options] { return run_expand(*options); }; });
}

void add_eval(CLI::App& parent, Action& action) {
  CLI::App& app = add_command(parent, "eval", "Judge a run: loss, perplexity and bits per byte on held-out pairs",
                              "  unfurl eval runs/quickstart/base\n"
                              "  unfurl eval runs/quickstart/base --pairs other.jsonl --json\n");
  auto options = std::make_shared<EvalOptions>();
  add_path(app, "run", options->run, "run or checkpoint folder", "RUN")->required();
  add_path(app, "--pairs", options->pairs, "pairs to judge by; by default the held-out ones of the run's own data",
           "FILE");
  add_sets(app, options->sets);
  app.add_flag("--json", options->json,
               "as one JSON object, whose key all leaves out the copy pairs (without_type): types.copy has them");
  add_threads(app);
  app.callback([options, &action] { action = [options] { return run_eval(*options); }; });
}

void add_judge(CLI::App& parent, Action& action) {
  CLI::App& app = add_command(
      parent, "judge", "Judge models and controls by the images of their prompts",
      "  unfurl judge runs/paper/base runs/paper/refined --side \"python3 scripts/image_side_diffusers.py\" --out "
      "runs/j\n"
      "  unfurl judge RUN --side \"build/cpu/atelier serve --world recipes/worlds/default.yaml\" --queries q.txt --out "
      "J\n"
      "  unfurl judge --combine runs/w1/judge runs/w2/judge --hypotheses recipes/paper.yaml --out runs/all\n"
      "  unfurl judge --sheet runs/j --pairs-of refined,base       # a page on which people vote, blind\n"
      "  unfurl judge --sheet runs/j --votes votes-ann.json votes-bob.json\n");
  auto options = std::make_shared<JudgeOptions>();
  JudgeConfig& config = options->config;
  auto* const runs = app.add_option("runs", options->runs, "run folders")->type_name("RUN...")->default_str("");
  app.add_option("--combine", options->combine, "folders of judgements of several worlds and training seeds")
      ->type_name("FOLDER...")
      ->default_str("")
      ->excludes(runs);
  add_path(app, "--out", options->out, "folder of the judgement", "FOLDER");
  auto* const sheet = add_path(app, "--sheet", options->sheet,
                               "a judgement's folder: write sheet.html there, for people's votes", "FOLDER")
                          ->excludes(runs)
                          ->excludes("--combine");
  auto* const votes = app.add_option("--votes", options->votes, "votes on the sheet, as its page saves them: read them")
                          ->type_name("FILE...")
                          ->default_str("")
                          ->check(not_empty())
                          ->needs(sheet);
  app.add_option("--pairs-of", options->pair,
                 "the sheet's two systems; by default the first model and the straight query")
      ->type_name("A,B")
      ->needs(sheet)
      ->excludes(votes);
  app.add_option("--rounds", options->rounds, "the sheet's 1x1 comparisons of a query, each of other samples")
      ->check(from_to(1, 64, "from 1 to 64"))
      ->needs(sheet)
      ->excludes(votes);
  app.add_flag("--json", options->json, "what the votes come to, as one JSON object")->needs(votes);
  app.add_option("--side", config.side.command, "the program that renders and embeds, with its arguments");
  app.add_option("--url", config.side.url, "the server that renders and embeds");
  app.add_option("--workers", config.side.workers, "processes or connections to it")
      ->check(from_to(1, 1024, "from 1 to 1024"));
  app.add_option("--batch", config.side.batch, "requests sent at once")->check(from_to(1, 4096, "from 1 to 4096"));
  app.add_option("--timeout", config.side.timeout, "seconds without an answer")->check(from_to(1e-3, 1e6, "above 0"));
  app.add_option("--queries", config.queries,
                 "test queries: lines, a .tsv, or pairs in .jsonl; by default held-out ones")
      ->type_name("FILE");
  app.add_option("--max-queries", config.max_queries, "at most so many; 0: all")->check(from_to(0, 1e9, "0 or more"));
  app.add_option("-n,--count", config.n, "prompts for each query")->check(from_to(1, 64, "from 1 to 64"));
  app.add_option("--frontier", config.frontier_points, "temperatures from 0.6 to 1.2 to draw at; 0: none")
      ->check(from_to(0, 64, "from 0 to 64"));
  app.add_option("--prefixes", config.prefixes, "prefixes to compare with none, on the last run")->default_str("");
  app.add_option("--endpoint", config.few_shot.endpoint,
                 "an OpenAI-compatible server, as a further control: http://localhost:8080/v1")
      ->type_name("URL");
  app.add_option("--model", config.few_shot.model, "the model of that server, which is shown a few training pairs")
      ->type_name("NAME");
  app.add_option("--api-key-env", config.few_shot.api_key_env, "environment variable with the server's key")
      ->type_name("NAME");
  app.add_option("--resamples", config.resamples, "of the bootstrap")->check(from_to(10, 1e6, "from 10 to 1000000"));
  add_path(app, "--hypotheses", options->hypotheses, "a recipe whose judge.hypotheses are tested", "RECIPE");
  app.add_option("--temperature", options->samples.temperature, "of the models")
      ->check(from_to(0, 100, "from 0 to 100"));
  app.add_option("--top-p", options->samples.top_p, "smallest set of likeliest tokens with this probability; 1: off")
      ->check(from_to(1e-9, 1, "above 0, at most 1"));
  app.add_option("--max-tokens", options->samples.max_tokens, "longest prompt, in tokens")
      ->check(from_to(1, 1 << 20, "from 1 to 1048576"));
  app.add_option("--seed", options->seed, "of prompts, images and intervals")->check(seed());
  add_threads(app);
  app.callback([options, &action] { action = [options] { return run_judge(*options); }; });
}

void add_inspect(CLI::App& parent, Action& action) {
  CLI::App& app = add_command(parent, "inspect", "Show what a run or checkpoint holds",
                              "  unfurl inspect runs/quickstart/base\n"
                              "  unfurl inspect runs/quickstart/base/step-000600/model.safetensors --tensors\n");
  auto options = std::make_shared<InspectOptions>();
  add_path(app, "path", options->path, "run, checkpoint or .safetensors file", "PATH")->required();
  app.add_flag("--tensors", options->tensors, "every tensor with its size and statistics");
  app.add_flag("--json", options->json, "as one JSON object");
  app.callback([options, &action] { action = [options] { return run_inspect(*options); }; });
}

void add_export(CLI::App& parent, Action& action) {
  CLI::App& app = add_command(parent, "export", "Write a run's model alone, low-rank matrices merged into it",
                              "  unfurl export runs/table7/lora_small --out models/small\n");
  auto options = std::make_shared<ExportOptions>();
  add_path(app, "run", options->run, "run or checkpoint", "RUN")->required();
  add_path(app, "--out", options->out, "folder for the checkpoint", "DIR")->required();
  app.callback([options, &action] { action = [options] { return run_export(*options); }; });
}

/// What is wrong with the arguments, in one line.
std::string explained(const CLI::App& root, const CLI::ParseError& error) {
  const CLI::App* app = &root;
  std::string path = root.get_name();
  while (!app->get_subcommands().empty()) {
    app = app->get_subcommands().front();
    path += ' ' + app->get_name();
  }
  const std::string help = fmt::format("; try `{} --help`", path);
  std::vector<std::string> commands;
  for (const CLI::App* command : app->get_subcommands([](const CLI::App*) { return true; })) {
    commands.push_back(command->get_name());
  }
  const std::vector<std::string> extras = root.remaining(true);
  if (!extras.empty()) {
    const std::string& extra = extras.front();
    if (extra.starts_with('-') && extra.size() > 1) {
      const std::string name = extra.substr(0, extra.find('='));
      std::vector<std::string> known;
      for (const CLI::Option* option : app->get_options()) {
        for (const std::string& known_name : option->get_lnames()) known.push_back("--" + known_name);
      }
      const std::string guess = did_you_mean(name, known);
      return fmt::format("{}: unknown option {}{}", path, name, guess.empty() ? help : guess);
    }
    if (!commands.empty()) {
      const std::string guess = did_you_mean(extra, commands);
      return fmt::format("{}: unknown command \"{}\"{}", path, extra, guess.empty() ? help : guess);
    }
    return fmt::format("{}: \"{}\" is one argument too many{}", path, extra, help);
  }
  if (!commands.empty()) {
    return fmt::format("{}: a command is missing: one of {}", path, fmt::join(commands, ", "));
  }
  std::string what = error.what();
  std::ranges::replace(what, '\n', ' ');
  return fmt::format("{}: {}{}", path, what, help);
}

}  // namespace

Action parse_arguments(int argc, const char* const* argv) {
  Action action;
  CLI::App root("unfurl trains prompt-expansion models from scratch and expands short queries to prompts.", "unfurl");
  root.require_subcommand(1);
  root.set_version_flag("--version", std::string("unfurl ") + program_version());
  root.footer(
      "`unfurl COMMAND --help` says more, with examples. A first run:\n"
      "  unfurl run recipes/quickstart.yaml");
  root.get_formatter()->column_width(34);

  CLI::App& corpus = add_family(root, "corpus", "Make and look at training pairs");
  add_corpus_commands(corpus, action);
  CLI::App& tokenizer = add_family(root, "tokenizer", "Make tokenizers");
  add_tokenizer_train(tokenizer, action);
  add_plan(root, action);
  add_train(root, action);
  add_run(root, action);
  add_expand(root, action);
  add_eval(root, action);
  add_judge(root, action);
  add_inspect(root, action);
  add_export(root, action);

  try {
    root.parse(argc, argv);
  } catch (const CLI::ParseError& e) {
    if (e.get_exit_code() == 0) {
      root.exit(e);
      return [] { return 0; };
    }
    user_error("{}", explained(root, e));
  }
  return action;
}

}  // namespace unfurl::train
