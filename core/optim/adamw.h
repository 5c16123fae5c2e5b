// AdamW: decoupled weight decay, on the decayed parameters only. The formula is in kernels/adamw.h; a step is one
// launch per arena.
#pragma once
#include "core/optim/optimizer.h"
#include "kernels/adamw.h"

namespace unfurl {

struct AdamWOptions {
  double beta1 = 0.9;
  double beta2 = 0.95;
  double eps = 1e-8;
  double weight_decay = 0.1;
  double clip_norm = 1;  // 0: off
};

class AdamW : public Optimizer {
 public:
  AdamW(Parameters& parameters, const AdamWOptions& options, OptimizerShare share = {});

  /// "m.decayed", "v.decayed", "m.undecayed", "v.undecayed", each laid out as the arena, of which a rank has its own
  /// parts; without those of empty arenas.
  std::vector<StateTensor> state() const override;

 private:
  void update(double learning_rate, double gradient_scale) override;
  void update(const kernels::OptimizerStep* step) override;

  struct Arena {
    ParameterGroup group;
    Tensor m, v;
  };
  kernels::AdamW config(const Arena& arena) const;
  template <class Body>
  void each_part(Body body) const;
  AdamWOptions options_;
  std::vector<Arena> arenas_;
};

}  // namespace unfurl
