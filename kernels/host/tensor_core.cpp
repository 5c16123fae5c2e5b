#include "kernels/host/tensor_core.h"

#include <bit>

#include "kernels/host/runner.h"

namespace unfurl::kernels::host {
namespace {

struct MatrixRow {
  std::uint32_t words[4];
  std::uint32_t address;
};

template <bool kTransposed>
void run_exchange(const Exchange& exchange) {
  Statistics& statistics = Runner::of_this_thread().statistics;
  ++statistics.ldmatrix;
  for (int m = 0; m < 4; ++m) {
    std::uint16_t e[8][8];
    unsigned groups = 0;
    bool known = true;
    for (int i = 0; i < 8; ++i) {
      const auto* row = static_cast<const MatrixRow*>(exchange.in[8 * m + i]);
      std::memcpy(e[i], row->words, sizeof e[i]);
      known = known && initialised(row->words, sizeof row->words);
      groups |= 1u << (row->address / 16 % 8);
    }
    statistics.bank_conflicts += 8 - static_cast<unsigned>(std::popcount(groups));
    for (int lane = 0; lane < 32; ++lane) {
      const int i = lane / 4, j = lane % 4 * 2;
      const std::uint32_t low = kTransposed ? e[j][i] : e[i][j], high = kTransposed ? e[j + 1][i] : e[i][j + 1];
      auto* out = static_cast<std::uint32_t*>(exchange.out[lane]) + m;
      *out = low | high << 16;
      known ? mark_initialised(out, sizeof *out) : mark_uninitialised(out, sizeof *out);
    }
  }
}

constexpr Collective kExchange[] = {{"ldmatrix", run_exchange<false>}, {"ldmatrix.trans", run_exchange<true>}};

struct Fragments {
  std::uint32_t a[4], b[2];
};

float low_half(std::uint32_t pair) { return std::bit_cast<float>(pair << 16); }
float high_half(std::uint32_t pair) { return std::bit_cast<float>(pair & 0xffff0000u); }

using Row = float __attribute__((vector_size(32)));

void run_mma(const Exchange& exchange) {
  ++Runner::of_this_thread().statistics.mma;
  float a[16][16];
  alignas(32) float b[16][8], c[16][8];
  bool known = true;
  for (int lane = 0; lane < 32; ++lane) {
    const auto* in = static_cast<const Fragments*>(exchange.in[lane]);
    const auto* d = static_cast<const float*>(exchange.out[lane]);
    known = known && initialised(in, sizeof *in) && initialised(d, 4 * sizeof *d);
    const int g = lane / 4, q = lane % 4 * 2;
    for (int i = 0; i < 4; ++i) {
      float* at = &a[g + i % 2 * 8][q + i / 2 * 8];
      at[0] = low_half(in->a[i]);
      at[1] = high_half(in->a[i]);
      c[g + i / 2 * 8][q + i % 2] = d[i];
    }
    for (int i = 0; i < 2; ++i) {
      b[q + i * 8][g] = low_half(in->b[i]);
      b[q + i * 8 + 1][g] = high_half(in->b[i]);
    }
  }
  for (int row = 0; row < 16; ++row) {
    Row sum = {};
    for (int k = 0; k < 16; ++k) sum += a[row][k] * *reinterpret_cast<const Row*>(b[k]);
    *reinterpret_cast<Row*>(c[row]) += sum;
  }
  for (int lane = 0; lane < 32; ++lane) {
    auto* d = static_cast<float*>(exchange.out[lane]);
    const int g = lane / 4, q = lane % 4 * 2;
    for (int i = 0; i < 4; ++i) d[i] = c[g + i / 2 * 8][q + i % 2];
    if (!known) mark_uninitialised(d, 4 * sizeof *d);
  }
}

constexpr Collective kMma{"mma.sync", run_mma};
constexpr std::uint32_t kAllLanes = 0xffffffffu;

void require_whole_warp(const char* what, CallSite site) {
  const Fiber* fiber = Runner::of_this_thread().self();
  if (fiber->warp->present != kAllLanes) fault("%s at %s needs a whole warp", what, text(site));
}

}  // namespace

void exchange_matrices(std::uint32_t (&fragment)[4], const std::uint32_t (&row)[4], std::uint32_t address,
                       bool transposed, CallSite site) {
  const Collective& what = kExchange[transposed ? 1 : 0];
  require_whole_warp(what.name, site);
  MatrixRow in{{row[0], row[1], row[2], row[3]}, address};
  pass_on(in.words, sizeof in.words, row, sizeof row);
  collective(what, kAllLanes, &in, fragment, site);
}

void mma_m16n8k16(float (&d)[4], const std::uint32_t (&a)[4], const std::uint32_t (&b)[2], CallSite site) {
  require_whole_warp(kMma.name, site);
  Fragments in{{a[0], a[1], a[2], a[3]}, {b[0], b[1]}};
  pass_on(in.a, sizeof in.a, a, sizeof a);
  pass_on(in.b, sizeof in.b, b, sizeof b);
  collective(kMma, kAllLanes, &in, d, site);
}

}  // namespace unfurl::kernels::host
