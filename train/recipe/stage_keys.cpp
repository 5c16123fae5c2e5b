#include "train/recipe/stage_keys.h"

namespace unfurl::train {
void describe(Schema& schema, ImageSideRecipe& config) {
  schema.field("command", config.command, "the program that renders and embeds, with its arguments; or url");
  schema.field("url", config.url, "the server that renders and embeds: http://host:port/path");
  schema.field("workers", config.workers, "processes or connections at once", between(1, 256));
  schema.field("batch", config.batch, "requests sent at once", between(1, 4096));
  schema.field("timeout", config.timeout, "seconds without an answer", positive());
  schema.field("retries", config.retries, "of a request that fails", between(0, 100));
  schema.path("cache", config.cache,
              "folder of the answers, so that nothing is rendered twice; by default the stage's");
}

void describe(Schema& schema, HypothesisConfig& config) {
  schema.field("name", config.name, "what it says");
  schema.field("better", config.better,
               "the system that it says is better: a run's name, \"NAME +PREFIX\", straight, random_flavors, nearest, "
               "few_shot or best_of");
  schema.field("worse", config.worse, "than this one; empty: the value by itself is at least the smallest");
  schema.field("metric", config.metric,
               "alignment, aesthetic, diversity, content_unchanged, content_added, or another that queries.jsonl has");
  schema.field("smallest", config.smallest,
               "the smallest difference that matters, or value where there is no worse, in units of the metric",
               at_least(0));
}

void describe(Schema& schema, FewShotRecipe& config) {
  schema.field("endpoint", config.endpoint, "of an OpenAI-compatible server: http://localhost:8080/v1; empty: none");
  schema.field("model", config.model, "the name that the server knows it by");
  schema.field("api_key_env", config.api_key_env, "environment variable with the key; empty: none");
}

void describe(Schema& schema, BestOfRecipe& config) {
  schema.group("side", config.side, "what it scores by, as in re-fine-tuning; without a command or url: none");
  schema.field("of", config.of, "prompts drawn for each that is given", between(2, 64));
  schema.list("score", config.score, "as in refine");
}

void describe(Schema& schema, ScoreTermRecipe& config) {
  schema.field("term", config.term, "sim_query_image, sim_prompt_image, sim_query_prompt, aesthetic or length");
  schema.field("weight", config.weight, "of the term in the sum", between(-1e6, 1e6));
}

void describe(Schema& schema, JudgeConfig& config) {
  schema.group("side", config.side, "what turns prompts into images and embeddings");
  schema.group("best_of", config.best_of,
               "a further control: the best of several prompts of the first run by the score of their images");
  schema.group("few_shot", config.few_shot, "a language model as a further control, shown a few training pairs");
  schema.path("queries", config.queries,
              "test queries: a text file of one a line, a .tsv whose first column they are, or pairs in .jsonl, less "
              "those that a run was trained with; by default those held out of the runs' data");
  schema.field("max_queries", config.max_queries, "at most so many, evenly over their types; 0: all", at_least(0));
  schema.field("n", config.n, "expansions of each query", between(1, 64));
  schema.field("frontier_points", config.frontier_points, "temperatures of the frontier; 0: none", between(0, 64));
  schema.field("frontier_from", config.frontier_from, "the lowest of them", positive());
  schema.field("frontier_to", config.frontier_to, "the highest of them", positive());
  schema.field("frontier_queries", config.frontier_queries, "queries of the frontier", at_least(1));
  schema.field("prefixes", config.prefixes, "prefixes that are compared with none, on the last run");
  schema.field("resamples", config.resamples, "of the bootstrap", between(10, 1e6));
  schema.field("confidence", config.confidence, "of the intervals", between(0.5, 0.9999));
  schema.list("hypotheses", config.hypotheses, "what is expected, written down before");
}

void describe(Schema& schema, RefineRecipe& config) {
  schema.group("side", config.side, "what turns prompts into images and embeddings");
  schema.path("like", config.like,
              "another stage of this kind: its expansions and scores are taken over where they would be the same");
  schema.field("pairs", config.pairs, "whose prompts: the model's own, or, as a control, those of the corpus");
  schema.field("max_queries", config.max_queries, "at most so many queries, drawn by seed; 0: all", at_least(0));
  schema.field("only_ended", config.only_ended, "leave out expansions that the model did not end itself");
  schema.list("score", config.score,
              "the target behaviour, a weighted sum of terms; by default 0.6 "
              "sim_query_image + 0.4 sim_prompt_image");
  schema.field("select", config.select, "how pairs are kept: by score, as many at random (a control), or all");
  schema.field("threshold", config.threshold, "quantile: the share keep of the pairs; fixed: scores from at_least on");
  schema.field("per", config.per, "the quantile is of all pairs, of each type of query, or of each query");
  schema.field("keep", config.keep, "share that is kept (quantile)", Limits{0, 1, true});
  schema.field("at_least", config.at_least, "the least score that is kept (fixed)");
}

void describe(Schema& schema, MultiStepRecipe& config) {
  schema.field("steps", config.steps, "expansions in a row; each pair goes from one to the next", between(2, 16));
  schema.field("queries", config.queries, "the side whose queries are expanded; never the test side");
  schema.field("max_queries", config.max_queries, "at most so many queries, drawn by seed; 0: all", at_least(0));
  schema.field("only_ended", config.only_ended, "leave out expansions that the model did not end itself");
}

}  // namespace unfurl::train
