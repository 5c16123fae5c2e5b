// Every CUDA kernel on this machine's GPU, in bf16, in the shapes of the model presets: times by CUDA events, with the
// L2 cache filled with other data before each run.
#include <cmath>
#include <string>

#include "benchmarks/gpu_attention_peer.h"
#include "benchmarks/gpu_document_cases.h"
#include "benchmarks/gpu_row_cases.h"
#include "benchmarks/gpu_table.h"
#include "kernels/attention.h"
#include "kernels/decode_step.h"
#include "kernels/matmul.h"
#include "kernels/matmul_few_rows.h"
#include "kernels/matmul_int8.h"
#include "kernels/rope.h"

namespace unfurl::benchmarks {
namespace {

constexpr const char* kUsage =
    R"(Every CUDA kernel on this machine's GPU, in bf16, in the shapes of the model presets: times by CUDA events, with the
L2 cache filled with other data before each run.

  build/cuda/kernels_gpu_benchmark [PRESET ...]     default: palm-1b palm-350m palm-125m
  build/cuda/kernels_gpu_benchmark --device         the GPU's name, alone
  build/host-cuda/kernels_gpu_benchmark --simulate  every case once on the CPU, in small, without times

A line a case, which begins with the name of the kernel's contract in kernels/: time, rate, its share of the ceiling
that bounds it (a copy, or a bf16 product of 8192x8192x8192, both measured first), and, where there is a peer, its
time and how many times ours that is. Exit code 2 where there is no GPU.
)";

class ProductCases : Cases {
 public:
  using Cases::Cases;

  void all() {
    table_.group("products", [this] { products(); });
    table_.group("attention", [this] { attention(); });
    table_.group("decoding", [this] { decoding(); });
  }

 private:
  /// cuBLASLt's time with the fastest of its algorithms; nothing stays chosen.
  template <class C>
  Peer cublaslt(Matrix<C> c, Matrix<const Element> a, bool transpose_a, Matrix<const Element> b, bool transpose_b,
                Index m, Index n, Index k, bool accumulate) {
    const ChoicesScope none;
    gpu_.choose<Element, C>(c, a, transpose_a, b, transpose_b, m, n, k, accumulate);
    return {"cuBLASLt", gpu_.seconds([&] {
              kernels::matmul<Queue, Element, C>(queue_, c, a, transpose_a, b, transpose_b, m, n, k, accumulate);
            })};
  }

  /// c[m,n] = op(a) op(b), with the algorithm that is chosen by timing; the peer is cuBLASLt's own first suggestion.
  template <class C>
  void product(const std::string& name, bool transpose_a, bool transpose_b, Index m, Index n, Index k,
               bool accumulate) {
    const Index a_stride = transpose_a ? m : k, b_stride = transpose_b ? k : n;
    const Matrix<const Element> a{gpu_.random<Element>(m * k), a_stride}, b{gpu_.random<Element>(k * n), b_stride};
    const Matrix<C> c{gpu_.random<C>(m * n), n};
    const auto run = [&] {
      kernels::matmul<Queue, Element, C>(queue_, c, a, transpose_a, b, transpose_b, m, n, k, accumulate);
    };
    const ChoicesScope none;
    Peer peer{"cuBLASLt's first choice", 0};
    std::string wrong;
    try {
      peer.seconds = gpu_.seconds(run);
      gpu_.choose<Element, C>(c, a, transpose_a, b, transpose_b, m, n, k, accumulate);
    } catch (const std::exception& error) {
      wrong = error.what();
    }
    table_.row(
        name, fmt::format("{}x{}x{}", m, n, k), {0, 2.0 * as_double(m) * as_double(n) * as_double(k)},
        [&] {
          require(wrong.empty(), "{}", wrong);
          run();
        },
        {}, [&] { return peer; });
  }

  void products() {
    const Index width = model_.width, attention = model_.heads * model_.head_dim;
    const Index in = attention + 2 * model_.kv_heads * model_.head_dim + 2 * model_.ff_width;
    const Index out = attention + model_.ff_width;
    linear("input", in, width);
    linear("output", width, out);
    linear("head", model_.vocab_size, width);
  }
  /// y[tokens, out] = x[tokens, in] W[out, in]^T and its gradients.
  void linear(const std::string& name, Index out, Index in) {
    product<Element>("matmul, " + name + " y", false, true, kTokens, out, in, false);
    product<Element>("matmul, " + name + " dx", false, false, kTokens, in, out, false);
    product<float>("matmul, " + name + " dW", true, false, out, in, kTokens, true);
  }

  /// Documents of `length` tokens, or, where that is 0, of 16 to 112 with a prefix of up to 16 that sees both ways, as
  /// prompts are.
  void attention(Index length) {
    std::vector<std::int32_t> starts = {0}, prefixes;
    Work forward, backward;
    const Index heads = model_.heads, size = model_.head_dim, kv = model_.kv_heads;
    double pairs = 0;
    while (starts.back() < kTokens) {
      const auto number = prefixes.size();
      Index own = length > 0 ? length : 16 + tests::integers(1, 97, number + 5)[0];
      own = std::min<Index>(own, kTokens - starts.back());
      prefixes.push_back(length > 0 ? 0 : std::min<std::int32_t>(16, static_cast<std::int32_t>(own)));
      starts.push_back(starts.back() + static_cast<std::int32_t>(own));
      pairs += as_double(own) * as_double(own) / 2;
    }
    const Index documents = static_cast<Index>(prefixes.size());
    const double q_bytes = as_double(kTokens * heads * size) * 2, k_bytes = as_double(kTokens * kv * size) * 2;
    forward = {2 * q_bytes + 2 * k_bytes + as_double(kTokens * heads) * 4, 4 * pairs * as_double(heads * size)};
    backward = {4 * q_bytes + 4 * k_bytes + as_double(kTokens * heads) * 4, 10 * pairs * as_double(heads * size)};
    const kernels::AttentionShape shape{kTokens, documents, heads, kv, size, 1 / std::sqrt(as_double(size))};
    const std::string name = length > 0 ? fmt::format("T {} h {}/{} d {}", length, heads, kv, size)
                                        : fmt::format("{} prompts h {}/{} d {}", documents, heads, kv, size);
    const auto arrays = [&] {
      return AttentionArrays{
          random(kTokens, heads * size), random(kTokens, kv * size),    random(kTokens, kv * size),
          empty(kTokens, heads * size),  random(kTokens, heads * size), empty(kTokens, heads * size),
          empty(kTokens, kv * size),     empty(kTokens, kv * size),     gpu_.empty<float>(kTokens * heads),
          gpu_.upload(starts),           gpu_.upload(prefixes)};
    };
    const auto run_forward = [&](const AttentionArrays& m) {
      kernels::attention_forward<Queue, Element>(queue_, m.out, m.lse, m.q, m.k, m.v, m.starts, m.prefixes, shape);
    };
    {
      const AttentionArrays m = arrays();
      table_.row(
          "attention_forward", name, forward, [&] { run_forward(m); }, {},
          [&] { return cudnn_attention(gpu_, m, shape, length, false); });
    }
    {
      const AttentionArrays m = arrays();
      run_forward(m);
      table_.row(
          "attention_backward", name, backward,
          [&] {
            kernels::attention_backward<Queue, Element>(queue_, m.dq, m.dk, m.dv, m.dout, m.out, m.lse, m.q, m.k, m.v,
                                                        m.starts, m.prefixes, shape);
          },
          {}, [&] { return cudnn_attention(gpu_, m, shape, length, true); });
    }
  }
  void attention() {
    for (const Index length : {128, 256, 512, 0}) attention(length);
  }

  /// Products of decoding; the peer computes the same transposed, which is never one of few rows.
  template <class C>
  void few_rows(const std::string& name, Index out, Index in) {
    for (const Index rows : {1, 4, 8}) {
      const Rows x = random(rows, in), weight = random(out, in);
      const Matrix<C> y{gpu_.empty<C>(rows * out), out}, turned{gpu_.empty<C>(rows * out), rows};
      table_.row(
          name, fmt::format("{}x{}x{}", rows, out, in), {as_double(out * in) * 2},
          [&] { kernels::matmul_few_rows<Queue, Element, C>(queue_, y, x, weight, rows, out, in, false); }, {},
          [&] { return cublaslt<C>(turned, weight, false, x, true, out, rows, in, false); });
    }
  }
  /// The same with weights of 8 bits; the peer is the product of bf16, which reads twice as much.
  void int8_rows(const std::string& name, Index out, Index in) {
    const Index blocks = kernels::int8_blocks(in);
    for (const Index rows : {1, 4, 8}) {
      const Rows x = random(rows, in), weight = random(out, in), y = empty(rows, out);
      const kernels::Int8Matrix rounded{gpu_.empty<std::int8_t>(out * in), gpu_.empty<float>(out * blocks)};
      kernels::quantize_int8<Queue, Element>(queue_, rounded, weight, out, in);
      table_.row(
          name, fmt::format("{}x{}x{}", rows, out, in), {as_double(out * in) + as_double(out * blocks) * 4},
          [&] {
            kernels::matmul_int8<Queue, Element, Element>(queue_, y, x, {rounded.codes, rounded.scales}, rows, out, in);
          },
          {},
          [&] {
            return Peer{"matmul_few_rows", gpu_.seconds([&] {
                          kernels::matmul_few_rows<Queue, Element, Element>(queue_, y, x, weight, rows, out, in, false);
                        })};
          });
    }
    const Rows weight = random(out, in);
    const kernels::Int8Matrix rounded{gpu_.empty<std::int8_t>(out * in), gpu_.empty<float>(out * blocks)};
    table_.row("quantize_int8", shape(out, in), {as_double(out * in) * 3 + as_double(out * blocks) * 4},
               [&] { kernels::quantize_int8<Queue, Element>(queue_, rounded, weight, out, in); });
  }
  void decoding() {
    const Index width = model_.width, attention = model_.heads * model_.head_dim, vocab = model_.vocab_size;
    const Index in = attention + 2 * model_.kv_heads * model_.head_dim + 2 * model_.ff_width;
    few_rows<Element>("matmul_few_rows, input", in, width);
    few_rows<Element>("matmul_few_rows, output", width, attention + model_.ff_width);
    few_rows<float>("matmul_few_rows, head", vocab, width);
    int8_rows("matmul_int8, input", in, width);
    for (const Index rows : {1, 4, 8}) {
      const Index shared = 32, own = 96, heads = model_.heads, kv = model_.kv_heads, size = model_.head_dim;
      const Rows q = random(rows, heads * size), out = empty(rows, heads * size), k = random(shared, kv * size),
                 v = random(shared, kv * size), own_k = random(rows * own, kv * size),
                 own_v = random(rows * own, kv * size);
      const auto* lengths = gpu_.upload(std::vector<std::int32_t>(static_cast<std::size_t>(rows), own));
      const kernels::DecodeShape shape{rows, shared, own, heads, kv, size, 1 / std::sqrt(as_double(size))};
      table_.row("attention_decode", fmt::format("{} rows, {} + {} keys", rows, shared, own),
                 {as_double((shared + rows * own) * kv * size) * 4 + as_double(rows * heads * size) * 4}, [&] {
                   kernels::attention_decode<Queue, Element>(queue_, out, q, k, v, own_k.matrix.data, own_v.matrix.data,
                                                             lengths, shape);
                 });
    }
    for (const Index rows : {1, 8}) {
      const Index own = 96, heads = model_.heads, kv = model_.kv_heads, size = model_.head_dim;
      const Rows q = random(rows, heads * size), k = random(rows, kv * size), v = random(rows, kv * size);
      auto *own_k = gpu_.empty<Element>(rows * own * kv * size), *own_v = gpu_.empty<Element>(rows * own * kv * size);
      auto* table = gpu_.empty<float>(model_.context * size);
      kernels::rope_table<Queue, float>(queue_, table, model_.context, size, 10000);
      kernels::DecodeState state;
      for (Index r = 0; r < rows; ++r) state.positions[r] = state.lengths[r] = 40;
      const auto* there = gpu_.upload(std::vector<kernels::DecodeState>(1, state));
      table_.row("rotate_and_append", fmt::format("{} rows, h {}/{} d {}", rows, heads, kv, size),
                 {as_double(rows * (heads + 2 * kv) * size) * 4}, [&] {
                   kernels::rotate_and_append<Queue, Element>(queue_, q, own_k, own_v, q, k, v, table, there,
                                                              {rows, own, heads, kv, size});
                 });
    }
    for (const Index rows : {1, 8}) {
      const Matrix<const float> logits{gpu_.random<float>(rows * vocab), vocab};
      auto* masked = gpu_.empty<float>(rows * vocab);
      const auto* follows = gpu_.zeros<std::uint8_t>(vocab);
      kernels::DecodeState state;
      state.sampling = {.temperature = 0.8f, .top_k = 0, .top_p = 0.95f, .min_p = 0};
      auto* there = gpu_.upload(std::vector<kernels::DecodeState>(1, state));
      table_.row("draw_tokens, top_p", shape(rows, vocab), {as_double(rows * vocab) * 4},
                 [&] { kernels::draw_tokens<Queue>(queue_, there, masked, logits, follows, rows, vocab); });
    }
  }
};

int run(std::vector<std::string> presets) {
  if (presets == std::vector<std::string>{"--device"}) {
    fmt::print("{}\n", Queue::properties().name);
    return 0;
  }
  presets = presets_or_all(std::move(presets));
  std::vector<train::ModelConfig> models;
  models.reserve(presets.size());
  for (const std::string& preset : presets) models.push_back(model_of(preset));
  Gpu gpu;
  const Gpu::Ceilings ceilings = gpu.measure_ceilings();
  print_heading(ceilings);
  Table table(gpu, ceilings);
  for (std::size_t i = 0; i < models.size(); ++i) {
    fmt::print("{}, {} tokens\n", presets[i], kTokens);
    std::fflush(stdout);
    RowCases(gpu, table, models[i]).all();
    DocumentCases(gpu, table, models[i]).all();
    ProductCases(gpu, table, models[i]).all();
  }
  return table.failed() ? 1 : 0;
}

}  // namespace
}  // namespace unfurl::benchmarks

int main(int count, char** arguments) {
  return unfurl::benchmarks::run_benchmark(count, arguments, unfurl::benchmarks::kUsage, unfurl::benchmarks::run);
}
