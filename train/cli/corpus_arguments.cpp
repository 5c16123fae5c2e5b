#include "train/cli/cli11.h"
#include "train/commands.h"
#include "train/corpus/commands.h"

namespace unfurl::train {
namespace {

void add_corpus_synth(CLI::App& parent, Action& action) {
  CLI::App& app = add_command(parent, "synth", "Write pairs from a grammar of our own",
                              "  unfurl corpus synth --pairs 20000 --seed 1 --out data/synth\n");
  auto options = std::make_shared<SynthOptions>();
  add_path(app, "--out", options->out, "folder for pairs.jsonl and heldout.jsonl", "DIR")->required();
  app.add_option("--pairs", options->pairs, "pairs to write")->check(from_to(1, 1e8, "from 1 to 100000000"));
  app.add_option("--seed", options->seed, "another seed gives other pairs")->check(seed());
  app.add_option("--copy-share", options->copy_share, "share of pairs with random words, that teach to copy")
      ->check(from_to(0, 0.9, "from 0 to 0.9"));
  app.add_option("--heldout-share", options->heldout_share, "share of the content words kept out of pairs.jsonl")
      ->check(from_to(0, 0.5, "from 0 to 0.5"));
  app.add_option("--heldout-pairs", options->heldout_pairs, "pairs in heldout.jsonl; 0: a tenth of --pairs")
      ->check(from_to(0, 1e8, "from 0 to 100000000"));
  app.callback([options, &action] {
    action = [options] {
      run_corpus_synth(*options);
      return 0;
    };
  });
}

void add_corpus_pairs(CLI::App& parent, Action& action) {
  CLI::App& app = add_command(parent, "pairs", "Make pairs from a plain list of prompts",
                              "  unfurl corpus pairs --prompts prompts.txt --out data/pairs.jsonl --normalize\n");
  auto options = std::make_shared<PairsOptions>();
  add_path(app, "--prompts", options->prompts, "prompts, one a line", "FILE")->required();
  add_path(app, "--out", options->out, "pairs, JSONL", "FILE")->required();
  app.add_flag("--normalize", options->normalize, "repair spacing: \"8 k\", \"sci - fi\"");
  app.add_option("--copy-share", options->copy_share, "share of pairs with random words, that teach to copy")
      ->check(from_to(0, 0.9, "from 0 to 0.9"));
  app.add_option("--variants", options->variants, "queries for each prompt, at most")
      ->check(from_to(1, 16, "from 1 to 16"));
  app.add_option("--seed", options->seed, "another seed draws other queries")->check(seed());
  add_bad_line_share(app, options->bad_line_share, "UTF-8 text");
  app.callback([options, &action] {
    action = [options] {
      run_corpus_pairs(*options);
      return 0;
    };
  });
}

void add_corpus_show(CLI::App& parent, Action& action) {
  CLI::App& app =
      add_command(parent, "show", "Show pairs as a model sees them: pieces, parts, what is predicted",
                  "  unfurl corpus show data/pairs.jsonl --tokenizer runs/quickstart/tokenizer/tokenizer.model\n"
                  "  unfurl corpus show data/pairs.jsonl --tokenizer t.model --first 100 -n 1\n");
  auto options = std::make_shared<CorpusShowOptions>();
  add_path(app, "file", options->file, "pairs, JSONL", "FILE")->required();
  add_path(app, "--tokenizer", options->tokenizer, "tokenizer model", "FILE")->required();
  app.add_option("--first", options->first, "number of the first pair, from 0")->check(from_to(0, 1e15, "0 or more"));
  app.add_option("-n,--count", options->count, "how many pairs")->check(from_to(1, 1e15, "1 or more"));
  app.add_option("--context", options->context, "longest sequence, in tokens; longer pairs are cut")
      ->check(from_to(4, 1 << 20, "from 4 to 1048576"));
  app.callback([options, &action] { action = [options] { return run_corpus_show(*options); }; });
}

void add_corpus_aesthetic(CLI::App& parent, Action& action) {
  CLI::App& app = add_command(
      parent, "aesthetic", "Keep images by aesthetic score, or by users' votes",
      "  unfurl corpus aesthetic --images images.jsonl --embeddings clip.npy --head improved_mlp.safetensors\n"
      "      --quantile 0.8 --out data/natural\n"
      "  unfurl corpus aesthetic --images made.jsonl --embeddings made.npy --likes votes.jsonl --out data/generated\n"
      "Of each line {\"id\", \"caption\"?, \"source\"?: natural|generated, ...} of --images the embedding is the row "
      "of\n"
      "the same number. --likes takes lines {\"id\", \"likes\", \"dislikes\"} or {\"id\", \"liked\": true}. With "
      "both,\n"
      "natural images are kept by score and generated ones by votes.\n");
  auto options = std::make_shared<AestheticOptions>();
  add_path(app, "--images", options->images, "images, JSONL", "FILE")->required();
  add_path(app, "--embeddings", options->embeddings, "their CLIP embeddings, .safetensors or .npy", "FILE");
  add_path(app, "--head", options->head, "the aesthetic head, .safetensors: linear, or an MLP", "FILE");
  auto* const threshold =
      app.add_option_function<double>(
             "--threshold", [options](const double& value) { options->threshold = value; }, "the least score kept")
          ->default_str("");
  app.add_option_function<double>(
         "--quantile", [options](const double& value) { options->quantile = value; },
         "the share of the scores that is not kept: 0.8 keeps the best fifth")
      ->check(from_to(0, 1, "at least 0 and below 1"))
      ->default_str("")
      ->excludes(threshold);
  add_path(app, "--likes", options->likes, "users' votes, JSONL", "FILE");
  app.add_option("--min-likes", options->min_likes, "likes without dislikes, at least");
  add_word(app, "--source", options->source, {"natural", "generated"},
           "of images that do not say theirs; by default natural by score, generated by votes");
  add_path(app, "--out", options->out, "folder for images.jsonl, embeddings.safetensors, dropped.jsonl", "DIR")
      ->required();
  add_bad_line_share(app, options->bad_line_share, "image, or no vote");
  add_threads(app);
  app.callback([options, &action] {
    action = [options] {
      run_corpus_aesthetic(*options);
      return 0;
    };
  });
}

void add_corpus_mine_flavors(CLI::App& parent, Action& action) {
  CLI::App& app = add_command(
      parent, "mine-flavors", "Find flavors in a list of prompts",
      "  unfurl corpus mine-flavors --prompts prompts.txt --out data/flavors.txt\n"
      "  unfurl corpus mine-flavors --prompts prompts.txt --out mined.txt --reference flavors.txt artists.txt\n");
  auto options = std::make_shared<MineFlavorsOptions>();
  add_path(app, "--prompts", options->prompts, "prompts, one a line", "FILE")->required();
  add_path(app, "--out", options->out, "flavors, one a line, most used first", "FILE")->required();
  add_path(app, "--counts", options->counts, "lines of prompts, tab, flavor", "FILE");
  app.add_option("--reference", options->reference, "lists of flavors to compare with; they are not mined from")
      ->type_name("FILE...")
      ->default_str("")
      ->check(not_empty());
  app.add_option("--min-count", options->rules.min_count, "prompts that must use a flavor")
      ->check(from_to(1, 1e9, "1 or more"));
  app.add_option("--max-words", options->rules.max_words, "words of a flavor, at most")
      ->check(from_to(1, 100, "from 1 to 100"));
  app.add_flag_callback(
      "--no-compose", [options] { options->rules.compose = false; },
      "drop the rarer ones, even where they have up to 3 words that are all of flavors with --min-count prompts");
  add_bad_line_share(app, options->bad_line_share, "UTF-8 text");
  app.callback([options, &action] {
    action = [options] {
      run_corpus_mine_flavors(*options);
      return 0;
    };
  });
}

void add_corpus_invert(CLI::App& parent, Action& action) {
  CLI::App& app = add_command(
      parent, "invert", "Write prompts for images: caption and flavors, nearest by CLIP",
      "  unfurl corpus invert --images data/natural/images.jsonl --embeddings data/natural/embeddings.safetensors\n"
      "      --caption-embeddings captions.npy --flavors lists --out data/prompts.jsonl\n"
      "--flavors is a folder: NAME.txt, one flavor a line, and NAME.npy or NAME.safetensors, the embeddings of its\n"
      "lines, for NAME flavors and, for the classic form, mediums, artists, trendings and movements. The same command\n"
      "goes on where a run was stopped.\n");
  auto options = std::make_shared<InvertOptions>();
  add_path(app, "--images", options->images, "images with captions, JSONL", "FILE")->required();
  add_path(app, "--embeddings", options->embeddings, "their CLIP embeddings, .safetensors or .npy", "FILE")->required();
  add_path(app, "--caption-embeddings", options->caption_embeddings, "CLIP's text embeddings of the captions", "FILE")
      ->required();
  add_path(app, "--flavors", options->flavors, "folder of flavor lists", "DIR")->required();
  add_path(app, "--out", options->out, "images with prompts, JSONL", "FILE")->required();
  add_word(app, "--form", options->form, {"best", "fast", "classic", "chain"}, "which prompt is written");
  app.add_option("--keep", options->rules.keep, "nearest flavors that the chain chooses from")
      ->check(from_to(1, 1e6, "from 1 to 1000000"));
  app.add_option("--max-tokens", options->rules.max_tokens, "longest prompt, in tokens of CLIP, estimated")
      ->check(from_to(8, 1e6, "from 8 to 1000000"));
  add_bad_line_share(app, options->bad_line_share, "image");
  add_threads(app);
  app.callback([options, &action] {
    action = [options] {
      run_corpus_invert(*options);
      return 0;
    };
  });
}

void add_corpus_extract_queries(CLI::App& parent, Action& action) {
  CLI::App& app = add_command(parent, "extract-queries",
                              "Write queries of every type for prompts: by rules, or by a language model",
                              "  unfurl corpus extract-queries --prompts data/prompts.jsonl --out data/pairs.jsonl\n"
                              "  unfurl corpus extract-queries --prompts data/prompts.jsonl --out data/pairs.jsonl\n"
                              "      --endpoint http://localhost:11434/v1 --model llama3.1 --requests-per-minute 60\n"
                              "With --endpoint (llama.cpp's server, vLLM, Ollama, any OpenAI-compatible one) a model "
                              "is shown exemplars and asked\n"
                              "for one query after the other, each shorter than the last. Answers are kept in "
                              "OUT.cache: the same command goes\n"
                              "on where a run was stopped.\n");
  auto options = std::make_shared<ExtractQueriesOptions>();
  add_path(app, "--prompts", options->prompts, "*.jsonl: objects with a prompt; other files: prompts, one a line",
           "FILE")
      ->required();
  add_path(app, "--out", options->out, "pairs, JSONL", "FILE")->required();
  app.add_option("--types", options->rules.types,
                 "some of long, medium, concrete, short, abstract, grounded, specificity; by default all")
      ->type_name("TYPE,...")
      ->default_str("")
      ->delimiter(',');
  app.add_option("--endpoint", options->chat.endpoint, "the model's server: http://host:port/v1")
      ->type_name("URL")
      ->check(not_empty());
  app.add_option("--model", options->chat.model, "the model's name there")->type_name("NAME")->check(not_empty());
  app.add_option("--api-key-env", options->chat.api_key_env, "the environment variable that holds the key, if any")
      ->type_name("VAR");
  add_path(app, "--exemplars", options->exemplars, "examples that the model is shown, JSONL", "FILE");
  add_path(app, "--cache", options->chat.cache, "folder of the answers; by default OUT.cache", "DIR");
  app.add_option("--requests-per-minute", options->chat.requests_per_minute, "at most; 0: no limit")
      ->check(from_to(0, 1e6, "from 0 to 1000000"));
  app.add_option("--parallel", options->parallel, "prompts asked about at once")
      ->check(from_to(1, 256, "from 1 to 256"));
  app.add_option("--timeout", options->chat.timeout_seconds, "seconds without an answer")
      ->check(from_to(0.01, 1e5, "from 0.01 to 100000"));
  app.add_option("--retries", options->chat.retries, "of a request that failed on its way")
      ->check(from_to(0, 100, "from 0 to 100"));
  app.add_option("--attempts", options->rules.attempts, "at a query, where answers are of no use")
      ->check(from_to(1, 100, "from 1 to 100"));
  app.add_option("--temperature", options->rules.temperature, "of the model")->check(from_to(0, 2, "from 0 to 2"));
  app.add_option("--seed", options->rules.seed, "another seed gives other queries")->check(seed());
  add_bad_line_share(app, options->bad_line_share, "prompt");
  app.callback([options, &action] {
    action = [options] {
      run_corpus_extract_queries(*options);
      return 0;
    };
  });
}

void add_corpus_assign_prefixes(CLI::App& parent, Action& action) {
  CLI::App& app = add_command(
      parent, "assign-prefixes", "Label pairs with the prefixes of the controlled models",
      "  unfurl corpus assign-prefixes data/pairs.jsonl --out data/labelled.jsonl\n"
      "  unfurl corpus assign-prefixes data/pairs.jsonl --out data/labelled.jsonl --hast-quantile 0.9 --contrast 0.2\n"
      "RFT and MSTP stay; HAST where the pair's score is high; FLV where the query has all of the prompt's content;\n"
      "ABST, GRD and SPCT by the query's type, DTL for the other types; none for copy pairs.\n");
  auto options = std::make_shared<AssignPrefixesOptions>();
  add_path(app, "pairs", options->pairs, "pairs, JSONL", "PAIRS")->required();
  add_path(app, "--out", options->out, "the same pairs with their labels, JSONL", "FILE")->required();
  app.add_option("--score", options->score, "the field of a pair that HAST is given by")->check(not_empty());
  auto* const threshold =
      app.add_option_function<double>(
             "--hast-threshold", [options](double value) { options->threshold = value; }, "HAST from this score on")
          ->type_name("SCORE");
  app.add_option_function<double>(
         "--hast-quantile", [options](double value) { options->quantile = value; },
         "HAST above this share of the scores")
      ->type_name("SHARE")
      ->excludes(threshold);
  app.add_option("--contrast", options->contrast,
                 "add to this share of the pairs one like it with another prefix and what that asks for: so the prefix "
                 "decides, not the form of the query")
      ->type_name("SHARE");
  app.add_option("--seed", options->seed, "of --contrast");
  add_bad_line_share(app, options->bad_line_share, "pair");
  app.callback([options, &action] {
    action = [options] {
      run_corpus_assign_prefixes(*options);
      return 0;
    };
  });
}

}  // namespace

void add_corpus_commands(CLI::App& corpus, Action& action) {
  add_corpus_synth(corpus, action);
  add_corpus_pairs(corpus, action);
  add_corpus_aesthetic(corpus, action);
  add_corpus_mine_flavors(corpus, action);
  add_corpus_invert(corpus, action);
  add_corpus_extract_queries(corpus, action);
  add_corpus_assign_prefixes(corpus, action);
  add_corpus_show(corpus, action);
}

}  // namespace unfurl::train
