#include "train/trainer/slots.h"

#include <gtest/gtest.h>

#include "core/copy.h"
#include "core/optim/optimizer.h"
#include "tests/support/expect_error.h"
#include "tests/support/random.h"

namespace unfurl::train {
namespace {

constexpr Index kDecayed = 1037, kUndecayed = 65;

/// The gradients of a slot: numbers of very different sizes, so that another order of summation gives other bits.
std::vector<float> slot_gradient(Index count, Index slot, std::uint64_t seed) {
  auto values = tests::normal<float>(count, seed + static_cast<std::uint64_t>(slot));
  for (std::size_t i = 0; i < values.size(); ++i) values[i] *= (i + static_cast<std::size_t>(slot)) % 3 == 0 ? 1e4f : 1;
  return values;
}

/// (0 + 1) + (2 + 3), ... in f32.
std::vector<float> tree_sum(const std::vector<std::vector<float>>& slots, std::size_t begin, std::size_t end) {
  if (end - begin == 1) return slots[begin];
  const std::size_t middle = begin + (end - begin) / 2;
  std::vector<float> sum = tree_sum(slots, begin, middle);
  const std::vector<float> right = tree_sum(slots, middle, end);
  for (std::size_t i = 0; i < sum.size(); ++i) sum[i] += right[i];
  return sum;
}

void add_to(const Tensor& gradient, const std::vector<float>& values) {
  for (std::size_t i = 0; i < values.size(); ++i) gradient.data<float>()[i] += values[i];
}

void expect_zero(const Parameters& parameters) {
  for (const ParameterGroup group : {ParameterGroup::decayed, ParameterGroup::undecayed}) {
    const Tensor& gradients = parameters.gradients(group);
    if (!gradients.defined()) continue;
    for (const float value : gradients.values<float>()) ASSERT_EQ(value, 0);
  }
}

TEST(SlotTree, SumsAlongAFixedTree) {
  for (const Index slots : {1, 2, 4, 8, 16}) {
    SCOPED_TRACE(slots);
    Parameters parameters;
    parameters.declare("matrix", {kDecayed}, ParameterGroup::decayed);
    parameters.declare("gain", {kUndecayed}, ParameterGroup::undecayed);
    parameters.allocate(DType::f32, Device::cpu, true);
    SlotTree tree(parameters, slots);
    for (std::uint64_t step = 0; step < 3; ++step) {
      std::vector<std::vector<float>> matrix, gain;
      for (Index slot = 0; slot < slots; ++slot) {
        expect_zero(parameters);
        matrix.push_back(slot_gradient(kDecayed, slot, 100 * step));
        gain.push_back(slot_gradient(kUndecayed, slot, 100 * step + 50));
        // Attached to the parameters, wherever the tree has put them.
        add_to(parameters[0].gradient(), matrix.back());
        add_to(parameters[1].gradient(), gain.back());
        tree.finish_slot();
      }
      EXPECT_EQ(parameters[0].gradient().values<float>(), tree_sum(matrix, 0, matrix.size()));
      EXPECT_EQ(parameters[1].gradient().values<float>(), tree_sum(gain, 0, gain.size()));
      clear_gradients(parameters);
    }
  }
}

TEST(SlotTree, TheLastSlotMayEndPartByPart) {
  for (const Index slots : {1, 2, 8}) {
    SCOPED_TRACE(slots);
    Parameters parameters;
    parameters.declare("matrix", {kDecayed}, ParameterGroup::decayed);
    parameters.declare("gain", {kUndecayed}, ParameterGroup::undecayed);
    parameters.allocate(DType::f32, Device::cpu, true);
    SlotTree tree(parameters, slots);
    for (std::uint64_t step = 0; step < 3; ++step) {
      std::vector<std::vector<float>> matrix;
      for (Index slot = 0; slot < slots; ++slot) {
        expect_zero(parameters);
        EXPECT_EQ(tree.last(), slot + 1 == slots);
        matrix.push_back(slot_gradient(kDecayed, slot, 100 * step));
        const Tensor gradient = parameters[0].gradient();
        if (!tree.last()) {
          add_to(gradient, matrix.back());
          tree.finish_slot();
          continue;
        }
        // The end of the matrix is whole before its start has a gradient.
        const Index middle = 500, all = parameters.gradients(ParameterGroup::decayed).numel();
        for (Index i = middle; i < kDecayed; ++i)
          gradient.data<float>()[i] += matrix.back()[static_cast<std::size_t>(i)];
        const Tensor end = tree.finish_part(ParameterGroup::decayed, {middle, all});
        tree.finish_part(ParameterGroup::undecayed, {0, parameters.gradients(ParameterGroup::undecayed).numel()});
        fill(end.span_of(0, {1}), 5);  // it is the caller's
        for (Index i = 0; i < middle; ++i) gradient.data<float>()[i] += matrix.back()[static_cast<std::size_t>(i)];
        tree.finish_part(ParameterGroup::decayed, {0, middle});
        tree.finish_slot();
      }
      std::vector<float> expected = tree_sum(matrix, 0, matrix.size());
      expected[500] = 5;
      EXPECT_EQ(parameters[0].gradient().values<float>(), expected);
      clear_gradients(parameters);
    }
  }
}

TEST(SlotTree, ManagesWithoutOneOfTheGroups) {
  Parameters parameters;
  parameters.declare("gain", {3}, ParameterGroup::undecayed);
  parameters.allocate(DType::f32, Device::cpu, true);
  SlotTree tree(parameters, 4);
  for (int slot = 0; slot < 4; ++slot) {
    add_to(parameters[0].gradient(), {1, 2, 3});
    tree.finish_slot();
  }
  EXPECT_EQ(parameters[0].gradient().values<float>(), (std::vector<float>{4, 8, 12}));
}

TEST(SlotTree, TakesALogarithmOfBuffers) {
  Parameters parameters;
  parameters.declare("matrix", {1 << 16}, ParameterGroup::decayed);
  Allocator::of(Device::cpu).trim();  // what tests before have left may be a little larger than asked for
  parameters.allocate(DType::f32, Device::cpu, true);
  const std::size_t before = Allocator::of(Device::cpu).statistics().live;
  const SlotTree tree(parameters, 16);
  EXPECT_EQ(Allocator::of(Device::cpu).statistics().live - before, 4u * (1 << 16) * sizeof(float));
}

TEST(SlotTree, SlotsAreAPowerOfTwo) {
  Parameters parameters;
  parameters.allocate(DType::f32, Device::cpu, true);
  EXPECT_NE(tests::error_of([&] { SlotTree(parameters, 6); }), "");
}

}  // namespace
}  // namespace unfurl::train
