#include "core/device.h"

#include <gtest/gtest.h>

#include <numeric>

#include "core/copy.h"
#include "core/dispatch.h"
#include "kernels/elementwise.h"
#include "tests/support/device_check.h"
#include "tests/support/expect_error.h"

namespace unfurl::tests {
namespace {

/// What add_scaled() makes of y and x is queued.
void add_twice(const Tensor& y, const Tensor& x) {
  dispatch_sums("add_scaled", y, [&]<class T>(const auto& queue) {
    kernels::add_scaled(queue, y.data<T>(), x.data<const T>(), T{2}, y.numel());
  });
}

std::vector<double> counted(Index count) {
  std::vector<double> out(static_cast<std::size_t>(count));
  std::iota(out.begin(), out.end(), 1.0);
  return out;
}

TEST(Devices, TheCpuIsAlwaysThere) {
  EXPECT_EQ(why_unusable(Device::cpu), "");
  const Device best = best_device();
  EXPECT_TRUE(best == Device::cpu || best == Device::cuda);
  EXPECT_EQ(best == Device::cuda, why_unusable(Device::cuda).empty());
}

TEST(Devices, WhatIsMissingIsNamedInOneLine) {
  for (const Device device : {Device::host_cuda, Device::cuda}) {
    const std::string why = why_unusable(device);
    if (why.empty()) continue;
    EXPECT_EQ(why.find('\n'), std::string::npos) << why;
    EXPECT_EQ(error_of([&] { on_device(device, [](const auto&) {}); }), why);
    const std::string error = error_of([&] { Tensor::empty({2}, DType::f32, device); });
    EXPECT_NE(error.find(why), std::string::npos) << error;
  }
}

TEST(Devices, ThereIsNoDoubleOnThem) {
  SKIP_WITHOUT_CUDA_DEVICE();
  for (const Device device : cuda_devices()) {
    const Tensor x = Tensor::empty({3}, DType::f64, device);
    EXPECT_EQ(error_of([&] { fill(x, 1); }),
              std::string("fill: there is no ") + name_of(device) + " implementation for f64");
  }
}

TEST(Devices, TensorsGoThereAndBack) {
  SKIP_WITHOUT_CUDA_DEVICE();
  for (const Device device : cuda_devices()) {
    const Tensor x = tensor_of(counted(35), {5, 7}, DType::f32, device);
    EXPECT_EQ(as_doubles(x), counted(35));
    EXPECT_EQ(x.span_of(34, {}).item(), 35);
    const Tensor slice = x.columns(2, 4);
    EXPECT_EQ(as_doubles(slice), (std::vector<double>{3, 4, 10, 11, 17, 18, 24, 25, 31, 32}));
    EXPECT_TRUE(slice.to(Device::cpu).contiguous());
    const std::vector<float> written = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9};
    slice.write(written.data());
    EXPECT_EQ(slice.values<float>(), written);
    EXPECT_EQ(x.span_of(0, {4}).values<float>(), (std::vector<float>{1, 2, 0, 1}));
    copy_into(x.columns(5, 7), Tensor::zeros({5, 9}, DType::f32).columns(3, 5));
    EXPECT_EQ(x.span_of(0, {7}).values<float>(), (std::vector<float>{1, 2, 0, 1, 5, 0, 0}));
    // Rounded to bf16 and back.
    const Tensor rounded = Tensor::empty({5, 7}, DType::bf16, device), again = x.empty_like();
    fill(x, 1.0 + 0x1p-7 + 0x1p-9);
    copy_into(rounded, x);
    copy_into(again, rounded);
    EXPECT_EQ(again.values<float>(), std::vector<float>(35, 1.0f + 0x1p-7f));
    add_into(x, rounded);
    EXPECT_EQ(x.values<float>(), std::vector<float>(35, 2.0f + 0x1p-6f + 0x1p-9f));
    EXPECT_NE(error_of([&] { copy_into(Tensor::empty({5, 7}, DType::f32), rounded); }), "");
    EXPECT_EQ(Tensor::zeros({3}, DType::bf16, device).values<bf16>()[2].bits, 0);
    EXPECT_EQ(tensor_of({}, {0, 4}, DType::f32, device).values<float>().size(), 0u);
  }
}

TEST(Devices, GraphsRunAgainAndAgain) {
  SKIP_WITHOUT_CUDA_DEVICE();
  for (const Device device : cuda_devices()) {
    const Tensor y = Tensor::zeros({300}, DType::f32, device), x = tensor_of(counted(300), {300}, DType::f32, device);
    const auto work = [&] {
      const Tensor temporary = Tensor::empty({300}, DType::f32, device);  // freed before the graph is launched
      copy_into(temporary, x);
      add_twice(y, temporary);
    };
    const Graph graph(device, work);
    EXPECT_FALSE(graph.empty());
    EXPECT_EQ(as_doubles(y), std::vector<double>(300, 0)) << "what is captured does not run";
    graph.launch();
    EXPECT_EQ(y.span_of(299, {}).item(), 600);
    graph.launch();
    // Nothing that comes later is given the memory that a launch writes to.
    std::vector<Tensor> others;
    for (int i = 0; i < 4; ++i) others.push_back(Tensor::zeros({300}, DType::f32, device));
    graph.launch();
    for (const Tensor& other : others) EXPECT_EQ(as_doubles(other), std::vector<double>(300, 0));
    EXPECT_EQ(y.span_of(299, {}).item(), 1800);
    // Another graph uses the same memory; launches are in order.
    const MemoryStatistics before = Allocator::of(device).statistics();
    const Graph second(device, work);
    EXPECT_EQ(Allocator::of(device).statistics().reserved, before.reserved);
    second.launch();
    graph.launch();
    EXPECT_EQ(y.span_of(299, {}).item(), 3000);
    fill(x, 1);
    second.launch();
    EXPECT_EQ(y.span_of(299, {}).item(), 3002);
  }
}

TEST(Devices, WhatAGraphHasDoneSoFarIsThereForAnotherQueue) {
  SKIP_WITHOUT_CUDA_DEVICE();
  for (const Device device : cuda_devices()) {
    constexpr Index kCount = 5000;
    const Tensor y = Tensor::zeros({kCount}, DType::f32, device), x = Tensor::zeros({kCount}, DType::f32, device);
    on_device(device, [&]<class Queue>(const Queue& queue) {
      const Queue other(queue.device());
      typename Queue::Event half;
      const Graph graph(device, [&] {
        for (int i = 0; i < 3; ++i) add_twice(y, x);
        queue.record(half);
        for (int i = 0; i < 3; ++i) add_twice(x, x);
      });
      const PinnedMemory seen(device, kCount * sizeof(float));
      for (int launch = 1; launch <= 3; ++launch) {
        fill(x, launch);
        fill(y, 0);
        graph.launch();
        other.wait(half);
        other.copy(seen.data(), y.data<float>(), kCount * sizeof(float));
        other.synchronize();
        const auto* const values = reinterpret_cast<const float*>(seen.data());
        for (Index i = 0; i < kCount; ++i) ASSERT_EQ(values[i], static_cast<float>(6 * launch)) << i;
        EXPECT_TRUE(half.done());
      }
      EXPECT_EQ(x.span_of(kCount - 1, {}).item(), 3 * 27);
    });
  }
}

TEST(Devices, WhatFailsInACaptureLeavesTheDeviceUsable) {
  SKIP_WITHOUT_CUDA_DEVICE();
  for (const Device device : cuda_devices()) {
    const Tensor y = Tensor::zeros({8}, DType::f32, device);
    EXPECT_EQ(error_of([&] {
                Graph(device, [&] {
                  fill(y, 1);
                  fail("no further");
                });
              }),
              "no further");
    EXPECT_EQ(y.values<float>(), std::vector<float>(8, 0));
    fill(y, 2);
    EXPECT_EQ(y.values<float>(), std::vector<float>(8, 2));
  }
}

TEST(Devices, MemoryIsCountedAndReused) {
  SKIP_WITHOUT_CUDA_DEVICE();
  for (const Device device : cuda_devices()) {
    Allocator& allocator = Allocator::of(device);
    allocator.reset_peak();
    const std::size_t before = allocator.statistics().live;
    const void* address = nullptr;
    {
      const MemoryName name("a test of devices");
      const Tensor x = Tensor::empty({1000}, DType::f32, device);
      address = x.data<float>();
      EXPECT_EQ(reinterpret_cast<std::uintptr_t>(address) % 256, 0u);
      EXPECT_EQ(allocator.statistics().live - before, 4096u);
      EXPECT_EQ(allocator.statistics().live_by_name.at("a test of devices"), 4096u);
    }
    const Tensor again = Tensor::empty({1000}, DType::f32, device);
    EXPECT_EQ(again.data<float>(), address);
    EXPECT_EQ(allocator.statistics().peak - before, 4096u);
    EXPECT_EQ(allocator.statistics().at_peak_by_name.at("a test of devices"), 4096u);
  }
}

TEST(Devices, OutOfMemorySaysWhatIsAskedAndHeld) {
  SKIP_WITHOUT_CUDA_DEVICE();
  for (const Device device : cuda_devices()) {
    const MemoryName name("the impossible");
    const std::string error = error_of([&] { Tensor::empty({Index{1} << 50}, DType::f32, device); });
    EXPECT_NE(error.find(std::string("out of memory on ") + name_of(device) +
                         ": asked for 4294967296.0 MiB for the impossible, "),
              std::string::npos)
        << error;
    EXPECT_EQ(error.find('\n'), std::string::npos);
    EXPECT_EQ(Tensor::zeros({2}, DType::f32, device).values<float>(), std::vector<float>(2, 0));
  }
}

}  // namespace
}  // namespace unfurl::tests
