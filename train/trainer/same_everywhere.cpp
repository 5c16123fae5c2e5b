#include "train/trainer/same_everywhere.h"

#include <fmt/format.h>

#include <sstream>
#include <string_view>

#include "core/comm/agree.h"

namespace unfurl::train {
namespace {

/// "train.steps is 50, there 40".
std::string difference(const std::string& here, const std::string& there) {
  std::istringstream a(here), b(there);
  for (std::string x, y; std::getline(a, x) && std::getline(b, y);) {
    if (x != y) return fmt::format("\"{}\" there, \"{}\" on rank 0", y, x);
  }
  return "one is longer";
}

}  // namespace

void require_same_everywhere(Communicator& ranks, const Origins& own) {
  for (const auto& [what, text] : own) {
    const std::vector<std::string> all = ranks.gather_texts("comparison of the ranks", text);
    agree(ranks, "comparison of the ranks", [&, what = what] {
      for (std::size_t rank = 1; rank < all.size() && ranks.rank() == 0; ++rank) {
        if (all[rank] == all[0]) continue;
        const std::string how =
            std::string_view(what) == "recipe" ? fmt::format(" ({})", difference(all[0], all[rank])) : "";
        user_error("rank {} has another {} than rank 0{}; start the same program with the same recipe on all ranks",
                   rank, what, how);
      }
    });
  }
}

}  // namespace unfurl::train
