// Every wrapper of an instruction, on random inputs, against plain loops: as the CPU executes it (host-cuda) and as a
// GPU does (cuda). Run it first on a new GPU: all other CUDA tests believe the wrappers.
#include "tests/kernels/ptx_conformance.h"

#include <cmath>
#include <limits>

#include "kernels/philox.h"
#include "tests/support/backends.h"

namespace unfurl::tests {
namespace {

/// Calls body.operator()<Queue>() for each GPU backend that this binary and machine have.
template <class Body>
void on_gpu_backends(const Body& body, [[maybe_unused]] int major = 8) {
  bool any = false;
#if defined(UNFURL_HOST_CUDA)
  {
    SCOPED_TRACE("CUDA executed on the CPU");
    body.template operator()<kernels::HostCudaQueue>();
    any = true;
  }
#endif
#if defined(UNFURL_CUDA)
  // Hopper's own instructions are no other architecture's.
  const int found = kernels::CudaQueue::device_count() > 0 ? kernels::CudaQueue::properties().major : 0;
  if (major == 9 ? found == 9 : found >= major) {
    SCOPED_TRACE("CUDA");
    body.template operator()<kernels::CudaQueue>();
    any = true;
  }
#endif
  if (!any) GTEST_SKIP() << "no CUDA backend here, or not this GPU's instructions";
}

template <class T>
std::vector<std::vector<T>> only(const std::vector<T>& result) {
  return {result};
}

std::vector<std::uint32_t> random_words(Index count, std::uint64_t seed) {
  std::vector<std::uint32_t> out(static_cast<std::size_t>(count));
  for (std::size_t i = 0; i < out.size(); ++i) out[i] = philox({seed, 1, 2}, i)[0];
  return out;
}

TEST(PtxConformance, Shuffles) {
  const std::vector<std::uint32_t> in = random_words(64, 1);
  on_gpu_backends([&]<class Queue>() {
    const auto got = on_queues<Queue>([&](const Queue& queue) {
      Guarded<std::uint32_t, Queue> out(queue, 8 * 64);
      const Guarded<std::uint32_t, Queue> from(queue, in);
      run_shuffles<Queue>(queue, out.data(), from.data());
      return only(out.values());
    });
    for (std::size_t t = 0; t < 64; ++t) {
      const std::size_t warp = t / 32 * 32, lane = t % 32;
      std::uint32_t votes = 0;
      float sum = 0;
      for (std::size_t i = 0; i < 32; ++i) {
        votes |= (in[warp + i] % 2) << i;
        sum += static_cast<float>(in[warp + i] % 1000);
      }
      EXPECT_EQ(got[0][t], in[warp + (lane ^ 5)]);
      EXPECT_EQ(got[0][64 + t], in[warp + 7]);
      EXPECT_EQ(got[0][128 + t], in[lane >= 3 ? t - 3 : t]);
      EXPECT_EQ(got[0][192 + t], in[lane < 23 ? t + 9 : t]);
      EXPECT_EQ(got[0][256 + t], votes);
      EXPECT_EQ(std::bit_cast<float>(got[0][320 + t]), sum);  // whole numbers: exact
      EXPECT_EQ(got[0][384 + t], in[warp + (lane ^ 5)]);
      EXPECT_EQ(got[0][448 + t], ~in[warp + (lane ^ 5)]);
    }
  });
}

TEST(PtxConformance, Arithmetic) {
  std::vector<float> in = normal<float>(2000, 2, 20);
  const float infinity = std::numeric_limits<float>::infinity();
  // Ties, the greatest bf16 and what rounds beyond, signed zeros, infinities.
  for (const float v : {1.00390625f, 1.01171875f, 3.3895314e38f, 3.4e38f, 0.0f, -0.0f, infinity, -infinity, 1e-30f}) {
    in.push_back(v);
  }
  const auto count = static_cast<Index>(in.size());
  on_gpu_backends([&]<class Queue>() {
    const Queue queue;
    Guarded<float, Queue> ex2(queue, count), rounded_out(queue, count);
    Guarded<std::uint32_t, Queue> packed(queue, count), random(queue, 4 * count);
    const Guarded<float, Queue> from(queue, in);
    run_arithmetic<Queue>(queue, ex2.data(), packed.data(), rounded_out.data(), random.data(), from.data(),
                          static_cast<int>(count));
    const auto powers = ex2.values(), widened = rounded_out.values();
    const auto pairs = packed.values(), numbers = random.values();
    for (std::size_t i = 0; i < in.size(); ++i) {
      const double power = std::exp2(static_cast<double>(in[i]));
      if (power < 1e38) {
        EXPECT_NEAR(static_cast<double>(powers[i]), power, 4e-7 * power + 1.2e-38) << in[i];
      } else {
        EXPECT_GT(powers[i], 9e37f) << in[i];
      }
      EXPECT_EQ(pairs[i], std::uint32_t{to_bf16(in[i]).bits} | std::uint32_t{to_bf16(-in[i]).bits} << 16) << in[i];
      EXPECT_EQ(std::bit_cast<std::uint32_t>(widened[i]), std::uint32_t{to_bf16(in[i]).bits} << 16) << in[i];
      const auto want = philox({42, 7, 9}, i);
      for (std::size_t k = 0; k < 4; ++k) ASSERT_EQ(numbers[4 * i + k], want[k]);
    }
  });
}

TEST(PtxConformance, AsynchronousCopies) {
  const std::vector<std::uint32_t> in = random_words(17 * 4, 3);
  on_gpu_backends([&]<class Queue>() {
    const auto got = on_queues<Queue>([&](const Queue& queue) {
      Guarded<std::uint32_t, Queue> out(queue, 17 * 4);
      const Guarded<std::uint32_t, Queue> from(queue, in);
      run_copies<Queue>(queue, out.data(), from.data());
      return only(out.values());
    });
    for (std::size_t i = 0; i < 17; ++i) {
      std::uint32_t want[4] = {};
      std::memcpy(want, &in[4 * i], i > 0 ? i - 1 : 16);
      for (std::size_t k = 0; k < 4; ++k) EXPECT_EQ(got[0][4 * i + k], want[k]) << i;
    }
  });
}

TEST(PtxConformance, Matrices) {
  std::vector<std::uint16_t> in(64 * 8);
  for (std::size_t i = 0; i < in.size(); ++i) in[i] = static_cast<std::uint16_t>(philox({4, 0, 0}, i)[0]);
  const std::vector<std::int32_t> rows = integers(32, 64, 5);
  on_gpu_backends([&]<class Queue>() {
    const auto got = on_queues<Queue>([&](const Queue& queue) {
      Guarded<std::uint32_t, Queue> out(queue, 256);
      const Guarded<std::uint16_t, Queue> from(queue, in);
      const Guarded<std::int32_t, Queue> at(queue, rows);
      run_matrices<Queue>(queue, out.data(), from.data(), at.data());
      return only(out.values());
    });
    const auto element = [&](std::size_t matrix, std::size_t i, std::size_t j) {
      return std::uint32_t{in[static_cast<std::size_t>(rows[8 * matrix + i]) * 8 + j]};
    };
    for (std::size_t lane = 0; lane < 32; ++lane) {
      for (std::size_t m = 0; m < 4; ++m) {
        const std::size_t i = lane / 4, j = lane % 4 * 2;
        EXPECT_EQ(got[0][4 * lane + m], element(m, i, j) | element(m, i, j + 1) << 16);
        EXPECT_EQ(got[0][128 + 4 * lane + m], element(m, j, i) | element(m, j + 1, i) << 16);
      }
    }
  });
}

#if defined(UNFURL_HOST_CUDA)
TEST(PtxConformance, BankConflictsAreCounted) {
  const std::vector<std::uint16_t> in(64 * 8);
  const auto conflicts = [&](int spread) {
    std::vector<std::int32_t> rows(32);
    for (int lane = 0; lane < 32; ++lane)
      rows[static_cast<std::size_t>(lane)] = lane * spread % 64 + lane * spread / 64;
    const kernels::HostCudaQueue queue;
    std::vector<std::uint32_t> out(256);
    const std::uint64_t before = kernels::host::statistics().bank_conflicts;
    run_matrices<kernels::HostCudaQueue>(queue, out.data(), in.data(), rows.data());
    return kernels::host::statistics().bank_conflicts - before;
  };
  EXPECT_EQ(conflicts(1), 0u);          // rows of 16 bytes, one after the other
  EXPECT_EQ(conflicts(2), 2u * 4 * 4);  // every other: two rows in each bank group
  EXPECT_EQ(conflicts(0), 2u * 4 * 7);  // all in one
}
#endif

TEST(PtxConformance, MatrixProducts) {
  const int count = 20;
  const std::vector<bf16> a = normal<bf16>(count * 256, 6), b = normal<bf16>(count * 128, 7);
  const std::vector<float> start = normal<float>(count * 128, 8);
  on_gpu_backends([&]<class Queue>() {
    const auto got = on_queues<Queue>([&](const Queue& queue) {
      Guarded<float, Queue> d(queue, start);
      const Guarded<bf16, Queue> left(queue, a), right(queue, b);
      run_mma<Queue>(queue, d.data(), left.data(), right.data(), count);
      return only(d.values());
    });
    std::vector<double> want = doubles(start);
    const std::vector<double> left = doubles(a), right = doubles(b);
    for (std::size_t i = 0; i < want.size(); ++i) {
      const std::size_t product = i / 128, row = i % 128 / 8, column = i % 8;
      for (std::size_t k = 0; k < 16; ++k) {
        want[i] += left[product * 256 + row * 16 + k] * right[product * 128 + k * 8 + column];
      }
    }
    expect_close(got[0], want, 2e-6, "a product");
  });
}

TEST(PtxConformance, Reductions) {
  for (const int threads : {32, 96, 512, 1024}) {
    const std::vector<float> in = normal<float>(threads, 9);
    on_gpu_backends([&]<class Queue>() {
      const auto got = on_queues<Queue>([&](const Queue& queue) {
        Guarded<float, Queue> out(queue, 2 * threads);
        const Guarded<float, Queue> from(queue, in);
        run_reductions<Queue>(queue, out.data(), from.data(), threads);
        return only(out.values());
      });
      double sum = 0;
      for (const float v : in) sum += static_cast<double>(v);
      for (std::size_t t = 0; t < static_cast<std::size_t>(threads); ++t) {
        EXPECT_NEAR(static_cast<double>(got[0][t]), sum, 1e-5 * threads);
        EXPECT_EQ(got[0][t], got[0][0]);
        EXPECT_EQ(got[0][static_cast<std::size_t>(threads) + t], *std::max_element(in.begin(), in.end()));
      }
    });
  }
}

TEST(PtxConformance, HopperTiles) {
  const Index rows = 100, cols = 72, stride = 80;
  const std::vector<bf16> in = normal<bf16>(rows * stride, 10);
  on_gpu_backends(
      [&]<class Queue>() {
        for (const auto& [row, column] : {std::pair{0, 0}, {36, 8}, {70, 40}, {-5, -3}, {200, 0}}) {
          const int first_row = row, first_column = column;
          const auto got = on_queues<Queue>([&](const Queue& queue) {
            Guarded<bf16, Queue> out(queue, 64 * 64);
            const Guarded<bf16, Queue> from(queue, in);
            const auto map = kernels::make_tile_map(queue, from.data(), rows, cols, stride, 64);
            run_tile<Queue>(queue, out.data(), map, first_row, first_column);
            return only(out.values());
          });
          for (int i = 0; i < 64 * 64; ++i) {
            const Index r = first_row + i / 64, c = first_column + i % 64;
            const bool inside = r >= 0 && r < rows && c >= 0 && c < cols;
            const std::uint16_t want = inside ? in[static_cast<std::size_t>(r * stride + c)].bits : 0;
            ASSERT_EQ(got[0][static_cast<std::size_t>(i)].bits, want)
                << "tile at " << row << ", " << column << ": " << i;
          }
        }
      },
      9);
}

// Seven tiles through three stages: every stage is filled again, and again.
TEST(PtxConformance, HopperProducts) {
  for (const int columns : {64, 128}) {
    const int depth = 7 * 64;
    const std::vector<bf16> a = normal<bf16>(64 * depth, 11), b = normal<bf16>(columns * depth, 12);
    std::vector<double> want(static_cast<std::size_t>(64 * columns));
    for (std::size_t i = 0; i < want.size(); ++i) {
      const std::size_t row = i / static_cast<std::size_t>(columns), column = i % static_cast<std::size_t>(columns);
      for (std::size_t k = 0; k < static_cast<std::size_t>(depth); ++k) {
        want[i] += static_cast<double>(to_float(a[row * static_cast<std::size_t>(depth) + k])) *
                   static_cast<double>(to_float(b[column * static_cast<std::size_t>(depth) + k]));
      }
    }
    on_gpu_backends(
        [&]<class Queue>() {
          const auto got = on_queues<Queue>([&](const Queue& queue) {
            Guarded<float, Queue> d(queue, 64 * columns);
            const Guarded<bf16, Queue> left(queue, a), right(queue, b);
            run_products<Queue>(queue, d.data(), left.data(), right.data(), columns, depth);
            return only(d.values());
          });
          expect_close(got[0], want, 2e-5, "a product");
        },
        9);
  }
}

}  // namespace
}  // namespace unfurl::tests
