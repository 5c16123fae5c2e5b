#include "train/data/denoise.h"

#include <algorithm>
#include <cmath>

#include "core/error.h"

namespace unfurl::train {
namespace {

/// `value` rounded up or down by chance, so that its mean is kept.
Index rounded(double value, Draws& draws) {
  const double whole = std::floor(value);
  return static_cast<Index>(whole) + (static_cast<double>(draws.next()) < value - whole ? 1 : 0);
}

/// `parts` numbers of at least 1 whose sum is `total`, all such lists equally likely.
std::vector<Index> divided(Index total, Index parts, Draws& draws) {
  std::vector<Index> out;
  Index last = 0, cuts = parts - 1;
  for (Index at = 1; cuts > 0; ++at) {
    if (static_cast<double>(draws.next()) * static_cast<double>(total - at) >= static_cast<double>(cuts)) continue;
    out.push_back(at - last);
    last = at;
    --cuts;
  }
  out.push_back(total - last);
  return out;
}

/// The most spans of a text of so many tokens.
Index most_spans(Index tokens) {
  Index most = 1;
  for (const Denoiser& denoiser : kDenoisers) {
    if (denoiser.mean == 0) continue;
    const double noise = std::ceil(static_cast<double>(tokens) * denoiser.rate);
    most = std::max(most, static_cast<Index>(std::ceil(noise / denoiser.mean)));
  }
  return most;
}

Example with_targets(std::vector<std::int32_t> seen, std::span<const std::int32_t> targets) {
  Example out;
  out.tokens = std::move(seen);
  out.tokens.push_back(Tokenizer::kSeparator);
  out.prefix_length = static_cast<Index>(out.tokens.size());
  out.tokens.insert(out.tokens.end(), targets.begin(), targets.end());
  out.tokens.push_back(Tokenizer::kEnd);
  return out;
}

}  // namespace

Example denoise(std::span<const std::int32_t> text, const Denoiser& denoiser, Index sentinels, Draws& draws) {
  const auto length = static_cast<Index>(text.size());
  require(length > 0, "denoise: there is no text");
  const Index noise =
      std::clamp<Index>(rounded(static_cast<double>(length) * denoiser.rate, draws), 1, std::max<Index>(length - 1, 1));
  std::vector<std::int32_t> seen = {denoiser.mode};
  if (denoiser.mean == 0) {
    const auto kept = static_cast<std::size_t>(length - noise);
    seen.insert(seen.end(), text.begin(), text.begin() + static_cast<std::ptrdiff_t>(kept));
    return with_targets(std::move(seen), text.subspan(kept));
  }
  require(sentinels > 0, "denoise: there are no sentinels");
  const Index most = std::min({noise, length - noise + 1, sentinels});
  const Index spans =
      std::clamp<Index>(rounded(static_cast<double>(noise) / denoiser.mean, draws), 1, std::max<Index>(most, 1));
  const std::vector<Index> left_out = divided(noise, spans, draws);
  std::vector<Index> kept = divided(length - noise + 2, spans + 1, draws);  // between spans at least one token
  --kept.front();
  --kept.back();
  std::vector<std::int32_t> targets;
  auto at = text.begin();
  for (std::size_t s = 0; s < left_out.size(); ++s) {
    const std::int32_t sentinel = Tokenizer::kControls + static_cast<std::int32_t>(s);
    seen.insert(seen.end(), at, at + kept[s]);
    at += kept[s];
    seen.push_back(sentinel);
    targets.push_back(sentinel);
    targets.insert(targets.end(), at, at + left_out[s]);
    at += left_out[s];
  }
  seen.insert(seen.end(), at, text.end());
  return with_targets(std::move(seen), targets);
}

Example document_example(std::span<const std::int32_t> text, Objective objective, Index context, Index sentinels,
                         Draws& draws) {
  const auto most = static_cast<std::size_t>(document_tokens(objective, context));
  const bool truncated = text.size() > most;
  text = text.first(std::min(most, text.size()));
  Example out;
  if (objective == Objective::ul2) {
    const auto drawn = static_cast<std::size_t>(draws.next() * static_cast<float>(kDenoisers.size()));
    out = denoise(text, kDenoisers[std::min(drawn, kDenoisers.size() - 1)], sentinels, draws);
  } else {
    const auto length = static_cast<float>(text.size());
    std::size_t seen = 0;  // from 1 to all but one
    if (objective == Objective::prefix_lm && text.size() > 1) {
      seen = std::min(1 + static_cast<std::size_t>(draws.next() * (length - 1)), text.size() - 1);
    }
    out = with_targets({text.begin(), text.begin() + static_cast<std::ptrdiff_t>(seen)}, text.subspan(seen));
  }
  out.truncated = truncated;
  return out;
}

Index document_tokens(Objective objective, Index context) {
  // Of an example's tokens the last has no row: mode, <sep> and sentinels are what the rows have beside the text.
  if (objective != Objective::ul2) return std::max<Index>(context - 1, 1);
  Index tokens = std::max<Index>(context - 2, 1);
  while (tokens > 1 && tokens + 2 * most_spans(tokens) + 2 > context) --tokens;
  return tokens;
}

Index sentinels_needed(Objective objective, Index context) {
  return objective == Objective::ul2 ? most_spans(document_tokens(objective, context)) : 0;
}

}  // namespace unfurl::train
