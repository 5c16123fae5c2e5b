// Adafactor: the second moment of a matrix is kept as one number a row and one a column. The formula is in
// kernels/adafactor.h. Weight decay, decoupled, is on the decayed parameters only; a joint parameter is one matrix.
#pragma once
#include "core/optim/optimizer.h"
#include "kernels/adafactor.h"

namespace unfurl {

struct AdafactorOptions {
  double decay = 0.8;
  double eps1 = 1e-30;
  double eps2 = 1e-3;
  double clip_threshold = 1;
  bool parameter_scale = false;
  double weight_decay = 0;
  double clip_norm = 1;  // of all gradients together, as for AdamW; 0: off
};

class Adafactor : public Optimizer {
 public:
  Adafactor(Parameters& parameters, const AdafactorOptions& options);

  /// "row" and "column": those of all trained parameters in the order of their declaration, without gaps. A tensor of n
  /// dimensions is a matrix of all but the last by the last; of one row, it has no part in "row".
  std::vector<StateTensor> state() const override;

 private:
  void update(double learning_rate, double gradient_scale) override;
  void update(const kernels::OptimizerStep* step) override;

  struct Part {
    std::size_t parameter;
    Index rows, cols;
    Index row, column;  // where its state starts
  };
  kernels::Adafactor config(const Parameter& parameter) const;

  AdafactorOptions options_;
  std::vector<Part> parts_;
  Tensor row_, column_;
};

}  // namespace unfurl
