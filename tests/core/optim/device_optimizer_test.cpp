// Optimisers on devices that run CUDA kernels, against the same on the CPU.
#include <gtest/gtest.h>

#include <cmath>

#include "core/copy.h"
#include "core/optim/adafactor.h"
#include "core/optim/adamw.h"
#include "tests/support/device_check.h"

namespace unfurl::tests {
namespace {

constexpr double kRate = 0.01;
constexpr ParameterGroup kTrained[] = {ParameterGroup::decayed, ParameterGroup::undecayed};

/// A small model and its optimiser.
struct Model {
  Model(bool adamw, DType dtype, Device device) {
    parameters.declare("embedding", {330, 217}, ParameterGroup::decayed);  // more than one block of the norm
    parameters.declare("gain", {17}, ParameterGroup::undecayed);
    parameters.declare("prompt", {3, 17}, ParameterGroup::frozen);
    parameters.declare("experts", {2, 5, 17}, ParameterGroup::decayed);
    parameters.allocate(dtype, device, true);
    for (std::size_t i = 0; i < parameters.all().size(); ++i) {
      const Parameter& parameter = parameters.all()[i];
      parameter.master.write(normal<float>(parameter.shape.numel(), 100 + i, 0.5).data());
    }
    parameters.round_values();
    if (adamw) {
      optimizer = std::make_unique<AdamW>(parameters, AdamWOptions{.weight_decay = 0.2, .clip_norm = 2});
    } else {
      optimizer = std::make_unique<Adafactor>(
          parameters, AdafactorOptions{.parameter_scale = true, .weight_decay = 0.1, .clip_norm = 2});
    }
  }

  /// Gradients of step `step`; greater ones are clipped.
  void fill_gradients(Index step, double scale = 0.01) {
    for (std::size_t i = 0; i < parameters.all().size(); ++i) {
      if (const Tensor gradient = parameters[i].gradient(); gradient.defined()) {
        const auto seed = static_cast<std::uint64_t>(1000 * step) + i;
        gradient.write(normal<float>(gradient.numel(), seed, scale).data());
      }
    }
  }

  std::vector<double> masters() const {
    std::vector<double> out;
    for (const Parameter& parameter : parameters.all()) {
      const auto values = as_doubles(parameter.master);
      out.insert(out.end(), values.begin(), values.end());
    }
    return out;
  }

  /// The gradients' arenas are zero.
  void expect_cleared() const {
    for (const ParameterGroup group : kTrained) {
      for (const float value : parameters.gradients(group).values<float>()) ASSERT_EQ(value, 0);
    }
  }

  Parameters parameters;
  std::unique_ptr<Optimizer> optimizer;
};

void expect_near(const std::vector<double>& got, const std::vector<double>& want, double tolerance) {
  ASSERT_EQ(got.size(), want.size());
  for (std::size_t i = 0; i < got.size(); ++i) ASSERT_NEAR(got[i], want[i], tolerance) << i;
}

TEST(DeviceOptimizer, FollowsTheCpuAndKeepsRoundedCopies) {
  SKIP_WITHOUT_CUDA_DEVICE();
  for (const bool adamw : {true, false}) {
    Model cpu(adamw, DType::f32, Device::cpu);
    std::vector<std::vector<double>> expected;
    std::vector<double> norms;
    for (Index step = 1; step <= 4; ++step) {
      cpu.fill_gradients(step, step == 3 ? 1 : 0.01);
      norms.push_back(cpu.optimizer->step(kRate * static_cast<double>(step)));
      expected.push_back(cpu.masters());
    }
    for (const Device device : cuda_devices()) {
      for (const DType dtype : {DType::f32, DType::bf16}) {
        SCOPED_TRACE(std::string(adamw ? "AdamW, " : "Adafactor, ") + name_of(device) + ", " + name_of(dtype));
        Model model(adamw, dtype, device);
        for (Index step = 1; step <= 4; ++step) {
          model.fill_gradients(step, step == 3 ? 1 : 0.01);
          const double norm = model.optimizer->step(kRate * static_cast<double>(step));
          EXPECT_NEAR(norm, norms[static_cast<std::size_t>(step) - 1], 1e-6 * norm);
          EXPECT_EQ(model.optimizer->steps(), step);
          expect_near(model.masters(), expected[static_cast<std::size_t>(step) - 1], 2e-6);
          model.expect_cleared();
        }
        for (const Parameter& parameter : model.parameters.all()) {
          const auto masters = parameter.master.values<float>();
          std::vector<double> rounded;
          for (const float value : masters) {
            rounded.push_back(static_cast<double>(dtype == DType::bf16 ? to_float(to_bf16(value)) : value));
          }
          EXPECT_EQ(as_doubles(parameter.value), rounded) << parameter.name;
        }
      }
    }
  }
}

TEST(DeviceOptimizer, AStepThatIsNotFiniteChangesNothingAndIsToldLater) {
  SKIP_WITHOUT_CUDA_DEVICE();
  for (const bool adamw : {true, false}) {
    for (const Device device : cuda_devices()) {
      SCOPED_TRACE(std::string(adamw ? "AdamW, " : "Adafactor, ") + name_of(device));
      Model model(adamw, DType::bf16, device);
      Optimizer& optimizer = *model.optimizer;
      model.fill_gradients(1);
      optimizer.step(kRate);
      const auto before = model.masters();
      const float bad = std::numeric_limits<float>::infinity();
      const PinnedMemory pinned(device, optimizer.outcome_bytes());
      const auto step = [&] {
        optimizer.queue_settings(kRate);
        optimizer.queue_update();
        optimizer.queue_outcome(pinned.data());
        const Event done(device);
        done.wait();
        return optimizer.outcome(pinned.data());
      };
      const auto spoil = [&](std::size_t parameter, Index element) {
        model.fill_gradients(2);
        model.parameters[parameter].gradient().span_of(element, {1}).write(&bad);
      };
      for (const auto& [parameter, element, name] : {std::tuple<std::size_t, Index, const char*>{1, 3, "gain"},
                                                     {0, 70, "embedding"},
                                                     {3, 5, "one of embedding ... experts"}}) {
        spoil(parameter, element);
        const Update update = step();
        EXPECT_FALSE(update.done);
        EXPECT_FALSE(std::isfinite(update.norm));
        EXPECT_EQ(update.bad, name);
        EXPECT_EQ(optimizer.steps(), 1);
        EXPECT_EQ(model.masters(), before);
        model.expect_cleared();
      }
      model.fill_gradients(2);
      EXPECT_TRUE(step().done);
      EXPECT_EQ(optimizer.steps(), 2);
      EXPECT_NE(model.masters(), before);
    }
  }
}

TEST(DeviceOptimizer, UpdatesAreGraphs) {
  SKIP_WITHOUT_CUDA_DEVICE();
  for (const bool adamw : {true, false}) {
    for (const Device device : cuda_devices()) {
      Model one(adamw, DType::bf16, device), other(adamw, DType::bf16, device);
      one.optimizer->set_steps(6);
      other.optimizer->set_steps(6);
      one.fill_gradients(1);
      other.fill_gradients(1);
      one.optimizer->step(kRate);
      other.optimizer->step(kRate);
      const Graph graph(device, [&] { other.optimizer->queue_update(); });
      for (Index step = 2; step <= 4; ++step) {
        one.fill_gradients(step);
        other.fill_gradients(step);
        one.optimizer->step(kRate / static_cast<double>(step));
        other.optimizer->queue_settings(kRate / static_cast<double>(step));
        graph.launch();
      }
      EXPECT_EQ(one.optimizer->steps(), 10);
      EXPECT_EQ(one.masters(), other.masters());
    }
  }
}

}  // namespace
}  // namespace unfurl::tests
