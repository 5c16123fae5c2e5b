// Every operation on the devices that run CUDA kernels, against the CPU in f64. The kernels themselves are tested with
// all their odd shapes in tests/kernels; here it is that operations give them the right memory of the right type.
#include <gtest/gtest.h>

#include <numeric>

#include "core/ops/add.h"
#include "core/ops/attention.h"
#include "core/ops/dropout.h"
#include "core/ops/embedding.h"
#include "core/ops/gather_rows.h"
#include "core/ops/glu.h"
#include "core/ops/head_cross_entropy.h"
#include "core/ops/layer_norm.h"
#include "core/ops/linear.h"
#include "core/ops/low_rank_linear.h"
#include "core/ops/rms_norm.h"
#include "core/ops/rope.h"
#include "core/ops/soft_prompt.h"
#include "tests/support/device_check.h"

namespace unfurl::tests {
namespace {

using Tensors = std::vector<Tensor>;

Tensor ints(const std::vector<std::int32_t>& values, const Tensor& like) {
  return Tensor::from(values, {static_cast<Index>(values.size())}, like.device());
}

const std::vector<Shape> kShapes = {{1, 1}, {5, 33}, {17, 64}, {3, 130}};

TEST(OnDevices, AddAndCopy) {
  SKIP_WITHOUT_CUDA_DEVICE();
  for (const Shape& shape : kShapes) {
    check_on_devices([](const Tensors& in) { return Tensors{add(in[0], in[1])}; }, {shape, shape});
    check_on_devices([](const Tensors& in) { return Tensors{copy(in[0])}; }, {shape});
  }
}

TEST(OnDevices, ATensorUsedTwiceHasTheSumOfItsGradients) {
  SKIP_WITHOUT_CUDA_DEVICE();
  check_on_devices(
      [](const Tensors& in) {
        const Tensor sum = add(in[0], in[1]), again = add(sum, copy(sum));
        return Tensors{add(again, sum), copy(again.columns(3, 9))};
      },
      {{7, 11}, {7, 11}}, 2e-5, 8);
}

TEST(OnDevices, Glu) {
  SKIP_WITHOUT_CUDA_DEVICE();
  for (const Shape& shape : kShapes) {
    for (const auto activation : {kernels::Activation::silu, kernels::Activation::gelu}) {
      check_on_devices([&](const Tensors& in) { return Tensors{glu(in[0], in[1], activation)}; }, {shape, shape});
    }
    check_on_devices([](const Tensors& in) { return Tensors{gelu(in[0])}; }, {shape});
  }
}

TEST(OnDevices, SoftPrompt) {
  SKIP_WITHOUT_CUDA_DEVICE();
  check_on_devices(
      [](const Tensors& in) {
        const Tensor x = Tensor::zeros({14, 33}, in[0].dtype(), in[0].device());
        return Tensors{copy(soft_prompt(x, in[0], ints({0, 4, 4, 9, 14}, in[0])))};
      },
      {{3, 33}});
}

TEST(OnDevices, LowRankLinear) {
  SKIP_WITHOUT_CUDA_DEVICE();
  check_on_devices(
      [](const Tensors& in) {
        return Tensors{low_rank_linear(in[0], in[0].detach().columns(0, 24), {{in[1], in[2], 8, 4}}, 0.5)};
      },
      {{24, 24}, {4, 16}, {12, 4}}, 2e-5, 30);
}

TEST(OnDevices, Norms) {
  SKIP_WITHOUT_CUDA_DEVICE();
  for (const Index cols : {16, 33, 130}) {
    const Shape x = {5, cols}, vector = {cols};
    check_on_devices([](const Tensors& in) { return Tensors{rms_norm(in[0], in[1], 1e-6)}; }, {x, vector}, 5e-5, 3);
    check_on_devices([](const Tensors& in) { return Tensors{layer_norm(in[0], in[1], in[2], 1e-6)}; },
                     {x, vector, vector}, 5e-5, 3);
    const auto pair = [](const std::pair<Tensor, Tensor>& both) { return Tensors{both.first, both.second}; };
    check_on_devices([&](const Tensors& in) { return pair(add_rms_norm(in[0], in[1], in[2], 1e-6)); }, {x, x, vector},
                     5e-5, 6);
    check_on_devices([&](const Tensors& in) { return pair(add_layer_norm(in[0], in[1], in[2], in[3], 1e-6)); },
                     {x, x, vector, vector}, 5e-5, 6);
  }
}

TEST(OnDevices, Linear) {
  SKIP_WITHOUT_CUDA_DEVICE();
  for (const auto& [rows, in_width, out_width] : {std::array<Index, 3>{1, 8, 16}, {33, 40, 24}, {65, 16, 48}}) {
    check_on_devices([](const Tensors& in) { return Tensors{linear(in[0], in[1])}; },
                     {{rows, in_width}, {out_width, in_width}}, 1e-4, 3, 0.5);
  }
}

TEST(OnDevices, SlicesOfAJointProjection) {
  SKIP_WITHOUT_CUDA_DEVICE();
  check_on_devices(
      [](const Tensors& in) {
        const Tensor both = linear(in[0], in[1]);
        const Tensor wide = Tensor::empty({33, 40}, both.dtype(), both.device());
        glu(both.columns(0, 24), both.columns(24, 48), kernels::Activation::silu, wide.columns(16, 40));
        gelu(both.columns(48, 64), wide.columns(0, 16));
        return Tensors{linear(wide, in[2])};
      },
      {{33, 32}, {64, 32}, {8, 40}}, 1e-4, 8, 0.3);
}

TEST(OnDevices, RecomputedOperationsHaveTheSameGradients) {
  SKIP_WITHOUT_CUDA_DEVICE();
  check_on_devices(
      [](const Tensors& in) {
        return checkpoint([&](const Tensors& x) { return Tensors{gelu(linear(x[0], in[1]))}; }, {in[0]});
      },
      {{9, 16}, {24, 16}}, 1e-4, 4, 0.5);
}

TEST(OnDevices, Embedding) {
  SKIP_WITHOUT_CUDA_DEVICE();
  const std::vector<std::int32_t> ids = {3, 0, 3, 3, 9, 0, 1};
  std::vector<std::int32_t> order(ids.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(),
                   [&](auto a, auto b) { return ids[static_cast<std::size_t>(a)] < ids[static_cast<std::size_t>(b)]; });
  for (const Index cols : {16, 33}) {
    check_on_devices([&](const Tensors& in) { return Tensors{embedding(ints(ids, in[0]), ints(order, in[0]), in[0])}; },
                     {{10, cols}});
  }
}

TEST(OnDevices, GatherRows) {
  SKIP_WITHOUT_CUDA_DEVICE();
  for (const Index cols : {16, 33}) {
    check_on_devices(
        [](const Tensors& in) {
          return Tensors{gather_rows(in[0], ints({0, 2, 3, 8}, in[0]))};
        },
        {{9, cols}});
  }
}

TEST(OnDevices, Rope) {
  SKIP_WITHOUT_CUDA_DEVICE();
  check_on_devices(
      [](const Tensors& in) {
        const Tensor table = rope_table(40, 64, 10000, in[0].dtype(), in[0].device());
        return Tensors{rope(in[0], ints({0, 1, 2, 0, 39}, in[0]), table, 2)};
      },
      {{5, 128}});
}

TEST(OnDevices, Dropout) {
  SKIP_WITHOUT_CUDA_DEVICE();
  const PhiloxKey key{7, 1000, 3};
  check_on_devices([&](const Tensors& in) { return Tensors{dropout(in[0], 0.25, key, 64)}; }, {{9, 40}});
  check_on_devices(
      [&](const Tensors& in) {
        return Tensors{dropout(in[0], 0.25, {7, 1000, 0}, ints({64, 0, 3, 0}, in[0]))};  // row 64, step 3
      },
      {{9, 40}});
}

TEST(OnDevices, Attention) {
  SKIP_WITHOUT_CUDA_DEVICE();
  for (const Index kv_heads : {1, 2}) {
    check_on_devices(
        [&](const Tensors& in) {
          const AttentionLayout layout = {ints({0, 3, 3, 60, 60}, in[0]), ints({1, 0, 20, 0}, in[0])};
          return Tensors{attention(in[0], in[1], in[2], layout, 2, kv_heads, 0.125)};
        },
        {{64, 128}, {64, 64 * kv_heads}, {64, 64 * kv_heads}}, 1e-4, 6);
  }
}

TEST(OnDevices, HeadAndCrossEntropy) {
  SKIP_WITHOUT_CUDA_DEVICE();
  const std::vector<double> counts = {1, 0, 0.5, 1, 2, 1, 1, 1, 0.25, 1, 1};
  for (const Index chunk : {256, 4}) {
    check_on_devices(
        [&](const Tensors& in) {
          const Tensor targets = ints({1, 5, 0, 39, 2, 2, 17, 8, 30, 4, 1}, in[0]);
          const Tensor weights = tensor_of(counts, {11}, accumulator(in[0].dtype()), in[0].device());
          return Tensors{head_cross_entropy(in[0], in[1], targets, weights, chunk)};
        },
        {{11, 16}, {40, 16}}, 1e-4, 6, 0.5);
  }
}

/// As in training: the loss is the root, and the gradient of the head is added where it is kept.
TEST(OnDevices, HeadOfARootAddsToTheGradientInPlace) {
  SKIP_WITHOUT_CUDA_DEVICE();
  const auto values = normal<double>(11 * 16, 1, 0.5), weight_values = normal<double>(40 * 16, 2, 0.5);
  const auto run = [&](DType dtype, Device device, bool root) {
    Tensor hidden = tensor_of(values, {11, 16}, dtype, device),
           weight = tensor_of(weight_values, {40, 16}, dtype, device);
    hidden.attach_gradient(Tensor::zeros({11, 16}, accumulator(dtype), device));
    weight.attach_gradient(tensor_of(std::vector<double>(40 * 16, 0.25), {40, 16}, accumulator(dtype), device));
    Tape tape;
    Tensor loss;
    {
      const TapeScope scope(tape);
      const Tensor targets = ints(integers(11, 40, 3), hidden);
      const Tensor weights = tensor_of(std::vector<double>(11, 0.5), {11}, accumulator(dtype), device);
      loss = head_cross_entropy(hidden, weight, targets, weights, 4, nullptr, root);
    }
    tape.backward(loss);
    return std::vector{as_doubles(loss), as_doubles(hidden.gradient()), as_doubles(weight.gradient())};
  };
  const auto near = [](const auto& got, const auto& want, double tolerance) {
    for (std::size_t i = 0; i < want.size(); ++i) {
      for (std::size_t e = 0; e < want[i].size(); ++e) {
        ASSERT_NEAR(got[i][e], want[i][e], tolerance * (1 + std::abs(want[i][e]))) << i << " " << e;
      }
    }
  };
  const auto exact = run(DType::f64, Device::cpu, false);
  near(run(DType::f64, Device::cpu, true), exact, 1e-14);
  for (const Device device : cuda_devices()) {
    near(run(DType::f32, device, true), exact, 1e-5);
    near(run(DType::bf16, device, true), exact, 2e-2);
  }
}

}  // namespace
}  // namespace unfurl::tests
