#include "train/corpus/contrast_pairs.h"

#include <algorithm>

#include "train/corpus/text.h"

namespace unfurl::train {
namespace {

/// The prompt's segments of content and its flavors: those that the pair names, else those that `statistics` tell.
struct Content {
  std::vector<std::string_view> segments;
  std::vector<std::string> flavors;
};

Content content_of(const Pair& pair, const PromptStatistics& statistics) {
  if (pair.flavors.empty()) {
    const Parts parts = split_prompt(pair.prompt, statistics);
    // Behind the content may stand more of it.
    if (!parts.only_flavors) return {};
    return {parts.content, {parts.flavors.begin(), parts.flavors.end()}};
  }
  Content out{{}, pair.flavors};
  for (const std::string_view segment : split_segments(pair.prompt)) {
    if (std::find(out.flavors.begin(), out.flavors.end(), segment) == out.flavors.end())
      out.segments.push_back(segment);
  }
  return out;
}

}  // namespace

std::optional<Pair> contrast_pair(const Pair& pair, const PromptStatistics& statistics, Draw& draw) {
  const bool adds_flavors = pair.prefix == "FLV";
  const bool adds_content = pair.prefix.empty() || pair.prefix == "DTL" || pair.prefix == "ABST" ||
                            pair.prefix == "GRD" || pair.prefix == "SPCT";
  if (pair.type == "copy" || (!adds_flavors && !adds_content)) return std::nullopt;
  const Content content = content_of(pair, statistics);
  if (content.flavors.empty()) return std::nullopt;
  Pair out = pair;
  if (adds_flavors) {
    if (content.segments.size() < 2) return std::nullopt;
    const auto said = static_cast<std::ptrdiff_t>(draw.between(1, content.segments.size() - 1));
    out.query = join({content.segments.begin(), content.segments.begin() + said}, ", ");
    out.type = "short";
    if (draw.chance(0.5)) {
      out.prefix = "DTL";
      return out;
    }
  }
  out.prompt = out.query;
  for (const std::string& flavor : content.flavors) out.prompt += ", " + flavor;
  out.prefix = "FLV";
  out.content = content_words(out.query);
  out.flavors = content.flavors;
  return out;
}

}  // namespace unfurl::train
