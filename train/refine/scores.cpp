#include "train/refine/scores.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "core/error.h"
#include "core/files.h"
#include "train/corpus/fields.h"
#include "train/log.h"
#include "train/refine/line_log.h"
#include "train/refine/terms.h"
#include "train/report/work_progress.h"

namespace unfurl::train {
namespace {

/// Aesthetics are looked at only where a term asks for them.
bool is_wanted(const ScoreTerm& term, const RefineRecipe& config, bool images) {
  const bool asked = std::ranges::find(config.score, term.name, &ScoreTermRecipe::term) != config.score.end();
  return asked || (term.name != "aesthetic" && (images || !term.of_image));
}

void read_line(const std::string& text, ScoredPrompt& prompt) {
  const Json line = parse_object_line(text);
  if (required_text(line, "key") != prompt.key()) fail("is of another prompt");
  prompt.refused = line.find("refused") != nullptr;
  if (prompt.refused) return;
  for (const auto& [name, value] : line.at("terms").as_object()) prompt.terms[name] = value.as_number();
}

}  // namespace

std::vector<ScoredPrompt> prompts_of(std::span<const ExpandedQuery> queries, bool only_ended) {
  std::vector<ScoredPrompt> out;
  for (const ExpandedQuery& query : queries) {
    for (const ExpandedPrompt& prompt : query.prompts) {
      if (prompt.ended || !only_ended) out.push_back({&query, prompt.text, prompt.sample, {}});
    }
  }
  return out;
}

bool needs_images(const RefineRecipe& config) {
  return std::any_of(config.score.begin(), config.score.end(),
                     [](const ScoreTermRecipe& term) { return find_score_term(term.term, "refine.score").of_image; });
}

void score_prompts(std::vector<ScoredPrompt>& prompts, const RefineRecipe& config, ImageSide* side, std::uint64_t seed,
                   const std::filesystem::path& file) {
  LineLog log(file);
  const std::size_t before = log.lines().size();
  require(before <= prompts.size(), "{} has {} lines for {} prompts; remove it, and it is made again", file.string(),
          before, prompts.size());
  for (std::size_t i = 0; i < before; ++i) {
    try {
      read_line(log.lines()[i], prompts[i]);
    } catch (const Error& error) {
      fail("{}:{}: {}; remove the file, and it is made again", file.string(), i + 1, error.what());
    }
  }
  if (before > 0 && before < prompts.size()) info("goes on behind {} of {} prompts", before, prompts.size());
  WorkProgress progress("prompts scored", static_cast<std::int64_t>(before), static_cast<std::int64_t>(prompts.size()));
  const std::size_t block =
      side == nullptr
          ? 4096
          : std::max<std::size_t>(64, 4 * static_cast<std::size_t>(config.side.batch * config.side.workers));
  for (std::size_t begin = before; begin < prompts.size(); begin += block) {
    const std::size_t end = std::min(begin + block, prompts.size());
    std::vector<ImageAnswer> answers(end - begin);
    if (side != nullptr) {
      std::vector<ImageRequest> requests;
      for (std::size_t i = begin; i < end; ++i) {
        const std::string key = prompts[i].key();
        requests.push_back(
            {key, prompts[i].query->query, prompts[i].prompt, hash_bytes(fmt::format("{} {}", seed, key)) >> 1});
      }
      answers = side->render(requests, [&](const RenderProgress& rendered) {
        progress.update(static_cast<std::int64_t>(begin + rendered.done));
      });
    }
    std::string lines;
    for (std::size_t i = begin; i < end; ++i) {
      ScoredPrompt& prompt = prompts[i];
      const ImageAnswer& answer = answers[i - begin];
      if (prompt.refused = !answer.refused.empty(); prompt.refused) {
        Json line = Json(Json::Object{{"key", prompt.key()},
                                      {"query", prompt.query->query},
                                      {"prompt", prompt.prompt},
                                      {"refused", answer.refused}});
        if (side->hello().simulated) line["simulated"] = true;
        lines += line.dump() + '\n';
        continue;
      }
      if (side != nullptr) check_embeddings(answer);
      Json terms = Json::object();
      for (const ScoreTerm& term : score_terms()) {
        if (!is_wanted(term, config, side != nullptr)) continue;
        const double value = term.value(prompt.query->query, prompt.prompt, answer);
        const std::string name(term.name);
        require(std::isfinite(value), "the term {} of \"{}\" is not finite", name, prompt.key());
        terms[name] = prompt.terms[name] = value;
      }
      Json line = Json(Json::Object{{"key", prompt.key()},
                                    {"query", prompt.query->query},
                                    {"prompt", prompt.prompt},
                                    {"terms", std::move(terms)}});
      if (side != nullptr) {
        line["image_side"] = side->hello().name;
        if (side->hello().simulated) line["simulated"] = true;
      }
      lines += line.dump() + '\n';
    }
    log.append(lines);
    progress.update(static_cast<std::int64_t>(end));
  }
  log.sync();
  const std::size_t refused = std::erase_if(prompts, [](const ScoredPrompt& prompt) { return prompt.refused; });
  if (refused > 0) info("{} prompts are left out: the image side made no image of them", refused);
}

double score_of(const ScoredPrompt& prompt, const std::vector<ScoreTermRecipe>& terms) {
  double sum = 0;
  for (const ScoreTermRecipe& term : terms) {
    const auto found = prompt.terms.find(term.term);
    require(found != prompt.terms.end(), "prompt {} has no term {}", prompt.key(), term.term);
    sum += term.weight * found->second;
  }
  return sum;
}

}  // namespace unfurl::train
