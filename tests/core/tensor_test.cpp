#include "core/tensor.h"

#include <gtest/gtest.h>

#include <cmath>

#include "core/parameters.h"

#ifdef __SANITIZE_ADDRESS__
/// Under AddressSanitizer too, memory that the system does not have is an allocation that fails, not the end.
extern "C" const char* __asan_default_options() { return "allocator_may_return_null=1"; }
#endif

namespace unfurl {
namespace {

TEST(Shape, CountsAndIndexesFromBothEnds) {
  const Shape shape{2, 3, 5};
  EXPECT_EQ(shape.numel(), 30);
  EXPECT_EQ(shape[-1], 5);
  EXPECT_EQ(shape[0], 2);
  EXPECT_EQ(shape.text(), "[2, 3, 5]");
  EXPECT_EQ(Shape{}.numel(), 1);
  EXPECT_THROW(shape[3], Error);
  EXPECT_THROW(shape[-4], Error);
  EXPECT_THROW((Shape{1, 2, 3, 4, 5}), Error);
  EXPECT_THROW((Shape{-1}), Error);
}

TEST(Tensor, ViewsShareMemory) {
  const Tensor x = Tensor::from<float>({0, 1, 2, 3, 4, 5}, {2, 3});
  const Tensor middle = x.columns(1, 2);
  EXPECT_EQ(middle.values<float>(), (std::vector<float>{1, 4}));
  EXPECT_EQ(middle.row_stride(), 3);
  EXPECT_FALSE(middle.contiguous());
  middle.data<float>()[0] = 7;
  EXPECT_EQ(x.values<float>(), (std::vector<float>{0, 7, 2, 3, 4, 5}));
  EXPECT_EQ(x.reshape({3, 2}).columns(0, 1).values<float>(), (std::vector<float>{0, 2, 4}));
  EXPECT_EQ(x.span_of(3, {3}).values<float>(), (std::vector<float>{3, 4, 5}));
}

TEST(Tensor, MistakesAreNamed) {
  const Tensor x = Tensor::zeros({2, 3}, DType::f32);
  EXPECT_THROW(x.columns(2, 4), Error);
  EXPECT_THROW(x.columns(0, 2).reshape({4}), Error);
  EXPECT_THROW(x.reshape({7}), Error);
  EXPECT_THROW(x.data<double>(), Error);
  EXPECT_THROW(x.item(), Error);
  EXPECT_THROW(x.span_of(4, {3}), Error);
  EXPECT_THROW(Tensor().device(), Error);
}

TEST(Tensor, Bfloat16RoundsToNearestEven) {
  EXPECT_EQ(to_bf16(1.0f).bits, 0x3f80);
  EXPECT_EQ(to_float(to_bf16(1.00390625f)), 1.0f);       // half-way, to even
  EXPECT_EQ(to_float(to_bf16(1.01171875f)), 1.015625f);  // half-way, to even
  EXPECT_EQ(to_float(to_bf16(1.00391f)), 1.0078125f);    // just above half-way
  EXPECT_TRUE(std::isnan(to_float(to_bf16(std::nanf("")))));
  EXPECT_TRUE(std::isinf(to_float(to_bf16(3.4e38f))));
}

TEST(Allocator, ReusesBlocksAndCountsByName) {
  Allocator& allocator = Allocator::of(Device::cpu);
  allocator.reset_peak();
  const std::size_t before = allocator.statistics().live;
  {
    const MemoryName name("test");
    const Tensor x = Tensor::empty({1000}, DType::f32);
    EXPECT_GE(allocator.statistics().live_by_name["test"], 4000u);
    EXPECT_LE(allocator.statistics().live_by_name["test"], 4500u);
  }
  EXPECT_EQ(allocator.statistics().live, before);
  EXPECT_GE(allocator.statistics().peak, before + 4000);
  EXPECT_GE(allocator.statistics().at_peak_by_name["test"], 4000u);
  const std::size_t reserved = allocator.statistics().reserved;
  { const Tensor again = Tensor::empty({1000}, DType::f32); }
  EXPECT_EQ(allocator.statistics().reserved, reserved);
  allocator.trim();
  EXPECT_EQ(allocator.statistics().reserved, allocator.statistics().live);
}

TEST(Allocator, AlignsTo64Bytes) {
  for (const Index count : {1, 3, 17, 1000, 1 << 20}) {
    const Tensor x = Tensor::empty({count}, DType::f32);
    EXPECT_EQ(reinterpret_cast<std::uintptr_t>(x.data<float>()) % 64, 0u) << count;
  }
}

TEST(Allocator, MetaCountsWithoutMemory) {
  Allocator& allocator = Allocator::of(Device::meta);
  allocator.reset_peak();
  const Tensor huge = Tensor::empty({Index{1} << 44}, DType::f32, Device::meta);
  EXPECT_EQ(huge.data<float>(), nullptr);
  EXPECT_GE(allocator.statistics().peak, std::size_t{1} << 46);
}

TEST(Allocator, OutOfMemorySaysWhatIsAskedAndHeld) {
  const MemoryName name("dreams");
  try {
    Tensor::empty({Index{1} << 56}, DType::f32);
    FAIL();
  } catch (const Error& error) {
    EXPECT_NE(std::string(error.what()).find("out of memory on cpu: asked for"), std::string::npos) << error.what();
    EXPECT_NE(std::string(error.what()).find("dreams"), std::string::npos) << error.what();
  }
}

TEST(Parameters, LieAlignedInArenas) {
  Parameters parameters;
  const auto a = parameters.declare("a", {3, 5}, ParameterGroup::decayed);
  const auto b = parameters.declare("b", {7}, ParameterGroup::undecayed);
  const auto c = parameters.declare("c", {2}, ParameterGroup::decayed);
  parameters.allocate(DType::f32, Device::cpu, true);
  EXPECT_EQ(parameters.count(), 24);
  EXPECT_EQ(parameters.values(ParameterGroup::decayed).numel(), 128);
  EXPECT_FALSE(parameters.values(ParameterGroup::frozen).defined());
  EXPECT_EQ(parameters[c].data<float>() - parameters[a].data<float>(), 64);
  parameters[c].gradient().data<float>()[1] = 4;
  EXPECT_EQ(parameters.gradients(ParameterGroup::decayed).data<float>()[65], 4);
  EXPECT_TRUE(parameters[b].needs_gradient());
  EXPECT_THROW(parameters.declare("d", {1}, ParameterGroup::decayed), Error);
}

TEST(Parameters, GradientsCanBeSwapped) {
  Parameters parameters;
  const auto a = parameters.declare("a", {2}, ParameterGroup::decayed);
  parameters.allocate(DType::f32, Device::cpu, true);
  const Tensor other = Tensor::zeros({64}, DType::f32);
  const auto first = parameters.swap_gradients({other, Tensor()});
  parameters[a].gradient().data<float>()[0] = 3;
  EXPECT_EQ(other.data<float>()[0], 3);
  EXPECT_EQ(first[0].data<float>()[0], 0);
  EXPECT_THROW(parameters.swap_gradients({Tensor::zeros({3}, DType::f32), Tensor()}), Error);
}

}  // namespace
}  // namespace unfurl
