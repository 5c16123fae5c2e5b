// Every CUDA kernel on this machine's GPU, in bf16, in the shapes of the model presets: times by CUDA events, with the
// L2 cache filled with other data before each run.
//
//   build/cuda/kernels_gpu_benchmark [PRESET ...]     default: palm-125m palm-350m palm-1b
//   build/cuda/kernels_gpu_benchmark --device         the GPU's name, alone
//
// A line a case: time, rate, its share of the ceiling that bounds it (a copy, or a bf16 product of 8192x8192x8192, both
// measured first), and a peer's time beside it where there is one. Exit code 2 where there is no GPU.
#include <cmath>
#include <exception>
#include <numeric>
#include <string>
#include <string_view>

#include "benchmarks/gpu.h"
#include "core/error.h"
#include "kernels/adafactor.h"
#include "kernels/adamw.h"
#include "kernels/attention.h"
#include "kernels/cross_entropy.h"
#include "kernels/dropout.h"
#include "kernels/elementwise.h"
#include "kernels/embedding.h"
#include "kernels/glu.h"
#include "kernels/layer_norm.h"
#include "kernels/matmul.h"
#include "kernels/optimizer_step.h"
#include "kernels/rms_norm.h"
#include "kernels/rope.h"
#include "kernels/sampling.h"
#include "train/recipe/recipe.h"

namespace unfurl::benchmarks {
namespace {

using kernels::Matrix;

constexpr Index kTokens = 8192;

struct Work {
  double bytes = 0;  // the least that memory must move
  double flops = 0;
};

/// The peer's seconds; not positive where there is none, and then `what` says why.
struct Peer {
  std::string what = "n/a";
  double seconds = 0;
};

class Table {
 public:
  Table(Gpu& gpu, Gpu::Ceilings ceilings) : gpu_(gpu), ceilings_(std::move(ceilings)) {}

  /// Measures and prints one case; a failure is a line too. Frees the GPU's memory.
  void row(const std::string& name, const std::string& shape, const Work& work, const std::function<void()>& body,
           const std::function<void()>& prepare = {}, const std::function<Peer()>& peer = {}) {
    std::string line = fmt::format("{:26} {:26} ", name, shape);
    try {
      const double seconds = gpu_.seconds(body, prepare);
      line += fmt::format("{:10.1f} us", seconds * 1e6);
      if (work.bytes > 0) {
        line += fmt::format("  {:6.3f} TB/s {:5.1f} % of copy", work.bytes / seconds * 1e-12,
                            100 * work.bytes / seconds / ceilings_.copy);
      }
      if (work.flops > 0) {
        line += fmt::format("  {:6.1f} TFLOP/s", work.flops / seconds * 1e-12);
        if (ceilings_.gemm > 0) line += fmt::format(" {:5.1f} % of GEMM", 100 * work.flops / seconds / ceilings_.gemm);
      }
      const Peer other = peer ? peer() : Peer{};
      line += other.seconds > 0 ? fmt::format("  peer {} {:.1f} us ({:.2f}x)", other.what, other.seconds * 1e6,
                                              other.seconds / seconds)
                                : fmt::format("  peer {}", other.what);
    } catch (const std::exception& error) {
      line += fmt::format("failed: {}", error.what());
      failed_ = true;
    }
    fmt::print("{}\n", line);
    std::fflush(stdout);
    gpu_.clear();
  }

  bool failed() const { return failed_; }

 private:
  Gpu& gpu_;
  Gpu::Ceilings ceilings_;
  bool failed_ = false;
};

double as_double(Index value) { return static_cast<double>(value); }

class Cases {
 public:
  Cases(Gpu& gpu, Table& table, const train::ModelConfig& model)
      : gpu_(gpu), queue_(gpu.queue()), table_(table), model_(model) {}

  void all() {
    norms();
    elementwise();
    embedding();
    products();
    head();
    attention();
    optimizer();
    decoding();
  }

 private:
  using Element = bf16;
  struct Rows {
    Matrix<Element> matrix;
    operator Matrix<Element>() const { return matrix; }
    operator Matrix<const Element>() const { return matrix; }
  };
  Rows random(Index rows, Index cols) { return {{gpu_.random<Element>(rows * cols), cols}}; }
  Rows empty(Index rows, Index cols) { return {{gpu_.empty<Element>(rows * cols), cols}}; }
  static std::string shape(Index rows, Index cols) { return fmt::format("{}x{}", rows, cols); }

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
        table_.row(name + (residual ? " forward, residual" : " forward"), shape(kTokens, width),
                   {elements * (residual ? 8 : 4)}, [&] {
                     if (layer) {
                       kernels::layer_norm_forward<CudaQueue, Element>(queue_, y, s, mean, rstd, x, other, gain,
                                                                       nullptr, kTokens, width, 1e-6f);
                     } else {
                       kernels::rms_norm_forward<CudaQueue, Element>(queue_, y, s, rstd, x, other, gain, kTokens, width,
                                                                     1e-6f);
                     }
                   });
      }
      const Rows dy = random(kTokens, width), ds = random(kTokens, width), s = random(kTokens, width),
                 dx = empty(kTokens, width);
      const auto* gain = gpu_.random<Element>(width);
      auto *mean = gpu_.zeros<float>(kTokens), *rstd = gpu_.random<float>(kTokens), *dgain = gpu_.zeros<float>(width);
      table_.row(name + " backward", shape(kTokens, width), {elements * 8}, [&] {
        if (layer) {
          kernels::layer_norm_backward<CudaQueue, Element>(queue_, dx, dgain, nullptr, dy, ds, s, gain, mean, rstd,
                                                           kTokens, width);
        } else {
          kernels::rms_norm_backward<CudaQueue, Element>(queue_, dx, dgain, dy, ds, s, gain, rstd, kTokens, width);
        }
      });
    }
  }

  void elementwise() {
    const Index width = model_.width, hidden = model_.ff_width;
    const double elements = as_double(kTokens * width), inner = as_double(kTokens * hidden);
    {
      // As in the model: columns of the joint projection.
      const Rows both = random(kTokens, 2 * hidden), y = empty(kTokens, hidden);
      const Matrix<const Element> gate{both.matrix.data, 2 * hidden}, up{both.matrix.data + hidden, 2 * hidden};
      table_.row("swiglu forward", shape(kTokens, hidden), {inner * 6}, [&] {
        kernels::glu_forward<CudaQueue, Element>(queue_, y, gate, up, kernels::Activation::silu, kTokens, hidden);
      });
    }
    {
      const Rows both = random(kTokens, 2 * hidden), dy = random(kTokens, hidden), grads = empty(kTokens, 2 * hidden);
      const Matrix<const Element> gate{both.matrix.data, 2 * hidden}, up{both.matrix.data + hidden, 2 * hidden};
      const Matrix<Element> dgate{grads.matrix.data, 2 * hidden}, dup{grads.matrix.data + hidden, 2 * hidden};
      table_.row("swiglu backward", shape(kTokens, hidden), {inner * 10}, [&] {
        kernels::glu_backward<CudaQueue, Element>(queue_, dgate, dup, dy, gate, up, kernels::Activation::silu, kTokens,
                                                  hidden);
      });
    }
    {
      const Rows x = random(kTokens, hidden), y = empty(kTokens, hidden);
      table_.row("gelu forward", shape(kTokens, hidden), {inner * 4},
                 [&] { kernels::gelu_forward<CudaQueue, Element>(queue_, y, x, kTokens, hidden); });
    }
    {
      const Rows x = random(kTokens, hidden), dy = random(kTokens, hidden), dx = empty(kTokens, hidden);
      table_.row("gelu backward", shape(kTokens, hidden), {inner * 6},
                 [&] { kernels::gelu_backward<CudaQueue, Element>(queue_, dx, dy, x, kTokens, hidden); });
    }
    {
      const Rows x = random(kTokens, width), y = empty(kTokens, width);
      table_.row("dropout", shape(kTokens, width), {elements * 4}, [&] {
        kernels::dropout<CudaQueue, Element>(queue_, y, x, 0.1f, {1, 2, 3}, 0, kTokens, width);
      });
    }
    {
      const Index heads = model_.heads, size = model_.head_dim;
      const Rows x = random(kTokens, heads * size), y = empty(kTokens, heads * size);
      auto* table = gpu_.empty<float>(model_.context * size);
      kernels::rope_table<CudaQueue, float>(queue_, table, model_.context, size, 10000);
      std::vector<std::int32_t> places(kTokens);
      for (Index i = 0; i < kTokens; ++i) {
        places[static_cast<std::size_t>(i)] = static_cast<std::int32_t>(i % model_.context);
      }
      const auto* positions = gpu_.upload(places);
      table_.row("rope", shape(kTokens, heads * size), {as_double(kTokens * heads * size) * 4}, [&] {
        kernels::rope<CudaQueue, Element>(queue_, y, x, positions, table, kTokens, heads, size, false);
      });
    }
    {
      const Rows a = random(kTokens, width), b = random(kTokens, width), y = empty(kTokens, width);
      table_.row("add", shape(kTokens, width), {elements * 6},
                 [&] { kernels::add<CudaQueue, Element>(queue_, y, a, b, kTokens, width); });
    }
    {
      const Rows x = random(kTokens, width), y = empty(kTokens, width);
      table_.row("scale", shape(kTokens, width), {elements * 4},
                 [&] { kernels::scale<CudaQueue, Element>(queue_, y, x, 0.5f, kTokens, width); });
    }
    {
      const auto* x = gpu_.random<float>(kTokens * width);
      auto* y = gpu_.random<float>(kTokens * width);
      table_.row("add_scaled, f32", shape(kTokens, width), {elements * 12},
                 [&] { kernels::add_scaled<CudaQueue, float>(queue_, y, x, 0.5f, kTokens * width); });
    }
    {
      const Rows y = empty(kTokens, width);
      table_.row("fill", shape(kTokens, width), {elements * 2},
                 [&] { kernels::fill<CudaQueue, Element>(queue_, y, to_bf16(1), kTokens, width); });
    }
    {
      const Matrix<const float> x{gpu_.random<float>(kTokens * width), width};
      const Rows y = empty(kTokens, width);
      table_.row("convert f32 to bf16", shape(kTokens, width), {elements * 6},
                 [&] { kernels::convert<CudaQueue, Element, float>(queue_, y, x, kTokens, width); });
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
      table_.row("embedding forward", shape(kTokens, width), {elements * 2 + as_double(distinct * width) * 2},
                 [&] { kernels::embedding_forward<CudaQueue, Element>(queue_, y, numbers, table, kTokens, width); });
    }
    {
      auto* table = gpu_.zeros<float>(vocab * width);
      const auto *numbers = gpu_.upload(ids), *sorted = gpu_.upload(order);
      const Rows dy = random(kTokens, width);
      table_.row("embedding backward", shape(kTokens, width), {elements * 2 + as_double(distinct * width) * 8}, [&] {
        kernels::embedding_backward<CudaQueue, Element>(queue_, table, dy, numbers, sorted, kTokens, width);
      });
    }
    const auto count = static_cast<Index>(rows.size());
    {
      const auto* chosen = gpu_.upload(rows);
      const Rows x = random(kTokens, width), y = empty(count, width);
      table_.row("gather_rows", shape(count, width), {as_double(count * width) * 4},
                 [&] { kernels::gather_rows<CudaQueue, Element>(queue_, y, x, chosen, count, width); });
    }
    {
      const auto* chosen = gpu_.upload(rows);
      const Rows x = random(count, width), y = empty(kTokens, width);
      table_.row("scatter_rows", shape(kTokens, width), {elements * 2 + as_double(count * width) * 2},
                 [&] { kernels::scatter_rows<CudaQueue, Element>(queue_, y, x, chosen, count, kTokens, width); });
    }
  }

  /// c[m,n] = op(a) op(b), with the algorithm that is chosen by timing; the peer is cuBLASLt's own first suggestion.
  template <class C>
  void product(const std::string& name, bool transpose_a, bool transpose_b, Index m, Index n, Index k,
               bool accumulate) {
    const Index a_stride = transpose_a ? m : k, b_stride = transpose_b ? k : n;
    const Matrix<const Element> a{gpu_.random<Element>(m * k), a_stride}, b{gpu_.random<Element>(k * n), b_stride};
    const Matrix<C> c{gpu_.random<C>(m * n), n};
    const auto run = [&] {
      kernels::matmul<CudaQueue, Element, C>(queue_, c, a, transpose_a, b, transpose_b, m, n, k, accumulate);
    };
    Peer peer{"cuBLASLt's first choice", 0};
    const auto chosen = kernels::matmul_choices();
    try {
      kernels::set_matmul_choices({});
      peer.seconds = gpu_.seconds(run);
      kernels::choose_matmul<Element, C>(queue_, c, a, transpose_a, b, transpose_b, m, n, k, accumulate);
    } catch (const std::exception&) {  // the case itself says so
    }
    table_.row(name, fmt::format("{}x{}x{}", m, n, k), {0, 2.0 * as_double(m) * as_double(n) * as_double(k)}, run, {},
               [&] { return peer; });
    kernels::set_matmul_choices(chosen);
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
    product<Element>("matmul " + name + " y", false, true, kTokens, out, in, false);
    product<Element>("matmul " + name + " dx", false, false, kTokens, in, out, false);
    product<float>("matmul " + name + " dW", true, false, out, in, kTokens, true);
  }

  void head() {
    const Index vocab = model_.vocab_size;
    const Rows logits = random(kTokens, vocab);
    const auto* targets = gpu_.upload(tests::integers(kTokens, static_cast<std::int32_t>(vocab), 2));
    const auto* weights = gpu_.upload(std::vector<float>(kTokens, 1));
    auto* losses = gpu_.empty<float>(kTokens);
    table_.row(
        "cross_entropy + gradient", shape(kTokens, vocab), {as_double(kTokens * vocab) * 4},
        [&] {
          kernels::cross_entropy<CudaQueue, Element>(queue_, losses, logits, targets, weights, true, kTokens, vocab);
        },
        [&, at = logits.matrix.data] { gpu_.randomise(at, kTokens * vocab); });
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
    struct Arrays {
      Matrix<Element> q, k, v, out, dout, dq, dk, dv;
      float* lse;
      std::int32_t *starts, *prefixes;
    };
    const auto arrays = [&] {
      return Arrays{random(kTokens, heads * size), random(kTokens, kv * size),    random(kTokens, kv * size),
                    empty(kTokens, heads * size),  random(kTokens, heads * size), empty(kTokens, heads * size),
                    empty(kTokens, kv * size),     empty(kTokens, kv * size),     gpu_.empty<float>(kTokens * heads),
                    gpu_.upload(starts),           gpu_.upload(prefixes)};
    };
    const auto run_forward = [&](const Arrays& m) {
      kernels::attention_forward<CudaQueue, Element>(queue_, m.out, m.lse, m.q, m.k, m.v, m.starts, m.prefixes, shape);
    };
    {
      const Arrays m = arrays();
      table_.row("attention forward", name, forward, [&] { run_forward(m); });
    }
    {
      const Arrays m = arrays();
      run_forward(m);
      table_.row("attention backward", name, backward, [&] {
        kernels::attention_backward<CudaQueue, Element>(queue_, m.dq, m.dk, m.dv, m.dout, m.out, m.lse, m.q, m.k, m.v,
                                                        m.starts, m.prefixes, shape);
      });
    }
  }
  void attention() {
    for (const Index length : {128, 512, 0}) attention(length);
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
      kernels::sum_squares_of_blocks<CudaQueue, float>(queue_, partials, gradient, count);
      kernels::begin_step<CudaQueue>(queue_, step, partials, blocks, {.clip_norm = 1});
      return step;
    };
    const std::string shape = fmt::format("{} parameters", count);
    {
      const auto* gradient = gpu_.random<float>(count);
      auto* partials = gpu_.empty<double>(blocks);
      table_.row("norm of the gradients", shape, {elements * 4},
                 [&] { kernels::sum_squares_of_blocks<CudaQueue, float>(queue_, partials, gradient, count); });
    }
    {
      auto *weight = gpu_.random<float>(count), *m = gpu_.random<float>(count), *v = gpu_.zeros<float>(count),
           *gradient = gpu_.random<float>(count);
      auto* copy = gpu_.empty<bf16>(count);
      const auto* step = decided(gradient);
      table_.row(
          "adamw", shape, {elements * 34},
          [&] { kernels::adamw_step<CudaQueue>(queue_, weight, m, v, gradient, copy, step, {}, count); },
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
          "adafactor", fmt::format("{}x{}", in, width), {as_double(cells) * (12 + 8 + 4 + 2 + 4)},
          [&] { kernels::adafactor_step<CudaQueue>(queue_, weight, row, column, gradient, copy, step, {}, in, width); },
          [&] { gpu_.randomise(gradient, cells); });
    }
  }

  void decoding() {
    const Index width = model_.width, attention = model_.heads * model_.head_dim, vocab = model_.vocab_size;
    const Index in = attention + 2 * model_.kv_heads * model_.head_dim + 2 * model_.ff_width;
    struct Projection {
      const char* name;
      Index out, in;
    };
    for (const auto& [name, out, inner] : {Projection{"matmul input, decode", in, width},
                                           Projection{"matmul output, decode", width, attention + model_.ff_width},
                                           Projection{"matmul head, decode", vocab, width}}) {
      for (const Index rows : {1, 4, 8}) {
        const Rows x = random(rows, inner), weight = random(out, inner), y = empty(rows, out);
        table_.row(name, fmt::format("{}x{}x{}", rows, out, inner), {as_double(out * inner) * 2}, [&] {
          kernels::matmul<CudaQueue, Element, Element>(queue_, y, x, false, weight, true, rows, out, inner, false);
        });
      }
    }
    for (const Index rows : {1, 4, 8}) {
      const Index shared = 32, own = 96, heads = model_.heads, kv = model_.kv_heads, size = model_.head_dim;
      const Rows q = random(rows, heads * size), out = empty(rows, heads * size), k = random(shared, kv * size),
                 v = random(shared, kv * size), own_k = random(rows * own, kv * size),
                 own_v = random(rows * own, kv * size);
      const auto* lengths = gpu_.upload(std::vector<std::int32_t>(static_cast<std::size_t>(rows), own));
      const kernels::DecodeShape shape{rows, shared, own, heads, kv, size, 1 / std::sqrt(as_double(size))};
      table_.row("attention decode", fmt::format("{} rows, {} + {} keys", rows, shared, own),
                 {as_double((shared + rows * own) * kv * size) * 4 + as_double(rows * heads * size) * 4}, [&] {
                   kernels::attention_decode<CudaQueue, Element>(queue_, out, q, k, v, own_k.matrix.data,
                                                                 own_v.matrix.data, lengths, shape);
                 });
    }
    for (const Index rows : {1, 8}) {
      const Rows logits = random(rows, vocab);
      const auto* uniforms = gpu_.upload(std::vector<float>(static_cast<std::size_t>(rows), 0.7f));
      auto* tokens = gpu_.empty<std::int32_t>(rows);
      const kernels::Sampling config{.temperature = 0.8f, .top_k = 0, .top_p = 0.95f, .min_p = 0};
      table_.row("sample, top_p", shape(rows, vocab), {as_double(rows * vocab) * 2}, [&] {
        kernels::sample<CudaQueue, Element>(queue_, tokens, nullptr, logits, uniforms, config, rows, vocab);
      });
    }
  }

  Gpu& gpu_;
  const CudaQueue& queue_;
  Table& table_;
  const train::ModelConfig model_;
};

int run(std::vector<std::string> presets) {
  const kernels::DeviceProperties device = CudaQueue::properties();
  if (presets == std::vector<std::string>{"--device"}) {
    fmt::print("{}\n", device.name);
    return 0;
  }
  if (presets.empty()) presets = {"palm-125m", "palm-350m", "palm-1b"};
  std::vector<train::ModelConfig> models;
  for (const std::string& preset : presets) {
    models.push_back(train::parse_recipe("model: {preset: " + preset + "}", preset).model);
    if (models.back().vocab_size == 0) models.back().vocab_size = 32000;
  }
  Gpu gpu;
  const Gpu::Ceilings ceilings = gpu.measure_ceilings();
  fmt::print("{}, compute capability {}.{}, {} multiprocessors\n", device.name, device.major, device.minor,
             device.multiprocessors);
  fmt::print("ceilings: copy {:.2f} TB/s, bf16 GEMM {}\n", ceilings.copy * 1e-12,
             ceilings.gemm > 0 ? fmt::format("{:.0f} TFLOP/s", ceilings.gemm * 1e-12) : "n/a: " + ceilings.no_gemm);
  Table table(gpu, ceilings);
  for (std::size_t i = 0; i < models.size(); ++i) {
    fmt::print("{}, {} tokens\n", presets[i], kTokens);
    std::fflush(stdout);
    Cases(gpu, table, models[i]).all();
  }
  return table.failed() ? 1 : 0;
}

}  // namespace
}  // namespace unfurl::benchmarks

int main(int count, char** arguments) {
  try {
    if (!unfurl::benchmarks::gpu_is_here()) return unfurl::benchmarks::kNoGpu;
    return unfurl::benchmarks::run({arguments + 1, arguments + count});
  } catch (const unfurl::UserError& error) {
    fmt::print(stderr, "error: {}\n", error.what());
    return 2;
  } catch (const std::exception& error) {
    fmt::print(stderr, "error: {}\n", error.what());
    return 1;
  }
}
