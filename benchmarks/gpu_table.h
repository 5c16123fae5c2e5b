// The table of kernels_gpu_benchmark: a line a case, and what its cases share.
#pragma once
#include <cmath>
#include <string>

#include "benchmarks/gpu.h"
#include "train/recipe/recipe.h"

namespace unfurl::benchmarks {

using kernels::Matrix;

/// Rows of all matrices but those of the weights.
constexpr Index kTokens = kSimulated ? 160 : 8192;

struct Work {
  double bytes = 0;  // the least that memory must move
  double flops = 0;
};

/// Another program's or library's time for the same work; 0 where it has none.
struct Peer {
  std::string what;
  double seconds = 0;
};

class Table {
 public:
  Table(Gpu& gpu, Gpu::Ceilings ceilings) : gpu_(gpu), ceilings_(std::move(ceilings)) {}

  /// Measures and prints one case, with a peer's time beside it and how many times ours that is; a failure is a line
  /// too. Frees the GPU's memory.
  void row(const std::string& name, const std::string& shape, const Work& work, const std::function<void()>& body,
           const std::function<void()>& prepare = {}, const std::function<Peer()>& peer = {}) {
    std::string line = fmt::format("{:30} {:26} ", name, shape);
    try {
      const double seconds = gpu_.seconds(body, prepare);
      line += kSimulated ? "simulated" : figures(work, seconds);
      if (peer) line += beside(peer, seconds);
    } catch (const std::exception& error) {
      line += fmt::format("failed: {}", error.what());
      failed_ = true;
    }
    print(line);
  }

  /// Some cases, of which none is measured where what they share cannot be made.
  void group(const char* name, const std::function<void()>& cases) {
    try {
      cases();
    } catch (const std::exception& error) {
      failed_ = true;
      print(fmt::format("{}: failed: {}", name, error.what()));
    }
  }

  bool failed() const { return failed_; }

 private:
  std::string figures(const Work& work, double seconds) const {
    std::string out = fmt::format("{:10.1f} us", seconds * 1e6);
    if (work.bytes > 0) {
      out += fmt::format("  {:6.3f} TB/s {:5.1f} % of copy", work.bytes / seconds * 1e-12,
                         100 * work.bytes / seconds / ceilings_.copy);
    }
    if (work.flops > 0) {
      out += fmt::format("  {:6.1f} TFLOP/s", work.flops / seconds * 1e-12);
      if (ceilings_.gemm > 0) out += fmt::format(" {:5.1f} % of GEMM", 100 * work.flops / seconds / ceilings_.gemm);
    }
    return out;
  }
  static std::string beside(const std::function<Peer()>& peer, double seconds) {
    try {
      const Peer other = peer();
      if (kSimulated) return other.what.empty() ? "" : "  beside " + other.what;
      return fmt::format("  {} {:.1f} us ({:.2f}x)", other.what, other.seconds * 1e6, other.seconds / seconds);
    } catch (const std::exception& error) {  // ours counts all the same
      return fmt::format("  peer n/a: {}", error.what());
    }
  }
  void print(const std::string& line) {
    fmt::print("{}\n", line);
    std::fflush(stdout);
    gpu_.clear();
  }

  Gpu& gpu_;
  Gpu::Ceilings ceilings_;
  bool failed_ = false;
};

inline double as_double(Index value) { return static_cast<double>(value); }

/// A model's cases: matrices of random or no numbers, [rows, cols] without gaps, until the case's line is printed.
class Cases {
 public:
  Cases(Gpu& gpu, Table& table, const train::ModelConfig& model)
      : gpu_(gpu), queue_(gpu.queue()), table_(table), model_(model) {}

 protected:
  using Element = bf16;
  struct Rows {
    Matrix<Element> matrix;
    operator Matrix<Element>() const { return matrix; }
    operator Matrix<const Element>() const { return matrix; }
  };
  Rows random(Index rows, Index cols) { return {{gpu_.random<Element>(rows * cols), cols}}; }
  Rows empty(Index rows, Index cols) { return {{gpu_.empty<Element>(rows * cols), cols}}; }
  static std::string shape(Index rows, Index cols) { return fmt::format("{}x{}", rows, cols); }

  Gpu& gpu_;
  const Queue& queue_;
  Table& table_;
  const train::ModelConfig model_;
};

}  // namespace unfurl::benchmarks
