#include <fmt/format.h>

#include <algorithm>
#include <atomic>
#include <cstdio>
#include <exception>
#include <map>
#include <mutex>
#include <thread>

#include "core/error.h"
#include "core/files.h"
#include "core/lines.h"
#include "core/names.h"
#include "train/corpus/bad_lines.h"
#include "train/corpus/commands.h"
#include "train/corpus/extract_queries.h"
#include "train/corpus/fields.h"
#include "train/corpus/prompt_pairs.h"
#include "train/corpus/summary.h"
#include "train/corpus/text.h"
#include "train/report/work_progress.h"

namespace unfurl::train {
namespace {

constexpr std::uint32_t kPurpose = 0xC0C1;
constexpr std::size_t kMostVariants = 16;

struct Input {
  std::string prompt, id, source, caption;
  std::vector<std::string> flavors;  // where the file says them
  bool simulated = false;
};

Input parse_input(std::string_view line, bool json) {
  if (!json) {
    if (const std::string_view fault = fault_of_text(line); !fault.empty()) fail("{}", fault);
    return {.prompt = std::string(line), .id = {}, .source = {}, .caption = {}, .flavors = {}};
  }
  const Json object = parse_object_line(line);
  Input input{.prompt = required_text(object, "prompt"),
              .id = optional_id(object),
              .source = optional_text(object, "source"),
              .caption = optional_text(object, "caption"),
              .flavors = {},
              .simulated = is_simulated(object)};
  if (!input.source.empty() && !is_source(input.source)) input.source.clear();
  if (const Json* flavors = object.find("flavors"); flavors != nullptr && flavors->is_array()) {
    for (const Json& flavor : flavors->as_array()) input.flavors.push_back(flavor.as_string());
  }
  return input;
}

struct Inputs {
  std::vector<Input> inputs;
  std::size_t lines = 0, empty = 0, bad = 0;
};

Inputs read_inputs(const ExtractQueriesOptions& options) {
  const MappedFile file(options.prompts);
  const std::string_view text = file.text();
  if (text.empty()) user_error("{} is empty: it must hold one prompt a line", options.prompts.string());
  const bool json = options.prompts.extension() == ".jsonl";
  Inputs made;
  BadLines bad(options.prompts, "prompt", count_lines(text), {.max_bad_share = options.bad_line_share});
  for (const auto& [number, whole] : Lines(text)) {
    const std::string_view line = trim(whole);
    made.lines = number;
    if (line.empty() && !json) {
      ++made.empty;
      continue;
    }
    try {
      made.inputs.push_back(parse_input(line, json));
    } catch (const Error& error) {
      bad.note(made.lines, error.what());
    }
  }
  if (bad.too_many()) bad.refuse();
  bad.warn();
  made.bad = bad.count();
  if (made.inputs.empty()) user_error("{}: none of its {} lines is a prompt", options.prompts.string(), made.lines);
  return made;
}

/// A prompt's parts: what the file says of them, else by the words. The views are into the input.
Parts parts_of(const Input& input, const PromptStatistics& statistics) {
  Parts parts = split_prompt(input.prompt, statistics);
  const std::vector<std::string_view> caption = split_segments(input.caption);
  // Only where it is there as a whole: behind it the prompt goes on with flavors, or ends.
  const bool opens = input.prompt.starts_with(input.caption) &&
                     (input.prompt.size() == input.caption.size() || input.prompt[input.caption.size()] == ',');
  if (caption.empty() || !opens) return parts;
  parts.content = caption;
  parts.subject = caption.front();
  parts.flavors.assign(input.flavors.begin(), input.flavors.end());
  parts.only_flavors = true;
  return parts;
}

/// What the pairs of one prompt share.
Pair shared_part(const Input& input, const Parts& parts) {
  Pair pair;
  const std::string content = join(parts.content, ", ");
  pair.prompt = input.prompt;
  pair.id = input.id.empty() ? content_id(content) : input.id;
  pair.content = content_words(content);
  pair.flavors.assign(parts.flavors.begin(), parts.flavors.end());
  pair.source = input.source;
  pair.simulated = input.simulated;
  return pair;
}

using Pairs = std::vector<std::vector<Pair>>;  // [prompt][query]
using Dropped = std::map<std::string, std::size_t>;

void by_rules(const ExtractQueriesOptions& options, const Inputs& inputs, const PromptStatistics& statistics,
              Pairs& pairs, Dropped& dropped) {
  WorkProgress progress("prompts", 0, static_cast<std::int64_t>(inputs.inputs.size()));
  for (std::size_t i = 0; i < inputs.inputs.size(); ++i) {
    Draw draw(options.rules.seed, kPurpose, i);
    const Parts parts = parts_of(inputs.inputs[i], statistics);
    if (parts.content.empty()) continue;  // only commas
    const Pair shared = shared_part(inputs.inputs[i], parts);
    PromptPairs made = pairs_of_parts(inputs.inputs[i].prompt, parts, statistics, kMostVariants, draw);
    if (made.whole_prompt > 0) dropped["the whole prompt"] += made.whole_prompt;
    for (Pair& from : made.pairs) {
      if (std::ranges::find(options.rules.types, from.type) == options.rules.types.end()) continue;
      Pair pair = shared;
      pair.query = std::move(from.query);
      pair.type = std::move(from.type);
      pair.prefix = std::move(from.prefix);
      pairs[i].push_back(std::move(pair));
    }
    progress.update(static_cast<std::int64_t>(i + 1));
  }
}

void by_model(const ExtractQueriesOptions& options, const Inputs& inputs, const PromptStatistics& statistics,
              Pairs& pairs, Dropped& dropped, std::string& report) {
  ChatConfig config = options.chat;
  if (config.cache.empty()) config.cache = options.out.string() + ".cache";
  ChatClient client(config);
  const std::vector<Exemplar> exemplars = read_exemplars(options.exemplars, options.rules.types);
  const auto total = static_cast<std::int64_t>(inputs.inputs.size());
  WorkProgress progress("prompts", 0, total);
  std::atomic<std::size_t> next = 0;
  std::mutex mutex;  // of what follows
  std::exception_ptr failure;
  std::size_t retried = 0;
  std::int64_t done = 0;
  const auto work = [&] {
    for (std::size_t i = next++; i < inputs.inputs.size(); i = next++) {
      try {
        const Extraction made = extract_queries(client, exemplars, options.rules, inputs.inputs[i].prompt);
        const Pair shared = shared_part(inputs.inputs[i], parts_of(inputs.inputs[i], statistics));
        for (const ExtractedQuery& query : made.queries) {
          Pair pair = shared;
          pair.query = query.text;
          pair.type = query.type->name;
          pair.prefix = query.type->prefix;
          pairs[i].push_back(std::move(pair));
        }
        const ChatCounts counts = client.counts();
        const std::lock_guard lock(mutex);
        for (const auto& [why, count] : made.dropped) dropped[why] += count;
        retried += made.retried;
        progress.update(++done, fmt::format("{} asked, {} from the cache", counts.asked, counts.cached));
      } catch (...) {
        const std::lock_guard lock(mutex);
        if (!failure) failure = std::current_exception();
        next = inputs.inputs.size();
        return;
      }
    }
  };
  std::vector<std::thread> threads;
  for (int t = 1; t < options.parallel; ++t) threads.emplace_back(work);
  work();
  for (std::thread& thread : threads) thread.join();
  if (failure) std::rethrow_exception(failure);
  const ChatCounts counts = client.counts();
  report = fmt::format("  answers   {} asked for, {} from {}; {} sent again, {} of no use and asked for again\n",
                       counts.asked, counts.cached, config.cache.string(), counts.retried, retried);
}

}  // namespace

void run_corpus_extract_queries(const ExtractQueriesOptions& given) {
  ExtractQueriesOptions options = given;
  if (options.rules.types.empty()) {
    for (const QueryType& type : kQueryTypes) options.rules.types.emplace_back(type.name);
  }
  std::vector<std::string> known;
  for (const QueryType& type : kQueryTypes) known.emplace_back(type.name);
  for (const std::string& type : options.rules.types) {
    if (find_query_type(type) == nullptr) {
      user_error("--types: there is no type \"{}\"{}; there are {}", type, did_you_mean(type, known),
                 fmt::join(known, ", "));
    }
  }
  if (options.rules.attempts < 1) user_error("--attempts must be 1 or more, got {}", options.rules.attempts);
  if (options.parallel < 1) user_error("--parallel must be 1 or more, got {}", options.parallel);
  require_other_file(options.out, options.prompts);
  if (const auto folder = options.out.parent_path(); !folder.empty()) make_folder(folder);
  const Inputs inputs = read_inputs(options);
  PromptStatistics statistics;
  for (const Input& input : inputs.inputs) statistics.add(input.prompt);

  PairWriter out(options.out);
  Pairs pairs(inputs.inputs.size());
  Dropped dropped;
  std::string report;
  if (options.chat.endpoint.empty()) {
    by_rules(options, inputs, statistics, pairs, dropped);
  } else {
    by_model(options, inputs, statistics, pairs, dropped, report);
  }
  PairCounts counts;
  std::size_t without = 0;
  for (const std::vector<Pair>& made : pairs) {
    without += made.empty();
    for (const Pair& pair : made) {
      out.write(pair);
      counts.add(pair);
    }
  }
  const auto reasons = [&] {
    std::string text;
    for (const auto& [why, count] : dropped) text += fmt::format("{}{}: {}", text.empty() ? "" : ", ", why, count);
    return text;
  };
  if (counts.total() == 0) {
    user_error("{}: no query can be used ({})", options.prompts.string(), dropped.empty() ? "none made" : reasons());
  }
  out.commit();

  const std::size_t used = inputs.inputs.size() - without;
  fmt::print("{} {} from {} {} -> {}\n{}{}", counts.total(), plural(static_cast<std::int64_t>(counts.total()), "pair"),
             used, plural(static_cast<std::int64_t>(used), "prompt"), options.out.string(), counts.text(), report);
  for (const auto& [why, count] : dropped) fmt::print("  dropped   {}: {}\n", count, why);
  if (without > 0) fmt::print("  dropped   {}: prompts without any query\n", without);
  fmt::print("  lines     {}: {} empty, {} bad\n", inputs.lines, inputs.empty, inputs.bad);
  std::fflush(stdout);
}

}  // namespace unfurl::train
