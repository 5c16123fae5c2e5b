// What control groups grant, from folders that look like theirs.
#include "kernels/cores.h"

#include <gtest/gtest.h>

#include <fstream>
#include <string>

#include "tests/support/temporary_folder.h"

namespace unfurl::tests {
namespace {

using kernels::core_quota;

class CoreQuota : public testing::Test {
 protected:
  void put(const std::string& file, const std::string& text) const {
    std::filesystem::create_directories((folder_ / file).parent_path());
    std::ofstream(folder_ / file) << text;
  }
  int quota(const std::string& membership) const { return core_quota(membership, folder_.path()); }

 private:
  TemporaryFolder folder_;
};

TEST_F(CoreQuota, NoneWithoutGroups) {
  EXPECT_EQ(quota(""), 0);
  EXPECT_EQ(quota("0::/\n"), 0);
  EXPECT_EQ(quota("nonsense\n::\n:"), 0);
}

TEST_F(CoreQuota, OfVersion2) {
  put("cpu.max", "max 100000\n");
  EXPECT_EQ(quota("0::/\n"), 0);
  put("cpu.max", "200000 100000\n");
  EXPECT_EQ(quota("0::/\n"), 2);
  put("cpu.max", "150000 100000\n");
  EXPECT_EQ(quota("0::/\n"), 2) << "a part of a core counts as one";
  put("cpu.max", "5000 100000\n");
  EXPECT_EQ(quota("0::/\n"), 1);
  for (const char* bad : {"", "-1 100000", "0 100000", "100000 0", "100000", "many of them"}) {
    put("cpu.max", bad);
    EXPECT_EQ(quota("0::/\n"), 0) << bad;
  }
}

TEST_F(CoreQuota, IsTheLeastOfTheGroupAndThoseAbove) {
  put("slice/cpu.max", "400000 100000\n");
  put("slice/job/cpu.max", "max 100000\n");
  EXPECT_EQ(quota("0::/slice/job\n"), 4);
  put("slice/job/cpu.max", "300000 100000\n");
  EXPECT_EQ(quota("0::/slice/job\n"), 3);
  put("cpu.max", "100000 100000\n");
  EXPECT_EQ(quota("0::/slice/job\n"), 1);
  EXPECT_EQ(quota("0::/the/hosts/own/path\n"), 1) << "of a container: what is mounted counts";
}

TEST_F(CoreQuota, OfVersion1) {
  const std::string membership = "5:memory:/m\n4:cpu,cpuacct:/a/b\n0::/\n";
  put("cpu/cpu.cfs_quota_us", "-1\n");
  put("cpu/cpu.cfs_period_us", "100000\n");
  EXPECT_EQ(quota(membership), 0);
  put("cpu/a/b/cpu.cfs_quota_us", "250000\n");
  put("cpu/a/b/cpu.cfs_period_us", "50000\n");
  EXPECT_EQ(quota(membership), 5);
  EXPECT_EQ(quota("4:cpuacct:/a/b\n3:cpuset:/a/b\n"), 0) << "other controllers grant no time";
}

TEST(Cores, AreThoseOfTheProcess) {
  EXPECT_FALSE(kernels::core_list().empty());
  EXPECT_GE(core_quota(), 0);
}

}  // namespace
}  // namespace unfurl::tests
