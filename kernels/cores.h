// The processor cores that this process may use.
#pragma once
#include <sched.h>

#include <filesystem>
#include <string_view>
#include <vector>

namespace unfurl::kernels {

/// The affinity mask that this process was started with: read once, before any thread is pinned.
const cpu_set_t& process_cores();

/// Its cores by number, ascending.
std::vector<int> core_list();

/// How many cores' worth of time the process's control groups and all above them grant it, at least 1; 0 where they set
/// no limit. Of version 2 (cpu.max) and 1 (cpu.cfs_quota_us over cpu.cfs_period_us); a part of a core counts as one.
/// `membership` is the text of /proc/self/cgroup, `root` where the groups are mounted.
int core_quota(std::string_view membership, const std::filesystem::path& root = "/sys/fs/cgroup");

/// The same for this process, read once.
int core_quota();

}  // namespace unfurl::kernels
