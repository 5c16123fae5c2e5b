#include "core/comm/data_parallel.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "core/dispatch.h"
#include "core/optim/adamw.h"
#include "tests/support/random.h"
#include "tests/support/rank_threads.h"

namespace unfurl {
namespace {

using tests::on_ranks;

constexpr Index kBlock = kernels::kNormBlock;

/// Parameters of several blocks, in order of use; "idle" never gets a gradient.
std::unique_ptr<Parameters> make_parameters() {
  auto out = std::make_unique<Parameters>();
  out->declare("table", {kBlock + 100}, ParameterGroup::decayed);
  out->declare("gain", {70}, ParameterGroup::undecayed);
  out->declare("one", {2 * kBlock}, ParameterGroup::decayed);
  out->declare("idle", {kBlock / 2}, ParameterGroup::decayed);
  out->declare("two", {kBlock}, ParameterGroup::decayed);
  out->declare("last_gain", {kBlock + 7}, ParameterGroup::undecayed);
  out->allocate(DType::f32, Device::cpu, true);
  for (std::size_t i = 0; i < out->all().size(); ++i) {
    const auto values = tests::normal<float>((*out)[i].numel(), 50 + i);
    std::copy(values.begin(), values.end(), (*out)[i].data<float>());
  }
  return out;
}

/// A micro-batch's part of the gradient of parameter i: numbers of many sizes, so that the order of sums shows.
std::vector<float> part_of(std::size_t i, int rank, int step, Index count) {
  std::vector<float> values(static_cast<std::size_t>(count));
  const std::uint32_t seed = 7919U * static_cast<std::uint32_t>(step) + 104729U * static_cast<std::uint32_t>(i) +
                             1299709U * static_cast<std::uint32_t>(rank);
  for (std::uint32_t k = 0; k < values.size(); ++k) {
    const std::uint32_t bits = (k + seed) * 2654435761U;
    values[k] = (static_cast<float>(bits >> 8) * 0x1p-23F - 1) * (bits % 3 == 0 ? 1e3F : 1);
  }
  return values;
}

void add_to(const Tensor& gradient, const std::vector<float>& values) {
  for (std::size_t i = 0; i < values.size(); ++i) gradient.data<float>()[i] += values[i];
}

/// A model that reads "table" at both ends, as a tied head does, and everything else but "idle" once. Backward adds
/// part_of() to each gradient and tells `events`.
Tensor forward(const Parameters& parameters, int rank, int step, std::vector<std::string>& events) {
  Tensor x = Tensor::zeros({1}, DType::f32);
  for (const std::size_t i : {0U, 1U, 2U, 4U, 5U, 0U}) {
    const Tensor y = Tensor::zeros({1}, DType::f32);
    record("use", {x, parameters[i]}, {y}, [&parameters, &events, i, rank, step](Backward& backward) {
      events.push_back("backward of " + parameters.all()[i].name);
      backward.pass(0, backward.cotangent(0));
      const Tensor gradient = backward.accumulator(1);
      add_to(gradient, part_of(i, rank, step, gradient.numel()));
    });
    x = y;
  }
  return x;
}

std::vector<float> values_of(const Parameters& parameters) {
  std::vector<float> out;
  for (const ParameterGroup group : {ParameterGroup::decayed, ParameterGroup::undecayed}) {
    const auto values = parameters.values(group).values<float>();
    out.insert(out.end(), values.begin(), values.end());
  }
  return out;
}

/// What one rank makes of the gradients of all, summed along the tree.
std::vector<float> alone(int ranks, int steps) {
  const auto parameters = make_parameters();
  AdamW optimizer(*parameters, {});
  for (int step = 0; step < steps; ++step) {
    std::vector<std::vector<float>> sums(static_cast<std::size_t>(ranks));
    for (std::size_t i = 0; i < parameters->all().size(); ++i) {
      if (i == 3) continue;
      const Index count = (*parameters)[i].numel();
      for (int rank = 0; rank < ranks; ++rank) {
        auto& sum = sums[static_cast<std::size_t>(rank)];
        sum = part_of(i, rank, step, count);
        if (i == 0) {
          for (float& value : sum) value += value;  // read twice
        }
      }
      for (std::size_t width = 1; width < sums.size(); width *= 2) {
        for (std::size_t r = 0; r + width < sums.size(); r += 2 * width) {
          for (std::size_t k = 0; k < sums[r].size(); ++k) sums[r][k] += sums[r + width][k];
        }
      }
      add_to((*parameters)[i].gradient(), sums[0]);
    }
    optimizer.step(1e-2);
  }
  return values_of(*parameters);
}

TEST(DataParallelTest, BucketsOfAnySizeGiveTheBitsOfOneRank) {
  constexpr int kSteps = 2;
  for (const int ranks : {2, 4}) {
    const std::vector<float> expected = alone(ranks, kSteps);
    for (const auto& [size, overlapped] : {std::pair{1, true}, {2, false}, {100, true}, {0, true}}) {
      const Index blocks = size;
      const bool overlap = overlapped;
      SCOPED_TRACE(fmt::format("{} ranks, {} blocks, overlap {}", ranks, blocks, overlap));
      on_ranks(ranks, [&](Communicator& communicator) {
        kernels::ThreadPool pool(1);
        const kernels::CpuQueue queue(pool);
        const QueueScope scope(queue);
        const auto parameters = make_parameters();
        DataParallel together(communicator, *parameters, true, blocks);
        AdamW optimizer(*parameters, {}, together.share());
        std::vector<std::string> events;
        const auto sum = [&](ParameterGroup group, const Range& part) {
          return parameters->gradients(group).span_of(part.begin, {part.size()});
        };
        for (int step = 0; step < kSteps; ++step) {
          Tape tape;
          Tensor loss;
          {
            const TapeScope recorded(tape);
            loss = forward(*parameters, communicator.rank(), step, events);
          }
          if (overlap) together.reduce_during(tape, sum);
          tape.backward(loss);
          together.reduce_gradients(sum);
          optimizer.step(1e-2);
          together.gather_values();
        }
        EXPECT_EQ(values_of(*parameters), expected);
        for (const ParameterGroup group : {ParameterGroup::decayed, ParameterGroup::undecayed}) {
          for (const float value : parameters->gradients(group).values<float>()) ASSERT_EQ(value, 0);
        }
      });
    }
  }
}

TEST(DataParallelTest, EveryRankHasAllSumsWhereUpdatesAreNotShared) {
  on_ranks(2, [](Communicator& communicator) {
    const auto parameters = make_parameters();
    DataParallel together(communicator, *parameters, false, 2);
    EXPECT_EQ(together.share().ranks, 1);
    for (const std::size_t i : {0U, 1U, 2U, 4U, 5U}) {
      add_to((*parameters)[i].gradient(), part_of(i, communicator.rank(), 0, (*parameters)[i].numel()));
    }
    together.reduce_gradients([&](ParameterGroup group, const Range& part) {
      return parameters->gradients(group).span_of(part.begin, {part.size()});
    });
    for (const std::size_t i : {0U, 1U, 2U, 4U, 5U}) {
      std::vector<float> expected = part_of(i, 0, 0, (*parameters)[i].numel());
      const std::vector<float> other = part_of(i, 1, 0, (*parameters)[i].numel());
      for (std::size_t k = 0; k < expected.size(); ++k) expected[k] += other[k];
      EXPECT_EQ((*parameters)[i].gradient().values<float>(), expected);
    }
  });
}

TEST(DataParallelTest, ABucketIsSummedWhileBackwardGoesOn) {
  // The decayed arena is table (to 65,636 and padding), one, idle and two, the undecayed one gain and last_gain.
  on_ranks(2, [](Communicator& communicator) {
    const auto parameters = make_parameters();
    DataParallel together(communicator, *parameters, true, 1);
    std::vector<std::string> events;
    Tape tape;
    Tensor loss;
    {
      const TapeScope recorded(tape);
      loss = forward(*parameters, communicator.rank(), 0, events);
    }
    const auto sum = [&](ParameterGroup group, const Range& part) {
      events.push_back(fmt::format("{} {}", name_of(group), part.begin / kBlock));
      return parameters->gradients(group).span_of(part.begin, {part.size()});
    };
    together.reduce_during(tape, sum);
    tape.backward(loss);
    events.emplace_back("end");
    together.reduce_gradients(sum);
    EXPECT_EQ(events,
              (std::vector<std::string>{"backward of table", "backward of last_gain", "undecayed 1", "backward of two",
                                        "decayed 4", "backward of one", "decayed 3", "decayed 2", "backward of gain",
                                        "undecayed 0", "backward of table", "decayed 1", "decayed 0", "end"}));
  });
}

TEST(DataParallelTest, ARankHoldsItsPartOfTheOptimisersState) {
  Parameters parameters;
  parameters.declare("matrix", {64 * kBlock}, ParameterGroup::decayed);
  parameters.allocate(DType::f32, Device::meta, true);
  for (const int ranks : {2, 4, 8}) {
    for (const Index blocks : {0, 1, 8}) {
      Communicator planned(ranks);
      DataParallel together(planned, parameters, true, blocks);
      const AdamW optimizer(parameters, {}, together.share());
      for (const StateTensor& state : optimizer.state()) EXPECT_EQ(state.tensor.numel() * ranks, 64 * kBlock);
    }
  }
}

TEST(DataParallelTest, BucketsFollowTheSizeOfTheModel) {
  EXPECT_EQ(bucket_blocks_for(1), 1);
  EXPECT_EQ(bucket_blocks_for(6 * kBlock), 1);
  EXPECT_EQ(bucket_blocks_for(60 * kBlock), 8);
  EXPECT_EQ(bucket_blocks_for(80 * kBlock), 16);
  EXPECT_EQ(bucket_blocks_for(2000 * kBlock), 64);  // 16 MiB
  EXPECT_EQ(bucket_blocks_for(16384 * kBlock), 256);
  EXPECT_EQ(bucket_blocks_for(16385 * kBlock), 320);
  // A block is a quarter of a MiB: with more than four ranks 16 for each, and no more than an eighth of the model.
  EXPECT_EQ(bucket_blocks_for(2000 * kBlock, 4), 64);
  EXPECT_EQ(bucket_blocks_for(2000 * kBlock, 8), 128);
  EXPECT_EQ(bucket_blocks_for(2000 * kBlock, 1024), 256);
  EXPECT_EQ(bucket_blocks_for(16385 * kBlock, 16), 320);
  EXPECT_EQ(bucket_blocks_for(16385 * kBlock, 64), 1024);
  EXPECT_EQ(bucket_blocks_for(16384 * kBlock, 1024), 2048);
  EXPECT_EQ(bucket_blocks_for(16385 * kBlock, 1024), 3072);
  EXPECT_EQ(bucket_blocks_for(60 * kBlock, 1024), 8);
}

}  // namespace
}  // namespace unfurl
