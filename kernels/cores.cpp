#include "kernels/cores.h"

#include <algorithm>
#include <cmath>
#include <fstream>
#include <iterator>
#include <optional>
#include <string>

namespace unfurl::kernels {
namespace {

std::string text_of(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

/// Cores that one group grants, where it limits them.
std::optional<double> granted(const std::filesystem::path& group, bool version2) {
  double quota = 0, period = 0;
  if (version2) {
    std::ifstream file(group / "cpu.max");  // "200000 100000", or "max 100000"
    if (!(file >> quota >> period)) return std::nullopt;
  } else {
    std::ifstream of_quota(group / "cpu.cfs_quota_us"), of_period(group / "cpu.cfs_period_us");  // -1: no limit
    if (!(of_quota >> quota) || !(of_period >> period)) return std::nullopt;
  }
  if (!(quota > 0 && period > 0)) return std::nullopt;
  return quota / period;
}

/// True where the comma-separated list has the word.
bool lists(std::string_view list, std::string_view word) {
  while (!list.empty()) {
    const std::size_t end = std::min(list.find(','), list.size());
    if (list.substr(0, end) == word) return true;
    list.remove_prefix(std::min(end + 1, list.size()));
  }
  return false;
}

}  // namespace

const cpu_set_t& process_cores() {
  static const cpu_set_t cores = [] {
    cpu_set_t set;
    CPU_ZERO(&set);
    if (sched_getaffinity(0, sizeof set, &set) != 0) CPU_SET(0, &set);
    return set;
  }();
  return cores;
}

std::vector<int> core_list() {
  std::vector<int> list;
  for (int core = 0; core < CPU_SETSIZE; ++core) {
    if (CPU_ISSET(core, &process_cores())) list.push_back(core);
  }
  return list;
}

int core_quota(std::string_view membership, const std::filesystem::path& root) {
  std::optional<double> least;
  while (!membership.empty()) {
    const std::size_t end = std::min(membership.find('\n'), membership.size());
    const std::string_view line = membership.substr(0, end);  // "4:cpu,cpuacct:/a/b", or "0::/a/b" of version 2
    membership.remove_prefix(std::min(end + 1, membership.size()));
    const std::size_t first = line.find(':'), second = line.find(':', first + 1);
    if (first == std::string_view::npos || second == std::string_view::npos) continue;
    const std::string_view controllers = line.substr(first + 1, second - first - 1);
    const bool version2 = controllers.empty();
    if (!version2 && !lists(controllers, "cpu")) continue;
    const std::filesystem::path mounted = version2 ? root : root / "cpu";
    // In a container the path may be the host's: then only the mounted group itself is there to be read.
    std::filesystem::path group = std::filesystem::path(line.substr(second + 1)).relative_path().lexically_normal();
    for (;; group = group.parent_path()) {
      if (const auto cores = granted(mounted / group, version2)) least = std::min(least.value_or(*cores), *cores);
      if (group.empty()) break;
    }
  }
  return least ? static_cast<int>(std::clamp(std::ceil(*least), 1.0, 1e6)) : 0;
}

int core_quota() {
  static const int quota = core_quota(text_of("/proc/self/cgroup"));
  return quota;
}

}  // namespace unfurl::kernels
