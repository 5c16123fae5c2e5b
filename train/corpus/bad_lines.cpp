#include "train/corpus/bad_lines.h"

#include <algorithm>
#include <utility>

#include "core/error.h"
#include "core/names.h"
#include "train/corpus/grammar.h"
#include "train/corpus/text.h"
#include "train/log.h"

namespace unfurl::train {

BadLines::BadLines(std::filesystem::path path, std::string what, std::size_t lines, BadLineRule rule)
    : path_(std::move(path)), what_(std::move(what)), lines_(lines), rule_(rule) {}

void BadLines::note(std::size_t line, std::string_view why) {
  ++count_;
  if (named_.size() < static_cast<std::size_t>(std::max(0, rule_.named))) {
    named_.push_back(fmt::format("{}:{}: {}", path_.string(), line, why));
  }
}

bool BadLines::too_many() const {
  return static_cast<double>(count_) > rule_.max_bad_share * static_cast<double>(lines_);
}

std::string BadLines::counted() const {
  return fmt::format("{}: {} of {} {} {}", path_.string(), count_, lines_, plural(lines_, "line"),
                     count_ == 1 ? "is not " + with_article(what_) : "are not " + plural(count_, what_));
}

void BadLines::refuse() const {
  std::string list;
  for (const std::string& named : named_) list += (list.empty() ? ": " : "; ") + named;
  user_error("{}, more than the {:g} % allowed{}", counted(), 100 * rule_.max_bad_share, list);
}

void BadLines::warn() const {
  if (count_ == 0) return;
  for (const std::string& named : named_) train::warn("{}", named);
  train::warn("{} and {} left out", counted(), count_ == 1 ? "was" : "were");
}

std::size_t count_lines(std::string_view text) {
  const auto ends = static_cast<std::size_t>(std::count(text.begin(), text.end(), '\n'));
  return ends + (text.empty() || text.back() == '\n' ? 0 : 1);
}

std::string_view fault_of_text(std::string_view line) {
  if (!valid_utf8(line)) return "invalid UTF-8";
  const bool control = std::ranges::any_of(line, [](char c) { return (c >= 0 && c < 0x20 && c != '\t') || c == 0x7f; });
  return control ? "a control character" : "";
}

}  // namespace unfurl::train
