#include "train/corpus/prefix.h"

#include <string>

#include "core/error.h"
#include "core/names.h"

namespace unfurl::train {
namespace {

std::size_t place(std::string_view name) {
  std::size_t at = 0;
  while (at < kPrefixes.size() && kPrefixes[at].name != name) ++at;
  return at;
}

}  // namespace

bool is_prefix(std::string_view name) { return place(name) < kPrefixes.size(); }

std::size_t require_prefix(std::string_view name) {
  const std::size_t at = place(name);
  if (at < kPrefixes.size()) return at;
  std::array<std::string_view, kPrefixes.size()> names;
  std::string list;
  for (std::size_t i = 0; i < kPrefixes.size(); ++i) {
    names[i] = kPrefixes[i].name;
    list += (i == 0 ? "" : ", ") + std::string(names[i]);
  }
  user_error("there is no prefix \"{}\"{} (the prefixes are {})", name.substr(0, 40), did_you_mean(name, names), list);
}

}  // namespace unfurl::train
