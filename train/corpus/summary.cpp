#include "train/corpus/summary.h"

#include <fmt/format.h>

namespace unfurl::train {
namespace {

std::string list(const std::map<std::string, std::size_t>& counts, std::size_t total) {
  std::string out;
  for (const auto& [name, count] : counts) {
    out += fmt::format("{}{} {} ({:.0f} %)", out.empty() ? "" : ", ", name, count,
                       100.0 * static_cast<double>(count) / static_cast<double>(total));
  }
  return out;
}

}  // namespace

std::string PairCounts::text() const {
  std::string out = fmt::format("  types     {}\n  prefixes  {}\n", list(types_, total_), list(prefixes_, total_));
  if (!sources_.empty()) out += fmt::format("  sources   {}\n", list(sources_, total_));
  return out;
}

}  // namespace unfurl::train
