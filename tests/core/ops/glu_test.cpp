#include "core/ops/glu.h"

#include "core/ops/add.h"
#include "tests/support/expect_error.h"
#include "tests/support/gradient_check.h"

namespace unfurl::tests {
namespace {

using kernels::Activation;

const Shape kShapes[] = {{1, 1}, {3, 31}, {5, 33}, {129, 3}};

TEST(Glu, GradientsAreThoseOfDifferences) {
  for (const Shape& shape : kShapes) {
    for (const Activation activation : {Activation::silu, Activation::gelu}) {
      check_gradients([=](const auto& in) { return std::vector{glu(in[0], in[1], activation)}; },
                      {normal_tensor(shape, 1, 2), normal_tensor(shape, 2)});
    }
    check_gradients([](const auto& in) { return std::vector{gelu(in[0])}; }, {normal_tensor(shape, 1, 2)});
  }
}

TEST(Glu, OneInputMayBeAConstant) {
  const Tensor gate = normal_tensor({5, 33}, 1), up = normal_tensor({5, 33}, 2);
  check_gradients([&](const auto& in) { return std::vector{glu(in[0], up, Activation::silu)}; }, {gate});
  check_gradients([&](const auto& in) { return std::vector{glu(gate, in[0], Activation::silu)}; }, {up});
}

// As in a parallel block: gate and up are slices of one projection, and the outputs are slices of the next one's input.
TEST(Glu, SlicesInAndOutEqualSeparateTensors) {
  for (const Index cols : {1, 16, 33}) {
    const auto joint = [cols](const std::vector<Tensor>& in) {
      const Tensor projection = copy(in[0]);
      const Tensor wide = Tensor::empty({in[0].rows(), 2 * cols}, DType::f64);
      gelu(projection.columns(0, cols), wide.columns(0, cols));
      glu(projection.columns(cols, 2 * cols), projection.columns(2 * cols, 3 * cols), Activation::silu,
          wide.columns(cols, 2 * cols));
      return std::vector{copy(wide)};
    };
    const auto separate = [cols](const std::vector<Tensor>& in) {
      const Tensor wide = Tensor::empty({in[0].rows(), 2 * cols}, DType::f64);
      const Tensor x = copy(in[0].columns(0, cols)), gate = copy(in[0].columns(cols, 2 * cols));
      const Tensor up = copy(in[0].columns(2 * cols, 3 * cols));
      // gelu(x) = gelu(x) * 1, written by the gated form.
      const Tensor one = Tensor::from(std::vector<double>(static_cast<std::size_t>(x.numel()), 1.0), x.shape());
      glu(x, one, Activation::gelu, wide.columns(0, cols));
      glu(gate, up, Activation::silu, wide.columns(cols, 2 * cols));
      return std::vector{copy(wide)};
    };
    expect_same_function(joint, separate, {normal_tensor({5, 3 * cols}, 1)});
    check_gradients(joint, {normal_tensor({5, 3 * cols}, 1)});
  }
}

TEST(Glu, NamesWhatDoesNotFit) {
  const Tensor x = normal_tensor({5, 8}, 1), y = normal_tensor({5, 4}, 2);
  EXPECT_EQ(error_of([&] { glu(x, y, Activation::silu); }), "glu: up must be f64 [5, 8], got f64 [5, 4]");
  EXPECT_EQ(error_of([&] { gelu(x, y); }), "gelu: destination must be f64 [5, 8], got f64 [5, 4]");
}

}  // namespace
}  // namespace unfurl::tests
