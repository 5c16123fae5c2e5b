#include "core/ops/add.h"
#include "core/ops/layer_norm.h"
#include "core/ops/rms_norm.h"
#include "tests/support/expect_error.h"
#include "tests/support/gradient_check.h"

namespace unfurl::tests {
namespace {

constexpr double kEps = 1e-5;
const Shape kShapes[] = {{1, 2}, {3, 31}, {5, 33}, {2, 3, 65}, {129, 7}};

TEST(RmsNorm, GradientsAreThoseOfDifferences) {
  for (const Shape& shape : kShapes) {
    check_gradients([](const auto& in) { return std::vector{rms_norm(in[0], in[1], kEps)}; },
                    {normal_tensor(shape, 1), normal_tensor({shape[-1]}, 2)});
    check_gradients(
        [](const auto& in) {
          const auto [s, y] = add_rms_norm(in[0], in[1], in[2], kEps);
          return std::vector{s, y};
        },
        {normal_tensor(shape, 1), normal_tensor(shape, 2), normal_tensor({shape[-1]}, 3)});
  }
}

TEST(LayerNorm, GradientsAreThoseOfDifferences) {
  for (const Shape& shape : kShapes) {
    check_gradients([](const auto& in) { return std::vector{layer_norm(in[0], in[1], in[2], kEps)}; },
                    {normal_tensor(shape, 1), normal_tensor({shape[-1]}, 2), normal_tensor({shape[-1]}, 3)});
    check_gradients([](const auto& in) { return std::vector{layer_norm(in[0], in[1], {}, kEps)}; },
                    {normal_tensor(shape, 1), normal_tensor({shape[-1]}, 2)});
    check_gradients(
        [](const auto& in) {
          const auto [s, y] = add_layer_norm(in[0], in[1], in[2], in[3], kEps);
          return std::vector{s, y};
        },
        {normal_tensor(shape, 1), normal_tensor(shape, 2), normal_tensor({shape[-1]}, 3),
         normal_tensor({shape[-1]}, 4)});
  }
}

// The fused forms are a sum and a norm, also inside a graph: every input is itself computed, used again, and the sum
// goes on.
TEST(RmsNorm, FusedEqualsElementary) {
  for (const Shape& shape : kShapes) {
    const auto graph = [](bool fused) {
      return [fused](const std::vector<Tensor>& in) {
        const Tensor x = copy(in[0]), residual = add(in[1], x);
        Tensor s, y;
        if (fused) {
          std::tie(s, y) = add_rms_norm(x, residual, in[2], kEps);
        } else {
          s = add(x, residual);
          y = rms_norm(s, in[2], kEps);
        }
        return std::vector{add(s, y), add(residual, y)};
      };
    };
    expect_same_function(graph(true), graph(false),
                         {normal_tensor(shape, 1), normal_tensor(shape, 2), normal_tensor({shape[-1]}, 3)});
  }
}

TEST(LayerNorm, FusedEqualsElementary) {
  for (const Shape& shape : kShapes) {
    const auto graph = [](bool fused) {
      return [fused](const std::vector<Tensor>& in) {
        const Tensor x = copy(in[0]);
        if (fused) {
          const auto [s, y] = add_layer_norm(x, x, in[1], in[2], kEps);
          return std::vector{add(s, y), s};
        }
        const Tensor s = add(x, x);
        return std::vector{add(s, layer_norm(s, in[1], in[2], kEps)), s};
      };
    };
    expect_same_function(graph(true), graph(false),
                         {normal_tensor(shape, 1), normal_tensor({shape[-1]}, 2), normal_tensor({shape[-1]}, 3)});
  }
}

// Only one of the outputs is used, or only one of the inputs needs a gradient.
TEST(RmsNorm, PartsOfTheGraphMayBeMissing) {
  const Tensor x = normal_tensor({5, 33}, 1), residual = normal_tensor({5, 33}, 2), gain = normal_tensor({33}, 3);
  check_gradients([&](const auto& in) { return std::vector{add_rms_norm(in[0], in[1], gain, kEps).first}; },
                  {x, residual});
  check_gradients([&](const auto& in) { return std::vector{add_rms_norm(in[0], in[1], in[2], kEps).second}; },
                  {x, residual, gain});
  check_gradients([&](const auto& in) { return std::vector{add_rms_norm(x, in[0], gain, kEps).second}; }, {residual});
  check_gradients([&](const auto& in) { return std::vector{add_rms_norm(x, residual, in[0], kEps).second}; }, {gain});
}

TEST(RmsNorm, ReadsColumnSlices) {
  check_gradients(
      [](const auto& in) {
        const Tensor wide = copy(in[0]);
        return std::vector{rms_norm(wide.columns(0, 31), in[1], kEps), rms_norm(wide.columns(34, 65), in[1], kEps)};
      },
      {normal_tensor({7, 70}, 1), normal_tensor({31}, 2)});
}

TEST(RmsNorm, NamesWhatDoesNotFit) {
  const Tensor x = normal_tensor({5, 64}, 1), gain = normal_tensor({32}, 2);
  EXPECT_EQ(error_of([&] { rms_norm(x, gain, kEps); }), "rms_norm: gain must be [64], got [32]");
  EXPECT_EQ(error_of([&] { add_rms_norm(x, gain, normal_tensor({64}, 1), kEps); }),
            "add_rms_norm: residual must be [5, 64], got [32]");
  EXPECT_EQ(error_of([&] { layer_norm(x, normal_tensor({64}, 1), gain, kEps); }),
            "layer_norm: bias must be [64], got [32]");
  EXPECT_EQ(error_of([&] { rms_norm(x, Tensor::zeros({64}, DType::f32), kEps); }),
            "Tensor::data: expected f64, got f32");
}

}  // namespace
}  // namespace unfurl::tests
