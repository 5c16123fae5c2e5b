// atelier: the simulated image side, a program of its own. See train/atelier/world.h.
#include <CLI/CLI.hpp>
#include <csignal>
#include <cstdio>
#include <iostream>
#include <memory>

#include "core/error.h"
#include "train/atelier/commands.h"
#include "train/log.h"

namespace unfurl::train::atelier {
namespace {

struct Arguments {
  std::filesystem::path world;
  std::vector<std::string> sets;
  ServeOptions serve;
  CorpusOptions corpus;
  DescribeOptions describe;
  CaptionsOptions captions;
  std::string embedder = "filter";
};

void add_world(CLI::App& app, Arguments& to) {
  app.add_option("--world", to.world, "the world, YAML")->type_name("FILE")->required();
  app.add_option("--set", to.sets, "lays one key over the world: --set kappa=2")
      ->type_name("KEY=VALUE")
      ->allow_extra_args(false)
      ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
}

int run(int argc, char** argv) {
  Arguments to;
  CLI::App app("A SIMULATED image side: no image is made, and nothing it says is about real images.", "atelier");
  app.require_subcommand(1);
  CLI::App& serve_app = *app.add_subcommand("serve", "Answer requests: JSON lines in, simulated embeddings out");
  add_world(serve_app, to);
  serve_app.add_option("--generator", to.serve.generator, "which of the two simulated generators")
      ->check(CLI::Range(1, kGenerators));
  serve_app.add_option("--embedder", to.embedder, "whose embeddings: filter, judge or invert")
      ->check(CLI::IsMember(names(Embedder{})));
  serve_app.add_flag("--taste", to.serve.taste, "answers have `aesthetic`, the simulated taste");
  CLI::App& corpus_app = *app.add_subcommand("corpus", "Write a simulated corpus of images, captions and flavors");
  add_world(corpus_app, to);
  corpus_app.add_option("--images", to.corpus.images, "images to keep")->capture_default_str();
  corpus_app.add_option("--out", to.corpus.out, "folder")->type_name("DIR")->required();
  CLI::App& captions_app = *app.add_subcommand("captions", "Write simulated text embeddings of the captions of images");
  add_world(captions_app, to);
  captions_app.add_option("--images", to.captions.images, "images with captions, JSONL")->type_name("FILE")->required();
  captions_app.add_option("--out", to.captions.out, "embeddings, .safetensors")->type_name("FILE")->required();
  CLI::App& describe_app = *app.add_subcommand("describe", "Print what random flavors do to straight queries");
  add_world(describe_app, to);
  describe_app.add_option("--queries", to.describe.queries, "straight queries")->check(CLI::Range(2, 1'000'000));
  describe_app.add_option("--images", to.describe.images, "images a query")->check(CLI::Range(2, 1000));
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    if (error.get_exit_code() == 0) return app.exit(error);  // help
    user_error("{}; try `atelier --help`", error.what());
  }
  Model model(load_world(to.world, to.sets));
  if (corpus_app.parsed()) {
    run_corpus(model, to.corpus);
  } else if (captions_app.parsed()) {
    run_captions(model, to.captions);
  } else if (describe_app.parsed()) {
    run_describe(model, to.describe);
  } else {
    const std::vector<std::string> embedders = names(Embedder{});
    to.serve.embedder =
        static_cast<Embedder>(std::find(embedders.begin(), embedders.end(), to.embedder) - embedders.begin());
    std::ios::sync_with_stdio(false);
    serve(model, to.serve, std::cin, std::cout);
  }
  return 0;
}

}  // namespace
}  // namespace unfurl::train::atelier

int main(int argc, char** argv) {
  std::signal(SIGPIPE, SIG_IGN);
  try {
    return unfurl::train::atelier::run(argc, argv);
  } catch (const unfurl::UserError& error) {
    unfurl::train::report_error("{}", error.what());
    return 2;
  } catch (const std::exception& error) {
    unfurl::train::report_error("{}", error.what());
    return 1;
  }
}
