// The cases of kernels_gpu_benchmark that go once over their memory: norms, activations, embedding, cross-entropy and
// the optimisers.
#pragma once
#include <algorithm>
#include <numeric>
#include <string>
#include <utility>
#include <vector>

#include "benchmarks/gpu_table.h"
#include "kernels/adafactor.h"
#include "kernels/adamw.h"
#include "kernels/cross_entropy.h"
#include "kernels/dropout.h"
#include "kernels/elementwise.h"
#include "kernels/embedding.h"
#include "kernels/glu.h"
#include "kernels/layer_norm.h"
#include "kernels/optimizer_step.h"
#include "kernels/rms_norm.h"
#include "kernels/rope.h"
#include "kernels/sum.h"

namespace unfurl::benchmarks {

class RowCases : Cases {
 public:
  using Cases::Cases;

  void all() {
    table_.group("norms", [this] { norms(); });
    table_.group("elementwise", [this] { elementwise(); });
    table_.group("embedding", [this] { embedding(); });
    table_.group("head", [this] { head(); });
    table_.group("optimizer", [this] { optimizer(); });
  }

 private:
  void norms() {
    const Index width = model_.width;
    const double elements = as_double(kTokens * width);
    for (const bool layer : {false, true}) {
      const std::string name = layer ? "layer_norm" : "rms_norm";
      for (const bool residual : {false, true}) {
        const Rows x = random(kTokens, width), r = random(kTokens, width), s = empty(kTokens, width),
                   y = empty(kTokens, width);
        const auto* gain = gpu_.random<Element>(width);
        auto *mean = gpu_.empty<float>(kTokens), *rstd = gpu_.empty<float>(kTokens);
        const Matrix<const Element> other = residual ? Matrix<const Element>(r) : Matrix<const Element>{};
        table_.row(name + (residual ? "_forward, residual" : "_forward"), shape(kTokens, width),
                   {elements * (residual ? 8 : 4)}, [&] {
                     if (layer) {
                       kernels::layer_norm_forward<Queue, Element>(queue_, y, s, mean, rstd, x, other, gain, nullptr,
                                                                   kTokens, width, 1e-6f);
                     } else {
                       kernels::rms_norm_forward<Queue, Element>(queue_, y, s, rstd, x, other, gain, kTokens, width,
                                                                 1e-6f);
                     }
                   });
      }
      const Rows dy = random(kTokens, width), ds = random(kTokens, width), s = random(kTokens, width),
                 dx = empty(kTokens, width);
      const auto* gain = gpu_.random<Element>(width);
      auto *mean = gpu_.zeros<float>(kTokens), *rstd = gpu_.random<float>(kTokens), *dgain = gpu_.zeros<float>(width);
      table_.row(name + "_backward", shape(kTokens, width), {elements * 8}, [&] {
        if (layer) {
          kernels::layer_norm_backward<Queue, Element>(queue_, dx, dgain, nullptr, dy, ds, s, gain, mean, rstd, kTokens,
                                                       width);
        } else {
          kernels::rms_norm_backward<Queue, Element>(queue_, dx, dgain, dy, ds, s, gain, rstd, kTokens, width);
        }
      });
    }
  }

  void elementwise() {
    const Index width = model_.width, hidden = model_.ff_width;
    const double elements = as_double(kTokens * width), inner = as_double(kTokens * hidden);
    for (const kernels::Activation activation : {kernels::Activation::silu, kernels::Activation::gelu}) {
      const std::string name = activation == kernels::Activation::silu ? ", silu" : ", gelu";
      // As in the model: columns of the joint projection.
      const auto columns = [&](const Rows& both) {
        return std::pair<Matrix<Element>, Matrix<Element>>{{both.matrix.data, 2 * hidden},
                                                           {both.matrix.data + hidden, 2 * hidden}};
      };
      {
        const auto [gate, up] = columns(random(kTokens, 2 * hidden));
        const Rows y = empty(kTokens, hidden);
        table_.row("glu_forward" + name, shape(kTokens, hidden), {inner * 6}, [&, gate = gate, up = up] {
          kernels::glu_forward<Queue, Element>(queue_, y, gate, up, activation, kTokens, hidden);
        });
      }
      const auto [gate, up] = columns(random(kTokens, 2 * hidden));
      const auto [dgate, dup] = columns(empty(kTokens, 2 * hidden));
      const Rows dy = random(kTokens, hidden);
      table_.row("glu_backward" + name, shape(kTokens, hidden), {inner * 10},
                 [&, gate = gate, up = up, dgate = dgate, dup = dup] {
                   kernels::glu_backward<Queue, Element>(queue_, dgate, dup, dy, gate, up, activation, kTokens, hidden);
                 });
    }
    {
      const Rows x = random(kTokens, hidden), y = empty(kTokens, hidden);
      table_.row("gelu_forward", shape(kTokens, hidden), {inner * 4},
                 [&] { kernels::gelu_forward<Queue, Element>(queue_, y, x, kTokens, hidden); });
    }
    {
      const Rows x = random(kTokens, hidden), dy = random(kTokens, hidden), dx = empty(kTokens, hidden);
      table_.row("gelu_backward", shape(kTokens, hidden), {inner * 6},
                 [&] { kernels::gelu_backward<Queue, Element>(queue_, dx, dy, x, kTokens, hidden); });
    }
    {
      const Rows x = random(kTokens, width), y = empty(kTokens, width);
      table_.row("dropout", shape(kTokens, width), {elements * 4}, [&] {
        kernels::dropout<Queue, Element>(queue_, y, x, 0.1f, {1, 2, 3}, 0, kTokens, width);
      });
    }
    {
      const Rows x = random(kTokens, width), y = empty(kTokens, width);
      const auto* position = gpu_.upload(std::vector<kernels::DropoutPosition>(1));
      table_.row("dropout_at", shape(kTokens, width), {elements * 4}, [&] {
        kernels::dropout_at<Queue, Element>(queue_, y, x, 0.1f, {1, 2, 3}, position, kTokens, width);
      });
    }
    {
      const Index size = model_.head_dim;
      auto* table = gpu_.empty<float>(model_.context * size);
      table_.row("rope_table", shape(model_.context, size), {as_double(model_.context * size) * 4},
                 [&] { kernels::rope_table<Queue, float>(queue_, table, model_.context, size, 10000); });
    }
    {
      const Index heads = model_.heads, size = model_.head_dim;
      const Rows x = random(kTokens, heads * size), y = empty(kTokens, heads * size);
      auto* table = gpu_.empty<float>(model_.context * size);
      kernels::rope_table<Queue, float>(queue_, table, model_.context, size, 10000);
      std::vector<std::int32_t> places(kTokens);
      for (Index i = 0; i < kTokens; ++i) {
        places[static_cast<std::size_t>(i)] = static_cast<std::int32_t>(i % model_.context);
      }
      const auto* positions = gpu_.upload(places);
      table_.row("rope", shape(kTokens, heads * size), {as_double(kTokens * heads * size) * 4},
                 [&] { kernels::rope<Queue, Element>(queue_, y, x, positions, table, kTokens, heads, size, false); });
    }
    {
      const Rows a = random(kTokens, width), b = random(kTokens, width), y = empty(kTokens, width);
      table_.row("add", shape(kTokens, width), {elements * 6},
                 [&] { kernels::add<Queue, Element>(queue_, y, a, b, kTokens, width); });
    }
    {
      const Rows x = random(kTokens, width), y = empty(kTokens, width);
      table_.row("scale", shape(kTokens, width), {elements * 4},
                 [&] { kernels::scale<Queue, Element>(queue_, y, x, 0.5f, kTokens, width); });
    }
    {
      const auto* x = gpu_.random<float>(kTokens * width);
      auto* y = gpu_.random<float>(kTokens * width);
      table_.row("add_scaled, f32", shape(kTokens, width), {elements * 12},
                 [&] { kernels::add_scaled<Queue, float>(queue_, y, x, 0.5f, kTokens * width); });
    }
    {
      const auto* x = gpu_.random<float>(kTokens);
      auto* total = gpu_.empty<float>(1);
      table_.row("sum, f32", fmt::format("{}", kTokens), {as_double(kTokens) * 4},
                 [&] { kernels::sum<Queue, float>(queue_, total, x, kTokens); });
    }
    {
      const Rows y = empty(kTokens, width);
      table_.row("fill", shape(kTokens, width), {elements * 2},
                 [&] { kernels::fill<Queue, Element>(queue_, y, to_bf16(1), kTokens, width); });
    }
    {
      const Matrix<const float> x{gpu_.random<float>(kTokens * width), width};
      const Rows y = empty(kTokens, width);
      table_.row("convert, f32 to bf16", shape(kTokens, width), {elements * 6},
                 [&] { kernels::convert<Queue, Element, float>(queue_, y, x, kTokens, width); });
    }
  }

  void embedding() {
    const Index width = model_.width, vocab = model_.vocab_size;
    const auto ids = tests::integers(kTokens, static_cast<std::int32_t>(vocab), 1);
    std::vector<std::int32_t> order(kTokens), seen(ids), rows(kTokens / 2);
    std::iota(order.begin(), order.end(), 0);
    std::stable_sort(order.begin(), order.end(), [&](std::int32_t a, std::int32_t b) {
      return ids[static_cast<std::size_t>(a)] < ids[static_cast<std::size_t>(b)];
    });
    std::sort(seen.begin(), seen.end());
    const auto distinct = static_cast<Index>(std::unique(seen.begin(), seen.end()) - seen.begin());
    for (std::size_t i = 0; i < rows.size(); ++i) rows[i] = static_cast<std::int32_t>(2 * i);
    const auto elements = as_double(kTokens * width);
    {
      const auto* table = gpu_.random<Element>(vocab * width);
      const auto* numbers = gpu_.upload(ids);
      const Rows y = empty(kTokens, width);
      table_.row("embedding_forward", shape(kTokens, width), {elements * 2 + as_double(distinct * width) * 2},
                 [&] { kernels::embedding_forward<Queue, Element>(queue_, y, numbers, table, kTokens, width); });
    }
    {
      auto* table = gpu_.zeros<float>(vocab * width);
      const auto *numbers = gpu_.upload(ids), *sorted = gpu_.upload(order);
      const Rows dy = random(kTokens, width);
      table_.row("embedding_backward", shape(kTokens, width), {elements * 2 + as_double(distinct * width) * 8}, [&] {
        kernels::embedding_backward<Queue, Element>(queue_, table, dy, numbers, sorted, kTokens, width);
      });
    }
    const auto count = static_cast<Index>(rows.size());
    {
      const auto* chosen = gpu_.upload(rows);
      const Rows x = random(kTokens, width), y = empty(count, width);
      table_.row("gather_rows", shape(count, width), {as_double(count * width) * 4},
                 [&] { kernels::gather_rows<Queue, Element>(queue_, y, x, chosen, count, width); });
    }
    {
      const auto* chosen = gpu_.upload(rows);
      const Rows x = random(count, width), y = empty(kTokens, width);
      table_.row("scatter_rows", shape(kTokens, width), {elements * 2 + as_double(count * width) * 2},
                 [&] { kernels::scatter_rows<Queue, Element>(queue_, y, x, chosen, count, kTokens, width); });
    }
  }

  void head() {
    const Index vocab = model_.vocab_size;
    const Rows logits = random(kTokens, vocab);
    const auto* targets = gpu_.upload(tests::integers(kTokens, static_cast<std::int32_t>(vocab), 2));
    const auto* weights = gpu_.upload(std::vector<float>(kTokens, 1));
    auto* losses = gpu_.empty<float>(kTokens);
    table_.row(
        "cross_entropy, with gradient", shape(kTokens, vocab), {as_double(kTokens * vocab) * 4},
        [&] { kernels::cross_entropy<Queue, Element>(queue_, losses, logits, targets, weights, true, kTokens, vocab); },
        [&, at = logits.matrix.data] { gpu_.randomise(at, kTokens * vocab); });
  }

  void optimizer() {
    const Index width = model_.width, attention = model_.heads * model_.head_dim;
    const Index in = attention + 2 * model_.kv_heads * model_.head_dim + 2 * model_.ff_width;
    const Index count = model_.layers * width * (in + attention + model_.ff_width) + model_.vocab_size * width;
    const double elements = as_double(count);
    const Index blocks = kernels::norm_blocks(count);
    const auto decided = [&](const float* gradient) {
      auto* step = gpu_.upload(std::vector<kernels::OptimizerStep>(1, {.learning_rate = 1e-3}));
      auto* partials = gpu_.empty<double>(blocks);
      kernels::sum_squares_of_blocks<Queue, float>(queue_, partials, gradient, count);
      kernels::begin_step<Queue>(queue_, step, partials, blocks, {.clip_norm = 1});
      return step;
    };
    const std::string shape = fmt::format("{} parameters", count);
    {
      const auto* gradient = gpu_.random<float>(count);
      auto* partials = gpu_.empty<double>(blocks);
      table_.row("sum_squares_of_blocks", shape, {elements * 4},
                 [&] { kernels::sum_squares_of_blocks<Queue, float>(queue_, partials, gradient, count); });
    }
    {
      const auto* gradient = gpu_.random<float>(count);
      auto* partials = gpu_.empty<double>(blocks);
      kernels::sum_squares_of_blocks<Queue, float>(queue_, partials, gradient, count);
      auto* step = gpu_.upload(std::vector<kernels::OptimizerStep>(1, {.learning_rate = 1e-3}));
      table_.row("begin_step", shape, {as_double(blocks) * 8},
                 [&] { kernels::begin_step<Queue>(queue_, step, partials, blocks, {.clip_norm = 1}); });
    }
    {
      auto *weight = gpu_.random<float>(count), *m = gpu_.random<float>(count), *v = gpu_.zeros<float>(count),
           *gradient = gpu_.random<float>(count);
      auto* copy = gpu_.empty<bf16>(count);
      const auto* step = decided(gradient);
      table_.row(
          "adamw_step", shape, {elements * 34},
          [&] { kernels::adamw_step<Queue>(queue_, weight, m, v, gradient, copy, step, {}, count); },
          [&] { gpu_.randomise(gradient, count); });
    }
    {
      const Index cells = in * width;
      auto *weight = gpu_.random<float>(cells), *gradient = gpu_.random<float>(cells);
      auto *row = gpu_.zeros<float>(in), *column = gpu_.zeros<float>(width);
      auto* copy = gpu_.empty<bf16>(cells);
      const auto* step = gpu_.upload(
          std::vector<kernels::OptimizerStep>(1, {.learning_rate = 1e-3, .steps = 1, .rate = 1e-3f, .deviation = 1}));
      // Three reads of the gradient, two of the weights, and what is written.
      table_.row(
          "adafactor_step", fmt::format("{}x{}", in, width), {as_double(cells) * (12 + 8 + 4 + 2 + 4)},
          [&] { kernels::adafactor_step<Queue>(queue_, weight, row, column, gradient, copy, step, {}, in, width); },
          [&] { gpu_.randomise(gradient, cells); });
    }
    // The same for who has the step's numbers on the host, as tests and fine-tuning of few parameters do.
    {
      auto *weight = gpu_.random<float>(count), *m = gpu_.random<float>(count), *v = gpu_.zeros<float>(count),
           *gradient = gpu_.random<float>(count);
      table_.row(
          "adamw", shape, {elements * 32},
          [&] { kernels::adamw<Queue, float>(queue_, weight, m, v, gradient, {.learning_rate = 1e-3}, true, count); },
          [&] { gpu_.randomise(gradient, count); });
    }
    {
      const Index cells = in * width;
      auto *weight = gpu_.random<float>(cells), *gradient = gpu_.random<float>(cells);
      auto *row = gpu_.zeros<float>(in), *column = gpu_.zeros<float>(width);
      table_.row(
          "adafactor", fmt::format("{}x{}", in, width), {as_double(cells) * (12 + 8 + 4 + 4)},
          [&] {
            kernels::adafactor<Queue, float>(queue_, weight, row, column, gradient, {.learning_rate = 1e-3}, true, in,
                                             width);
          },
          [&] { gpu_.randomise(gradient, cells); });
    }
    {
      const auto* gradient = gpu_.random<float>(count);
      table_.row("sum_of_squares", shape, {elements * 4},
                 [&] { kernels::sum_of_squares<Queue, float>(queue_, gradient, count); });
    }
  }
};

}  // namespace unfurl::benchmarks
