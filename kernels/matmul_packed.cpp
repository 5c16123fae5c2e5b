#include "kernels/matmul_packed.h"

#include <blis-serial/blis.h>

#include <algorithm>
#include <utility>
#include <vector>

namespace unfurl::kernels {
namespace {

constexpr Index ceil_div(Index a, Index b) { return (a + b - 1) / b; }
constexpr Index round_up(Index a, Index b) { return ceil_div(a, b) * b; }

/// `size` in equal parts of at most `most`, each a multiple of `unit`: their length.
constexpr Index even(Index size, Index most, Index unit) {
  return round_up(ceil_div(size, ceil_div(size, most)), unit);
}

constexpr Index kTileRows = 96, kTileCols = 192;  // of c: the panels of a block that a tile reads stay in the L2 cache
constexpr Index kSlice = 8192;                    // rows and columns of c that are packed for at a time
constexpr Index kPacked = Index{1} << 21;         // elements packed at a time, about
constexpr Index kAlignment = 64;                  // bytes, of a panel

template <class T>
struct Blis;
template <>
struct Blis<float> {
  using MicroKernel = sgemm_ukr_ft;
  using PackKernel = spackm_cxk_ker_ft;
  static constexpr num_t kType = BLIS_FLOAT;
};
template <>
struct Blis<double> {
  using MicroKernel = dgemm_ukr_ft;
  using PackKernel = dpackm_cxk_ker_ft;
  static constexpr num_t kType = BLIS_DOUBLE;
};

/// BLIS's micro-kernel for this processor: c[mr, nr] += a[mr, k] b[k, nr] on packed panels.
template <class T>
struct Micro {
  typename Blis<T>::MicroKernel run;
  cntx_t* context;
  Index mr, nr;                                 // of the tile
  Index width_a, width_b;                       // of a panel's rows, at least mr and nr
  Index kc;                                     // length of a block that suits the caches
  bool by_rows;                                 // whether it is fastest where the rows of c are dense
  typename Blis<T>::PackKernel pack_a, pack_b;  // null where BLIS has none of that width

  static const Micro& of_this_processor() {
    static const Micro micro = [] {
      bli_init();
      cntx_t* context = bli_gks_query_cntx();
      const auto size = [&](bszid_t id) { return Index{bli_cntx_get_blksz_def_dt(Blis<T>::kType, id, context)}; };
      const auto most = [&](bszid_t id) { return Index{bli_cntx_get_blksz_max_dt(Blis<T>::kType, id, context)}; };
      const auto pack = [&](Index unit, Index width) {
        void_fp kernel = nullptr;
        if (unit == width && unit < BLIS_NUM_PACKM_KERS) {
          kernel = bli_cntx_get_packm_ker_dt(Blis<T>::kType, static_cast<l1mkr_t>(unit), context);
        }
        return reinterpret_cast<typename Blis<T>::PackKernel>(kernel);
      };
      return Micro{reinterpret_cast<typename Blis<T>::MicroKernel>(
                       bli_cntx_get_l3_nat_ukr_dt(Blis<T>::kType, BLIS_GEMM_UKR, context)),
                   context,
                   size(BLIS_MR),
                   size(BLIS_NR),
                   most(BLIS_MR),
                   most(BLIS_NR),
                   size(BLIS_KC),
                   bli_cntx_l3_nat_ukr_prefers_rows_dt(Blis<T>::kType, BLIS_GEMM_UKR, context),
                   pack(size(BLIS_MR), most(BLIS_MR)),
                   pack(size(BLIS_NR), most(BLIS_NR))};
    }();
    return micro;
  }
};

/// panel[l * width + i] = from[i * across + l * along] for i < count, l < length; the rest of its rows are 0.
template <class T>
void pack_panel(const Micro<T>& micro, typename Blis<T>::PackKernel kernel, T* panel, Index width, const T* from,
                Index across, Index along, Index count, Index length) {
  if (kernel != nullptr) {
    T one = 1;
    kernel(BLIS_NO_CONJUGATE, BLIS_PACKED_ROW_PANELS, count, length, length, &one, const_cast<T*>(from), across, along,
           panel, width, micro.context);
    return;
  }
  if (count < width) std::fill_n(panel, width * length, T(0));
  for (Index i = 0; i < count; ++i) {
    for (Index l = 0; l < length; ++l) panel[l * width + i] = from[i * across + l * along];
  }
}

/// One operand's panels of several blocks of k.
template <class T>
struct Panels {
  T* data = nullptr;
  Index unit = 0, width = 0;  // rows of the operand a panel takes, and a panel's width
  Index count = 0;            // panels a block
  Index stride = 0;           // elements from panel to panel
  typename Blis<T>::PackKernel kernel = nullptr;

  Index elements(Index blocks) const { return count * stride * blocks; }
  T* panel(Index block, Index i) const { return data + (block * count + i) * stride; }
};

}  // namespace

template <class T>
void matmul_packed(ThreadPool& pool, Strided<T> c, Strided<const T> a, Strided<const T> b, Index m, Index n, Index k,
                   bool accumulate) {
  const Micro<T>& micro = Micro<T>::of_this_processor();
  if (micro.by_rows != (c.col == 1)) {  // c^T = b^T a^T
    std::swap(a, b);
    std::swap(a.row, a.col);
    std::swap(b.row, b.col);
    std::swap(c.row, c.col);
    std::swap(m, n);
  }
  const Index kc = even(k, micro.kc, 1), blocks = ceil_div(k, kc);
  const Index slice_m = even(m, kSlice, micro.mr), slice_n = even(n, kSlice, micro.nr);
  const auto panels = [&](Index slice, Index unit, Index width, auto kernel) {
    return Panels<T>{
        nullptr, unit, width, ceil_div(slice, unit), round_up(width * kc, kAlignment / static_cast<Index>(sizeof(T))),
        kernel};
  };
  Panels<T> of_a = panels(slice_m, micro.mr, micro.width_a, micro.pack_a),
            of_b = panels(slice_n, micro.nr, micro.width_b, micro.pack_b);
  const Index depth = std::clamp<Index>(kPacked / (of_a.elements(1) + of_b.elements(1)), 1, blocks);
  // Micro-kernels may read one row beyond a panel.
  const Index elements = of_a.elements(depth) + of_b.elements(depth) + 4 * (micro.width_a + micro.width_b);

  // A phase is `depth` blocks of a slice of c. While one is computed, the next one is packed.
  struct Phase {
    Index row, rows, col, cols, block, blocks;
    Panels<T> a, b;
  };
  std::vector<Phase> phases;
  for (Index col = 0; col < n; col += slice_n) {
    for (Index row = 0; row < m; row += slice_m) {
      for (Index block = 0; block < blocks; block += depth) {
        phases.push_back({row, std::min(slice_m, m - row), col, std::min(slice_n, n - col), block,
                          std::min(depth, blocks - block), of_a, of_b});
      }
    }
  }
  const Index buffers = phases.size() > 1 ? 2 : 1;
  auto* memory = static_cast<T*>(thread_scratch(static_cast<std::size_t>(buffers * elements) * sizeof(T)));
  for (std::size_t i = 0; i < phases.size(); ++i) {
    phases[i].a.data = memory + static_cast<Index>(i % 2) * elements;
    phases[i].b.data = phases[i].a.data + of_a.elements(depth);
  }
  const auto length = [&](Index block) { return std::min(kc, k - block * kc); };

  // Packing: a task is some panels of one operand and block.
  constexpr Index kGroup = 8;
  const auto groups = [](Index size, const Panels<T>& of) { return ceil_div(ceil_div(size, of.unit), kGroup); };
  const auto pack_tasks = [&](const Phase& phase) {
    return phase.blocks * (groups(phase.rows, of_a) + groups(phase.cols, of_b));
  };
  const auto pack = [&](const Phase& phase, Index task) {
    const Index groups_a = groups(phase.rows, of_a), all = groups_a + groups(phase.cols, of_b);
    const Index block = task / all, group = task % all;
    const auto panels_of = [&](const Panels<T>& to, const T* from, Index across, Index along, Index size, Index g) {
      from += (phase.block + block) * kc * along;
      for (Index i = g * kGroup; i < std::min((g + 1) * kGroup, ceil_div(size, to.unit)); ++i) {
        pack_panel(micro, to.kernel, to.panel(block, i), to.width, from + i * to.unit * across, across, along,
                   std::min(to.unit, size - i * to.unit), length(phase.block + block));
      }
    };
    if (group < groups_a) {
      panels_of(phase.a, a.data + phase.row * a.row, a.row, a.col, phase.rows, group);
    } else {
      panels_of(phase.b, b.data + phase.col * b.col, b.col, b.row, phase.cols, group - groups_a);
    }
  };

  const auto compute = [&](const Phase& phase, Index height, Index width, Index tile) {
    const Index tile_rows = ceil_div(phase.rows, height);
    const Index top = tile % tile_rows * height, left = tile / tile_rows * width;
    const Index bottom = std::min(top + height, phase.rows), right = std::min(left + width, phase.cols);
    T one = 1;
    auxinfo_t next{};
    for (Index block = 0; block < phase.blocks; ++block) {
      T beta = phase.block + block > 0 || accumulate ? T(1) : T(0);
      for (Index j = left; j < right; j += micro.nr) {
        T* panel_b = phase.b.panel(block, j / micro.nr);
        for (Index i = top; i < bottom; i += micro.mr) {
          T* panel_a = phase.a.panel(block, i / micro.mr);
          bli_auxinfo_set_next_ab(panel_a + (i + micro.mr < bottom ? of_a.stride : 0), panel_b, &next);
          micro.run(std::min(micro.mr, bottom - i), std::min(micro.nr, right - j), length(phase.block + block), &one,
                    panel_a, panel_b, &beta, c.data + (phase.row + i) * c.row + (phase.col + j) * c.col, c.row, c.col,
                    &next, micro.context);
        }
      }
    }
  };

  pool.parallel_for(pack_tasks(phases[0]), [&](Index task) { pack(phases[0], task); });
  for (std::size_t i = 0; i < phases.size(); ++i) {
    const Phase& phase = phases[i];
    const Index height = even(phase.rows, kTileRows, micro.mr), width = even(phase.cols, kTileCols, micro.nr);
    const Index tiles = ceil_div(phase.rows, height) * ceil_div(phase.cols, width);
    const Index packs = i + 1 < phases.size() ? pack_tasks(phases[i + 1]) : 0;
    pool.parallel_for(tiles + packs, [&](Index task) {
      if (task < tiles) {
        compute(phase, height, width, task);
      } else {
        pack(phases[i + 1], task - tiles);
      }
    });
  }
}

template void matmul_packed(ThreadPool&, Strided<float>, Strided<const float>, Strided<const float>, Index, Index,
                            Index, bool);
template void matmul_packed(ThreadPool&, Strided<double>, Strided<const double>, Strided<const double>, Index, Index,
                            Index, bool);

}  // namespace unfurl::kernels
