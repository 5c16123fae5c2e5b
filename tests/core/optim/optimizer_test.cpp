#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <functional>
#include <limits>
#include <memory>

#include "core/dispatch.h"
#include "core/optim/adafactor.h"
#include "core/optim/adamw.h"
#include "tests/support/random.h"

namespace unfurl::tests {
namespace {

/// A small model's parameters: matrices and vectors of odd sizes, decayed, undecayed and frozen.
std::unique_ptr<Parameters> make_parameters(DType dtype = DType::f64, Device device = Device::cpu) {
  auto parameters = std::make_unique<Parameters>();
  parameters->declare("embedding", {33, 17}, ParameterGroup::decayed);
  parameters->declare("gain", {17}, ParameterGroup::undecayed);
  parameters->declare("prompt", {3, 17}, ParameterGroup::frozen);
  parameters->declare("experts", {2, 5, 17}, ParameterGroup::decayed);
  parameters->declare("bias", {1, 7}, ParameterGroup::undecayed);
  parameters->allocate(dtype, device, true);
  return parameters;
}

template <class T>
void fill(const Tensor& tensor, std::uint64_t seed, double scale) {
  const auto values = normal<T>(tensor.numel(), seed, scale);
  std::copy(values.begin(), values.end(), tensor.data<T>());
}

template <class T>
void fill_values(Parameters& parameters) {
  for (std::size_t i = 0; i < parameters.all().size(); ++i) fill<T>(parameters[i], 100 + i, 0.5);
}

/// Gradients of step `step`, also where the arena has padding none.
template <class T>
void fill_gradients(Parameters& parameters, Index step, double scale = 0.3) {
  for (std::size_t i = 0; i < parameters.all().size(); ++i) {
    if (const Tensor gradient = parameters[i].gradient(); gradient.defined()) {
      fill<T>(gradient, static_cast<std::uint64_t>(1000 * step) + i, scale);
    }
  }
}

template <class T>
std::vector<T> all_values(const Parameters& parameters) {
  std::vector<T> out;
  for (const Parameter& parameter : parameters.all()) {
    const auto values = parameter.value.values<T>();
    out.insert(out.end(), values.begin(), values.end());
  }
  return out;
}

using Make = std::function<std::unique_ptr<Optimizer>(Parameters&)>;
struct Kind {
  const char* name;
  Make make;
};
const Kind kKinds[] = {
    {"AdamW", [](Parameters& p) { return std::make_unique<AdamW>(p, AdamWOptions{}); }},
    {"Adafactor",
     [](Parameters& p) {
       return std::make_unique<Adafactor>(p, AdafactorOptions{.parameter_scale = true, .weight_decay = 0.1});
     }},
};

constexpr double kRate = 0.01;

TEST(Optimizer, AdamWEqualsAPlainReferenceOverFiveSteps) {
  const AdamWOptions options{.beta1 = 0.8, .beta2 = 0.9, .eps = 1e-6, .weight_decay = 0.2, .clip_norm = 2.5};
  auto parameters = make_parameters();
  fill_values<double>(*parameters);
  const auto frozen = (*parameters)[2].values<double>();
  struct State {
    std::vector<double> w, m, v;
  };
  std::vector<State> reference;
  for (const Parameter& parameter : parameters->all()) {
    const auto w = parameter.value.values<double>();
    reference.push_back({w, std::vector<double>(w.size()), std::vector<double>(w.size())});
  }
  AdamW optimizer(*parameters, options);
  for (Index step = 1; step <= 5; ++step) {
    fill_gradients<double>(*parameters, step, step == 3 ? 1e-3 : 0.3);  // step 3 is not clipped
    double squares = 0;
    for (const Parameter& parameter : parameters->all()) {
      if (parameter.group == ParameterGroup::frozen) continue;
      for (const double g : parameter.value.gradient().values<double>()) squares += g * g;
    }
    const double norm = std::sqrt(squares), scale = std::min(1.0, options.clip_norm / norm),
                 t = static_cast<double>(step);
    EXPECT_EQ(scale < 1, step != 3);
    for (std::size_t p = 0; p < reference.size(); ++p) {
      const Parameter& parameter = parameters->all()[p];
      if (parameter.group == ParameterGroup::frozen) continue;
      const auto gradient = parameter.value.gradient().values<double>();
      const double decay = parameter.group == ParameterGroup::decayed ? options.weight_decay : 0;
      auto& [w, m, v] = reference[p];
      for (std::size_t i = 0; i < w.size(); ++i) {
        const double g = gradient[i] * scale;
        m[i] = options.beta1 * m[i] + (1 - options.beta1) * g;
        v[i] = options.beta2 * v[i] + (1 - options.beta2) * g * g;
        const double m_hat = m[i] / (1 - std::pow(options.beta1, t)), v_hat = v[i] / (1 - std::pow(options.beta2, t));
        w[i] -= kRate * t * (m_hat / (std::sqrt(v_hat) + options.eps) + decay * w[i]);
      }
    }
    EXPECT_NEAR(optimizer.step(kRate * t), norm, 1e-12 * norm);
    EXPECT_EQ(optimizer.steps(), step);
    EXPECT_EQ(gradient_norm(*parameters), 0);  // cleared
  }
  for (std::size_t p = 0; p < reference.size(); ++p) {
    const auto got = (*parameters)[p].values<double>();
    for (std::size_t i = 0; i < got.size(); ++i) {
      ASSERT_NEAR(got[i], reference[p].w[i], 1e-13) << parameters->all()[p].name << " at " << i;
    }
  }
  EXPECT_EQ((*parameters)[2].values<double>(), frozen);
}

TEST(Optimizer, AdafactorEqualsAPlainReferenceOverFiveSteps) {
  const AdafactorOptions options{.decay = 0.7,
                                 .eps1 = 1e-20,
                                 .eps2 = 1e-2,
                                 .clip_threshold = 0.5,
                                 .parameter_scale = true,
                                 .weight_decay = 0.2,
                                 .clip_norm = 2.5};
  auto parameters = make_parameters();
  fill_values<double>(*parameters);
  const auto frozen = (*parameters)[2].values<double>();
  struct State {
    std::vector<double> w, row, column;
  };
  std::vector<State> reference;
  for (const Parameter& parameter : parameters->all()) {
    reference.push_back({parameter.value.values<double>(),
                         std::vector<double>(static_cast<std::size_t>(parameter.value.rows())),
                         std::vector<double>(static_cast<std::size_t>(parameter.value.cols()))});
  }
  Adafactor optimizer(*parameters, options);
  for (Index step = 1; step <= 5; ++step) {
    fill_gradients<double>(*parameters, step);
    const double scale = std::min(1.0, options.clip_norm / gradient_norm(*parameters));
    const double beta2 = 1 - std::pow(static_cast<double>(step), -options.decay);
    for (std::size_t p = 0; p < reference.size(); ++p) {
      const Parameter& parameter = parameters->all()[p];
      if (parameter.group == ParameterGroup::frozen) continue;
      auto& [w, row, column] = reference[p];
      auto g = parameter.value.gradient().values<double>();
      const std::size_t rows = row.size(), cols = column.size();
      std::vector<double> row_mean(rows), column_mean(cols);
      for (std::size_t i = 0; i < g.size(); ++i) {
        g[i] *= scale;
        const double square = g[i] * g[i] + options.eps1;
        row_mean[i / cols] += square / static_cast<double>(cols);
        column_mean[i % cols] += square / static_cast<double>(rows);
      }
      double mean = 0, u2 = 0, w2 = 0;
      for (std::size_t r = 0; r < rows; ++r) {
        row[r] = beta2 * row[r] + (1 - beta2) * row_mean[r];
        mean += row[r] / static_cast<double>(rows);
      }
      for (std::size_t c = 0; c < cols; ++c) column[c] = beta2 * column[c] + (1 - beta2) * column_mean[c];
      std::vector<double> u(g.size());
      for (std::size_t i = 0; i < g.size(); ++i) {
        const double v = rows == 1 ? column[i] : row[i / cols] * column[i % cols] / mean;
        u[i] = g[i] / std::sqrt(v);
        u2 += u[i] * u[i];
        w2 += w[i] * w[i];
      }
      const double n = static_cast<double>(g.size());
      const double clip = std::max(1.0, std::sqrt(u2 / n) / options.clip_threshold);
      const double size = std::max(options.eps2, std::sqrt(w2 / n));
      const double decay = parameter.group == ParameterGroup::decayed ? options.weight_decay : 0;
      for (std::size_t i = 0; i < g.size(); ++i) w[i] -= kRate * (size * u[i] / clip + decay * w[i]);
    }
    optimizer.step(kRate);
    EXPECT_EQ(gradient_norm(*parameters), 0);
  }
  for (std::size_t p = 0; p < reference.size(); ++p) {
    const auto got = (*parameters)[p].values<double>();
    for (std::size_t i = 0; i < got.size(); ++i) {
      ASSERT_NEAR(got[i], reference[p].w[i], 1e-12) << parameters->all()[p].name << " at " << i;
    }
  }
  EXPECT_EQ((*parameters)[2].values<double>(), frozen);
}

TEST(Optimizer, AResumedRunHasTheSameBits) {
  for (const auto& [name, make] : kKinds) {
    SCOPED_TRACE(name);
    auto whole = make_parameters(DType::f32), cut = make_parameters(DType::f32), resumed = make_parameters(DType::f32);
    fill_values<float>(*whole);
    fill_values<float>(*cut);
    const auto straight = make(*whole), before = make(*cut);
    for (Index step = 1; step <= 3; ++step) {
      fill_gradients<float>(*whole, step);
      fill_gradients<float>(*cut, step);
      straight->step(kRate);
      before->step(kRate);
    }
    for (std::size_t i = 0; i < cut->all().size(); ++i) {
      const auto values = (*cut)[i].values<float>();
      std::copy(values.begin(), values.end(), (*resumed)[i].data<float>());
    }
    const auto after = make(*resumed);
    after->set_steps(before->steps());
    const auto from = before->state(), to = after->state();
    ASSERT_EQ(from.size(), to.size());
    for (std::size_t i = 0; i < from.size(); ++i) {
      EXPECT_EQ(from[i].name, to[i].name);
      EXPECT_EQ(from[i].tensor.rank(), 1);
      const auto values = from[i].tensor.values<float>();
      std::copy(values.begin(), values.end(), to[i].tensor.data<float>());
    }
    for (Index step = 4; step <= 6; ++step) {
      fill_gradients<float>(*whole, step);
      fill_gradients<float>(*resumed, step);
      EXPECT_EQ(straight->step(kRate), after->step(kRate));
    }
    EXPECT_EQ(all_values<float>(*whole), all_values<float>(*resumed));
  }
}

TEST(Optimizer, AGradientThatIsNotFiniteChangesNothing) {
  for (const auto& [name, make] : kKinds) {
    for (const float bad : {std::numeric_limits<float>::infinity(), std::numeric_limits<float>::quiet_NaN()}) {
      SCOPED_TRACE(name);
      auto parameters = make_parameters(DType::f32);
      fill_values<float>(*parameters);
      const auto optimizer = make(*parameters);
      fill_gradients<float>(*parameters, 1);
      optimizer->step(kRate);
      fill_gradients<float>(*parameters, 2);
      EXPECT_EQ(first_non_finite(*parameters), "");
      (*parameters)[4].gradient().data<float>()[6] = bad;
      EXPECT_EQ(first_non_finite(*parameters), "bias");
      (*parameters)[3].gradient().data<float>()[100] = bad;
      EXPECT_EQ(first_non_finite(*parameters), "experts");

      const auto weights = all_values<float>(*parameters);
      std::vector<std::vector<float>> states;
      for (const StateTensor& state : optimizer->state()) states.push_back(state.tensor.values<float>());
      const auto gradient = (*parameters)[0].gradient().values<float>();
      EXPECT_FALSE(std::isfinite(optimizer->step(kRate)));
      EXPECT_EQ(optimizer->steps(), 1);
      EXPECT_EQ(all_values<float>(*parameters), weights);
      EXPECT_EQ((*parameters)[0].gradient().values<float>(), gradient);
      for (std::size_t i = 0; i < states.size(); ++i) {
        EXPECT_EQ(optimizer->state()[i].tensor.values<float>(), states[i]);
      }

      clear_gradients(*parameters);
      EXPECT_EQ(gradient_norm(*parameters), 0);
      fill_gradients<float>(*parameters, 2);
      EXPECT_TRUE(std::isfinite(optimizer->step(kRate)));
      EXPECT_NE(all_values<float>(*parameters), weights);
    }
  }
}

TEST(Optimizer, ThePaddingOfAnArenaStaysZero) {
  for (const auto& [name, make] : kKinds) {
    SCOPED_TRACE(name);
    auto parameters = make_parameters(DType::f32);
    fill_values<float>(*parameters);
    const auto optimizer = make(*parameters);
    for (Index step = 1; step <= 2; ++step) {
      fill_gradients<float>(*parameters, step);
      optimizer->step(kRate);
    }
    const Tensor& arena = parameters->values(ParameterGroup::undecayed);
    const float* values = arena.data<float>();
    for (Index i = 17; i < 64; ++i) ASSERT_EQ(values[i], 0.0f) << i;
    for (Index i = 64 + 7; i < arena.numel(); ++i) ASSERT_EQ(values[i], 0.0f) << i;
  }
}

TEST(Optimizer, SameBitsOnAnyNumberOfThreads) {
  for (const auto& [name, make] : kKinds) {
    SCOPED_TRACE(name);
    std::vector<float> one;
    double norm = 0;
    for (const int threads : {1, 2, 3, 5}) {
      kernels::ThreadPool pool(threads, false);
      const kernels::CpuQueue queue(pool);
      const QueueScope scope(queue);
      Parameters parameters;
      parameters.declare("a", {300, 700}, ParameterGroup::decayed);
      parameters.declare("b", {70001}, ParameterGroup::undecayed);
      parameters.allocate(DType::f32, Device::cpu, true);
      fill_values<float>(parameters);
      const auto optimizer = make(parameters);
      fill_gradients<float>(parameters, 1);
      const double this_norm = optimizer->step(kRate);
      if (threads == 1) one = all_values<float>(parameters), norm = this_norm;
      EXPECT_EQ(this_norm, norm) << threads << " threads";
      EXPECT_EQ(all_values<float>(parameters), one) << threads << " threads";
    }
  }
}

TEST(Optimizer, WorksWithoutMemoryAndWithoutParameters) {
  for (const auto& [name, make] : kKinds) {
    SCOPED_TRACE(name);
    auto meta = make_parameters(DType::f32, Device::meta);
    const std::size_t before = Allocator::of(Device::meta).statistics().live;
    const auto optimizer = make(*meta);
    EXPECT_GT(Allocator::of(Device::meta).statistics().live, before);
    EXPECT_EQ(optimizer->step(kRate), 0);
    EXPECT_EQ(optimizer->steps(), 1);

    Parameters frozen;
    frozen.declare("prompt", {3, 5}, ParameterGroup::frozen);
    frozen.allocate(DType::f32, Device::cpu, true);
    const auto idle = make(frozen);
    EXPECT_EQ(idle->step(kRate), 0);
    EXPECT_TRUE(idle->state().empty());
  }
}

TEST(Optimizer, NeedsGradients) {
  for (const auto& [name, make] : kKinds) {
    Parameters parameters;
    parameters.declare("a", {3}, ParameterGroup::decayed);
    parameters.allocate(DType::f32, Device::cpu, false);
    EXPECT_THROW(make(parameters), Error) << name;
  }
}

}  // namespace
}  // namespace unfurl::tests
