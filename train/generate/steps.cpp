#include "train/generate/steps.h"

#include <fmt/format.h>

#include "core/files.h"
#include "core/names.h"

namespace unfurl::train {

std::uint64_t step_seed(std::uint64_t seed, Index step, Index sample) {
  return hash_bytes(fmt::format("{} {} {}", seed, step, sample));
}

bool is_unexpanded(const Expansions& expansions) {
  return expansions.items.empty() || expansions.items.front().stop == Stop::not_expanded;
}

Expansions expand_in_steps(Expander& expander, std::string_view query, const ExpandSettings& settings) {
  Expansions result = expander.expand(query, settings);
  if (settings.steps == 1 || is_unexpanded(result)) return result;
  expander.check_prefix(settings.step_prefix);
  Index stayed = 0;
  for (Expansion& item : result.items) {
    std::vector<std::string> earlier;
    const Index sample = item.sample, attempt = item.attempt;
    for (Index step = 1; step < settings.steps; ++step) {
      ExpandSettings further = settings;
      further.count = 1;
      further.diverse = 0;
      further.prefix = settings.step_prefix;
      further.seed = step_seed(settings.seed, step, sample);
      Expansions next = expander.expand(item.text, further);
      if (is_unexpanded(next)) {
        ++stayed;
        break;
      }
      earlier.push_back(std::move(item.text));
      item = std::move(next.items.front());
    }
    item.sample = sample;
    item.attempt = attempt;
    item.earlier = std::move(earlier);
  }
  if (stayed > 0) {
    result.warnings.push_back(fmt::format(
        "{} of {} {} could not be expanded {} times: too long, or nothing to add", stayed, result.items.size(),
        plural(static_cast<std::int64_t>(result.items.size()), "prompt"), settings.steps));
  }
  return result;
}

}  // namespace unfurl::train
