// The cases of kernels_gpu_benchmark that are about documents packed into rows, and about drawing tokens from logits.
#pragma once
#include <algorithm>
#include <cstdint>
#include <string>
#include <vector>

#include "benchmarks/gpu_table.h"
#include "kernels/ragged.h"
#include "kernels/sampling.h"
#include "kernels/soft_prompt.h"

namespace unfurl::benchmarks {

class DocumentCases : Cases {
 public:
  using Cases::Cases;

  void all() {
    table_.group("documents", [this] { documents(); });
    table_.group("sampling", [this] { sampling(); });
  }

 private:
  /// Documents of 128 tokens with a soft prompt of 32 rows; an eighth of the rows is padding.
  void documents() {
    const Index width = model_.width, length = kSimulated ? 24 : 128, opened = kSimulated ? 8 : 32;
    const Index padding = kTokens / 8, count = (kTokens - padding) / length;
    std::vector<std::int32_t> bounds;
    for (Index d = 0; d <= count; ++d) bounds.push_back(static_cast<std::int32_t>(d * length));
    const auto* starts = gpu_.upload(bounds);
    const double entries = as_double(count * opened * width), table = as_double(opened * width);
    const std::string name = fmt::format("{} documents of {}, {}", count, opened, width);
    {
      const auto* prompt = gpu_.random<Element>(opened * width);
      const Rows y = empty(kTokens, width);
      table_.row("soft_prompt_forward", name, {entries * 2 + table * 2}, [&] {
        kernels::soft_prompt_forward<Queue, Element>(queue_, y, prompt, starts, count, opened, width);
      });
    }
    starts = gpu_.upload(bounds);
    {
      auto* dprompt = gpu_.zeros<float>(opened * width);
      const Rows dy = random(kTokens, width);
      table_.row("soft_prompt_backward", name, {entries * 2 + table * 8}, [&] {
        kernels::soft_prompt_backward<Queue, Element>(queue_, dprompt, dy, starts, count, opened, width);
      });
    }
    starts = gpu_.upload(bounds);
    {
      const Rows x = random(kTokens, width);
      const Index rows = kTokens - bounds.back();
      table_.row("clear_padding", shape(rows, width), {as_double(rows * width) * 2},
                 [&] { kernels::clear_padding<Queue, Element>(queue_, x, starts, count, kTokens, width); });
    }
    starts = gpu_.upload(bounds);
    {
      kernels::RaggedStrides strides;
      for (strides.count = 0; strides.count < kernels::kRaggedMatrices; ++strides.count) {
        strides.values[strides.count] = model_.head_dim * (strides.count + 1);
      }
      auto* offsets = gpu_.empty<std::int64_t>(strides.count * (count + 1));
      auto* lengths = gpu_.empty<std::int32_t>(count);
      table_.row("ragged_offsets", fmt::format("{} documents", count),
                 {as_double(count) * (4 + 4 + 8.0 * strides.count)},
                 [&] { kernels::ragged_offsets<Queue>(queue_, offsets, count + 1, lengths, starts, count, strides); });
    }
  }

  /// Bytes: the logits once.
  void sampling() {
    const Index vocab = model_.vocab_size;
    const kernels::Sampling settings{.temperature = 0.8f, .top_k = 0, .top_p = 0.95f, .min_p = 0};
    for (const Index rows : {1, 8, 64}) {
      for (const bool by : {false, true}) {
        const Matrix<const float> logits{gpu_.random<float>(rows * vocab), vocab};
        auto* tokens = gpu_.empty<std::int32_t>(rows);
        auto* likelihoods = gpu_.empty<float>(rows);
        const auto* uniforms = gpu_.upload(std::vector<float>(static_cast<std::size_t>(rows), 0.5f));
        const auto* there = gpu_.upload(std::vector<kernels::Sampling>(1, settings));
        table_.row(by ? "sample_by, top_p" : "sample, top_p", shape(rows, vocab), {as_double(rows * vocab) * 4}, [&] {
          if (by) {
            kernels::sample_by<Queue, float>(queue_, tokens, likelihoods, logits, uniforms, there, rows, vocab);
          } else {
            kernels::sample<Queue, float>(queue_, tokens, likelihoods, logits, uniforms, settings, rows, vocab);
          }
        });
      }
    }
  }
};

}  // namespace unfurl::benchmarks
