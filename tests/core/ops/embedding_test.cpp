#include "core/ops/embedding.h"

#include <algorithm>
#include <numeric>

#include "core/ops/add.h"
#include "core/ops/gather_rows.h"
#include "tests/support/expect_error.h"
#include "tests/support/gradient_check.h"

namespace unfurl::tests {
namespace {

Tensor order_of(const std::vector<std::int32_t>& ids) {
  std::vector<std::int32_t> order(ids.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), [&](std::int32_t a, std::int32_t b) {
    return ids[static_cast<std::size_t>(a)] < ids[static_cast<std::size_t>(b)];
  });
  return Tensor::from(order, {static_cast<Index>(ids.size())});
}

TEST(Embedding, GradientsAreThoseOfDifferences) {
  for (const auto& [tokens, vocab, cols] : {std::array<Index, 3>{1, 1, 1}, {33, 5, 31}, {129, 40, 7}, {65, 1, 33}}) {
    const auto ids = integers(tokens, static_cast<std::int32_t>(vocab), 1);
    const Tensor id_tensor = Tensor::from(ids, {tokens}), order = order_of(ids);
    const auto look_up = [=](const auto& in) { return std::vector{embedding(id_tensor, order, in[0])}; };
    check_gradients(look_up, {normal_tensor({vocab, cols}, 2)});
    // A row chosen for each token is what an embedding means.
    std::vector<double> want;
    const Tensor table = normal_tensor({vocab, cols}, 2);
    for (const std::int32_t id : ids)
      want.insert(want.end(), table.data<double>() + id * cols, table.data<double>() + (id + 1) * cols);
    EXPECT_EQ(look_up(std::vector{table})[0].template values<double>(), want);
  }
}

// A table that is computed, and used twice (as a tied head would), collects both gradients.
TEST(Embedding, SharedTableCollectsAllGradients) {
  const std::vector<std::int32_t> ids = {3, 1, 3, 0};
  const Tensor id_tensor = Tensor::from(ids, {4}), order = order_of(ids);
  check_gradients(
      [=](const auto& in) {
        const Tensor table = copy(in[0]);
        return std::vector{embedding(id_tensor, order, table), add(table, table)};
      },
      {normal_tensor({5, 9}, 2)});
}

TEST(Embedding, NamesWhatDoesNotFit) {
  const Tensor ids = Tensor::from(std::vector<std::int32_t>{1, -1}, {2}), order = Tensor::from(std::vector{0, 1}, {2});
  EXPECT_EQ(error_of([&] {
              embedding(ids, order, normal_tensor({4, 3}, 1));
            }),
            "embedding: ids must be in [0, 4), got -1 at 1");
  EXPECT_EQ(error_of([&] {
              embedding(order, ids, normal_tensor({4, 3}, 1));
            }),
            "embedding: order must be in [0, 2), got -1 at 1");
  EXPECT_EQ(error_of([&] {
              embedding(normal_tensor({2}, 1), order, normal_tensor({4, 3}, 1));
            }),
            "embedding: ids must be i32 [2], got f64 [2]");
}

TEST(GatherRows, GradientsAreThoseOfDifferences) {
  for (const std::vector<std::int32_t>& rows :
       {std::vector<std::int32_t>{0}, {2, 3, 8}, {0, 1, 2, 3, 4, 5, 6, 7, 8}, {}}) {
    const Tensor chosen = Tensor::from(rows, {static_cast<Index>(rows.size())});
    check_gradients(
        [=](const auto& in) {
          return std::vector{gather_rows(in[0], chosen), copy(in[0])};
        },
        {normal_tensor({9, 31}, 1)});
    check_gradients(
        [=](const auto& in) {
          const Tensor wide = copy(in[0]);
          return std::vector{gather_rows(wide.columns(3, 20), chosen), copy(wide)};
        },
        {normal_tensor({9, 31}, 1)});
  }
}

TEST(GatherRows, NamesWhatDoesNotFit) {
  const Tensor x = normal_tensor({9, 3}, 1);
  EXPECT_EQ(error_of([&] {
              gather_rows(x, Tensor::from(std::vector<std::int32_t>{3, 3}, {2}));
            }),
            "gather_rows: rows must increase, got 3 after 3 at 1");
  EXPECT_EQ(error_of([&] {
              gather_rows(x, Tensor::from(std::vector<std::int32_t>{3, 9}, {2}));
            }),
            "gather_rows: rows must be in [0, 9), got 9 at 1");
}

}  // namespace
}  // namespace unfurl::tests
