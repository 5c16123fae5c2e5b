#include "core/autograd.h"

#include <gtest/gtest.h>

#include "core/dispatch.h"
#include "core/ops/add.h"

namespace unfurl {
namespace {

Tensor leaf(const std::vector<double>& values, Shape shape) {
  Tensor x = Tensor::from(values, shape);
  x.attach_gradient(Tensor::zeros(shape, DType::f64));
  return x;
}

/// y = factor * x, written here so that the tape is tested apart from the operations.
Tensor times(const Tensor& x, double factor, const Tensor& destination = {}, int* calls = nullptr) {
  const Tensor y = destination.defined() ? destination : Tensor::empty(x.shape(), x.dtype(), x.device());
  const auto apply = [factor](const Tensor& out, const Tensor& in) {
    for (Index r = 0; r < in.rows(); ++r) {
      for (Index c = 0; c < in.cols(); ++c) out.matrix<double>().row(r)[c] = factor * in.matrix<double>().row(r)[c];
    }
  };
  apply(y, x);
  record("times", {x}, {y}, [=](Backward& backward) {
    if (calls != nullptr) ++*calls;
    apply(backward.gradient(0), backward.cotangent(0));
  });
  return y;
}

TEST(Autograd, NothingIsRecordedWithoutATape) {
  const Tensor x = leaf({1, 2}, {2});
  EXPECT_FALSE(recording({x}));
  EXPECT_FALSE(times(x, 2).needs_gradient());
}

TEST(Autograd, NothingIsRecordedWhereNoInputNeedsIt) {
  Tape tape;
  const TapeScope scope(tape);
  times(Tensor::from<double>({1, 2}, {2}), 2);
  EXPECT_EQ(tape.size(), 0u);
}

TEST(Autograd, ATensorUsedTwiceGetsTheSum) {
  Tape tape;
  Tensor x = leaf({1, 2, 3}, {3}), y;
  {
    const TapeScope scope(tape);
    const Tensor once = times(x, 2);
    y = add(times(once, 3), times(once, 5));
  }
  tape.backward(y, Tensor::from<double>({1, 10, 100}, {3}));
  EXPECT_EQ(x.gradient().values<double>(), (std::vector<double>{16, 160, 1600}));
}

TEST(Autograd, TheSameTensorAsBothInputs) {
  Tape tape;
  Tensor x = leaf({1, 2}, {2}), y;
  {
    const TapeScope scope(tape);
    const Tensor once = times(x, 3);
    y = add(once, once);
  }
  tape.backward(y);
  EXPECT_EQ(x.gradient().values<double>(), (std::vector<double>{6, 6}));
}

TEST(Autograd, AttachedGradientsAccumulateOverRuns) {
  Tensor x = leaf({1, 2}, {2});
  for (int run = 1; run <= 3; ++run) {
    Tape tape;
    Tensor y;
    {
      const TapeScope scope(tape);
      y = times(x, 2);
    }
    tape.backward(y);
    EXPECT_EQ(x.gradient().values<double>(), (std::vector<double>{2.0 * run, 2.0 * run}));
  }
}

TEST(Autograd, SharedCotangentsAreNotAddedInto) {
  // add() passes one cotangent to both inputs; a then gets a second gradient, which b must not see.
  Tape tape;
  Tensor x = leaf({1}, {1}), z = leaf({1}, {1}), y;
  {
    const TapeScope scope(tape);
    const Tensor a = times(x, 1), b = times(z, 1);
    const Tensor again = times(a, 7);
    y = add(add(a, b), again);
  }
  tape.backward(y);
  EXPECT_EQ(x.gradient().item(), 8);
  EXPECT_EQ(z.gradient().item(), 1);
}

TEST(Autograd, SlicesAreWrittenAndReadApart) {
  Tape tape;
  Tensor x = leaf({1, 2, 3, 4, 5, 6}, {2, 3}), y;
  {
    const TapeScope scope(tape);
    const Tensor whole = times(x, 1);
    const Tensor joint = Tensor::zeros({2, 3}, DType::f64);
    times(whole.columns(0, 1), 10, joint.columns(0, 1));
    times(whole.columns(1, 3), 100, joint.columns(1, 3));
    y = times(joint, 2);
  }
  EXPECT_EQ(y.values<double>(), (std::vector<double>{20, 400, 600, 80, 1000, 1200}));
  tape.backward(y, Tensor::from<double>({1, 2, 3, 4, 5, 6}, {2, 3}));
  EXPECT_EQ(x.gradient().values<double>(), (std::vector<double>{20, 400, 600, 80, 1000, 1200}));
}

TEST(Autograd, ColumnsThatNothingReadHaveZeroGradient) {
  Tape tape;
  Tensor x = leaf({1, 2, 3, 4, 5, 6}, {2, 3}), y;
  {
    const TapeScope scope(tape);
    y = times(times(x, 1).columns(1, 2), 5);
  }
  tape.backward(y);
  EXPECT_EQ(x.gradient().values<double>(), (std::vector<double>{0, 5, 0, 0, 5, 0}));
}

TEST(Autograd, OverlappingReadsOfSlicesAndTheWholeAdd) {
  Tape tape;
  Tensor x = leaf({1, 2, 3, 4, 5, 6}, {2, 3}), y;
  {
    const TapeScope scope(tape);
    const Tensor whole = times(x, 1);
    const Tensor left = copy(whole.columns(0, 2)), right = copy(whole.columns(1, 3));
    y = add(times(whole.reshape({3, 2}).reshape({2, 3}).columns(0, 2), 100), add(left, right));
  }
  tape.backward(y);
  EXPECT_EQ(x.gradient().values<double>(), (std::vector<double>{101, 102, 1, 101, 102, 1}));
}

TEST(Autograd, BackwardSkipsWhatTheRootDoesNotDependOn) {
  Tape tape;
  int calls = 0;
  Tensor x = leaf({1, 2}, {2}), y;
  {
    const TapeScope scope(tape);
    y = times(x, 2);
    times(x, 3, {}, &calls);
  }
  tape.backward(y);
  EXPECT_EQ(calls, 0);
  EXPECT_EQ(tape.size(), 0u);
}

TEST(Autograd, BackwardFreesAsItGoes) {
  Tape tape;
  Tensor x = leaf(std::vector<double>(1 << 16, 1), {1 << 16}), y;
  const std::size_t before = Allocator::of(Device::cpu).statistics().live;
  {
    const TapeScope scope(tape);
    y = x;
    for (int i = 0; i < 10; ++i) y = times(y, 1);
  }
  Allocator::of(Device::cpu).reset_peak();
  const std::size_t held = Allocator::of(Device::cpu).statistics().live;
  tape.backward(y);
  y = Tensor();
  EXPECT_EQ(Allocator::of(Device::cpu).statistics().live, before);
  EXPECT_LE(Allocator::of(Device::cpu).statistics().peak, held + 4 * (sizeof(double) << 16));
}

TEST(Autograd, CheckpointGivesTheSameGradients) {
  for (const bool recompute : {false, true}) {
    Tape tape;
    Tensor x = leaf({1, 2}, {2}), w = leaf({0, 0}, {2}), y;
    const auto block = [&](const std::vector<Tensor>& in) {
      const Tensor inner = add(times(in[0], 3), w);
      return std::vector<Tensor>{times(inner, 2), times(in[0], 7)};
    };
    {
      const TapeScope scope(tape);
      const std::vector<Tensor> start = {times(x, 1)};
      const std::vector<Tensor> out = recompute ? checkpoint(block, start) : block(start);
      y = add(out[0], out[1]);
    }
    tape.backward(y, Tensor::from<double>({1, 10}, {2}));
    EXPECT_EQ(x.gradient().values<double>(), (std::vector<double>{13, 130})) << recompute;
    EXPECT_EQ(w.gradient().values<double>(), (std::vector<double>{2, 20})) << recompute;
  }
}

TEST(Autograd, LeavesAreFinalWhenTheLastThatReadsThemIsDone) {
  for (const bool recompute : {false, true}) {
    SCOPED_TRACE(recompute);
    Tape tape;
    Tensor a = leaf({1}, {1}), b = leaf({1}, {1}), c = leaf({1}, {1}), shared = leaf({1}, {1}), idle = leaf({1}, {1});
    const std::vector<std::pair<const char*, Tensor>> names = {
        {"a", a}, {"b", b}, {"c", c}, {"shared", shared}, {"idle", idle}};
    std::vector<std::string> events;
    const auto mark = [&](const Tensor& x, const char* name) {  // says when backward comes by
      const Tensor y = Tensor::empty(x.shape(), x.dtype());
      y.data<double>()[0] = x.data<double>()[0];
      record("mark", {x}, {y}, [&events, name](Backward& backward) {
        events.emplace_back(name);
        backward.pass(0, backward.cotangent(0));
      });
      return y;
    };
    const auto segment = [&](const std::vector<Tensor>& in) { return std::vector<Tensor>{add(add(in[0], b), shared)}; };
    Tensor y;
    {
      const TapeScope scope(tape);
      y = mark(add(times(a, 2), shared), "first");
      for (int i = 0; i < 2; ++i) {
        y = recompute ? checkpoint(segment, {y})[0] : segment({y})[0];
        y = mark(y, "segment");
      }
      y = mark(add(y, c), "last");
      add(y, c);  // leads nowhere, but is read
    }
    EXPECT_EQ(tape.leaves().size(), 4U);
    std::vector<double> at_that_time;
    tape.when_final([&](const Variable& variable) {
      for (const auto& [name, tensor] : names) {
        if (Handle(tensor).variable.get() != &variable) continue;
        events.emplace_back(name);
        at_that_time.push_back(tensor.gradient().item());
      }
    });
    tape.backward(y);
    EXPECT_EQ(events, (std::vector<std::string>{"last", "c", "segment", "segment", "b", "first", "shared", "a"}));
    EXPECT_EQ(at_that_time, (std::vector<double>{1, 2, 3, 2}));
  }
}

TEST(Autograd, ARootWithoutHistoryIsAnError) {
  Tape tape;
  EXPECT_THROW(tape.backward(Tensor::from<double>({1}, {1})), Error);
  const Tensor x = leaf({1}, {1});
  EXPECT_THROW(tape.backward(x, Tensor::from<double>({1, 2}, {2})), Error);
}

}  // namespace
}  // namespace unfurl
