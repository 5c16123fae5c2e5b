// cuDNN's graphs of attention, without a GPU: the library, where it is, plans them for a Hopper GPU that is described
// to it. That no graph but one of attention is taken shows that it recognises them.
#include "kernels/cudnn_attention_graph.h"

#include <dlfcn.h>
#include <gtest/gtest.h>

#include <memory>
#include <string>

#include "kernels/cudnn_attention.h"
#include "tests/support/sanitizers.h"

namespace unfurl::tests {
namespace {

using namespace kernels::cudnn;

/// An H200, as the library describes one to itself.
constexpr char kHopper[] =
    R"({"deviceVer":900,"driverVer":13000,"cudaDeviceId":0,"totalGlobalMem":150754820096,)"
    R"("maxGridSize":[2147483647,65535,65535],"maxBlockSize":[1024,1024,64],"regsPerBlock":65536,)"
    R"("multiProcessorCount":132,"warpSize":32,"maxSharedMemoryPerBlock":49152,)"
    R"("maxSharedMemoryPerBlockOptin":232448,"reservedSharedMemoryPerBlock":1024,"maxRegistersPerSM":65536,)"
    R"("maxCtasPerSM":32,"maxThreadsPerBlock":1024,"maxThreadsPerSM":2048,"pciDeviceId":0,"isTccDriver":0,)"
    R"("supportCoopLaunch":1,"smClockRateKHz":1980000,"memClockRateKHz":3201000,"l2CacheSize":62914560,)"
    R"("deviceName":"NVIDIA H200"})";

/// The library suggests engines only where a driver can be loaded: a toolkit's stub of it is enough.
bool driver_is_there() {
  for (const char* const name : {"libcuda.so.1", "/usr/local/cuda/lib64/stubs/libcuda.so"}) {
    if (dlopen(name, RTLD_NOW | RTLD_GLOBAL) != nullptr) return true;
  }
  return false;
}

AttentionSizes sizes(Index documents, Index longest, Index heads, Index kv_heads, Index head_dim) {
  AttentionSizes out{documents, longest, heads, kv_heads, head_dim};
  for (const Uid slice : {kQ, kK, kV, kOut, kDout, kDq}) out.strides[slice] = (heads + 2 * kv_heads) * head_dim + 1024;
  out.strides[kDk] = out.strides[kDv] = kv_heads * head_dim;
  return out;
}

class CudnnAttentionGraph : public testing::Test {
 protected:
  void SetUp() override {
    if (kAddressSanitizer || kThreadSanitizer) GTEST_SKIP() << "cuDNN is not instrumented, and leaks what it loads";
    if (const std::string why = why_unusable(); !why.empty()) GTEST_SKIP() << why;
    if (!driver_is_there()) GTEST_SKIP() << "there is neither a CUDA driver nor a toolkit's stub of one";
    properties_ = std::make_unique<Descriptor>(BACKEND_DEVICEPROP_DESCRIPTOR);
    properties_->set(ATTR_DEVICEPROP_JSON_REPRESENTATION, TYPE_CHAR, sizeof kHopper - 1, kHopper);
    properties_->finalize("device properties");
  }
  std::size_t engines(bool backward, const AttentionSizes& of, bool deterministic) const {
    const Target target{nullptr, properties_.get()};
    return AttentionGraph(backward, of, target).engines(target, deterministic).size();
  }

  std::unique_ptr<Descriptor> properties_;
};

TEST_F(CudnnAttentionGraph, HasEnginesForEveryKindOfHeads) {
  for (const Index kv_heads : {16, 4, 1}) {
    for (const Index head_dim : {64, 128}) {
      for (const Index longest : {17, 96, 512}) {
        SCOPED_TRACE(testing::Message() << "16/" << kv_heads << " heads of " << head_dim << ", up to " << longest);
        const AttentionSizes of = sizes(33, longest, 16, kv_heads, head_dim);
        EXPECT_GT(engines(false, of, false), 0u);
        EXPECT_GT(engines(true, of, true), 0u);
      }
    }
  }
}

TEST_F(CudnnAttentionGraph, HasNoneForSizesThatAreNotSupported) {
  EXPECT_EQ(engines(true, sizes(4, 64, 4, 4, 20), true), 0u);  // heads of no multiple of 8
}

TEST(Cudnn, SaysWhyItCannotBeUsed) {
  kernels::DeviceProperties ampere;
  ampere.name = "NVIDIA A100";
  ampere.major = 8;
  EXPECT_EQ(kernels::why_no_cudnn_attention(ampere),
            "cuDNN's attention over packed documents is for GPUs of compute capability 9.x, and NVIDIA A100 is of 8.0");
  const std::string missing = why_unusable("libcudnn-that-is-not-there.so.9");
  EXPECT_EQ(missing.find("cuDNN: libcudnn-that-is-not-there.so.9 cannot be loaded: "), 0u) << missing;
  EXPECT_NE(missing.find("install cuDNN 9, or add its folder to LD_LIBRARY_PATH"), std::string::npos) << missing;
  EXPECT_EQ(missing.find('\n'), std::string::npos);
  EXPECT_EQ(why_unusable("libm.so.6"), "cuDNN: libm.so.6 has no cudnnGetVersion");
}

}  // namespace
}  // namespace unfurl::tests
