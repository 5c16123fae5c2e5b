// Operations on devices that run CUDA kernels, against the same on the CPU in f64.
#pragma once
#include <gtest/gtest.h>

#include <functional>
#include <string>
#include <vector>

#include "core/autograd.h"
#include "core/device.h"
#include "core/dispatch.h"
#include "tests/support/random.h"
#include "tests/support/rounding.h"

namespace unfurl::tests {

/// Those of this binary that can be used here: CUDA executed on the CPU, a GPU.
inline std::vector<Device> cuda_devices() {
  std::vector<Device> out;
  for (const Device device : {Device::host_cuda, Device::cuda}) {
    if (why_unusable(device).empty()) out.push_back(device);
  }
  return out;
}

/// The elements of any type, as double.
inline std::vector<double> as_doubles(const Tensor& tensor) {
  std::vector<double> out;
  switch (tensor.dtype()) {
    case DType::f64:
      return tensor.values<double>();
    case DType::bf16:
      for (const bf16 value : tensor.values<bf16>()) out.push_back(static_cast<double>(to_float(value)));
      return out;
    default:
      for (const float value : tensor.values<float>()) out.push_back(static_cast<double>(value));
      return out;
  }
}

/// Numbers as a tensor of any type on any device.
inline Tensor tensor_of(const std::vector<double>& values, const Shape& shape, DType dtype, Device device) {
  const auto as = [&]<class T>() {
    std::vector<T> elements;
    for (const double value : values) elements.push_back(element<T>(value));
    return Tensor::from(elements, shape, device);
  };
  return dtype == DType::f64    ? as.template operator()<double>()
         : dtype == DType::bf16 ? as.template operator()<bf16>()
                                : as.template operator()<float>();
}

/// An operation of leaves on one device. Its other inputs come along by Tensor::to().
using Operation = std::function<std::vector<Tensor>(const std::vector<Tensor>&)>;

/// The outputs of an operation, and behind them the gradients of its leaves under random cotangents.
inline std::vector<std::vector<double>> outputs_and_gradients(const Operation& operation,
                                                              const std::vector<std::vector<double>>& values,
                                                              const std::vector<Shape>& shapes, DType dtype,
                                                              Device device) {
  std::vector<Tensor> leaves, gradients;
  for (std::size_t i = 0; i < values.size(); ++i) {
    leaves.push_back(tensor_of(values[i], shapes[i], dtype, device));
    gradients.push_back(Tensor::zeros(shapes[i], accumulator(dtype), device));
    leaves.back().attach_gradient(gradients.back());
  }
  Tape tape;
  std::vector<Tensor> outputs;
  {
    const TapeScope scope(tape);
    outputs = operation(leaves);
  }
  std::vector<std::pair<Tensor, Tensor>> roots;
  std::vector<std::vector<double>> out;
  for (const Tensor& output : outputs) {
    out.push_back(as_doubles(output));
    const auto cotangent = normal<bf16>(output.numel(), 77 + out.size());
    std::vector<double> rounded;
    for (const bf16 value : cotangent) rounded.push_back(static_cast<double>(to_float(value)));
    roots.emplace_back(output, tensor_of(rounded, output.shape(), output.dtype(), device));
  }
  tape.backward(roots);
  for (const Tensor& gradient : gradients) out.push_back(as_doubles(gradient));
  return out;
}

/// Expects an operation of normal numbers of these shapes to have on every device, in f32 and bf16, the values and
/// gradients it has on the CPU in f64: element by element within `tolerance` x (1 + |element|), and in f32 with at most
/// twice the rounding error of the CPU in f32. In bf16 the error may also be `factor` times that of rounding the exact
/// results: 2 for one operation, more for a chain of them.
inline void check_on_devices(const Operation& operation, const std::vector<Shape>& shapes, double tolerance = 2e-5,
                             double factor = 2, double scale = 1) {
  std::vector<std::vector<double>> values;
  for (const Shape& shape : shapes) {  // bf16 holds them exactly
    values.emplace_back();
    for (const bf16 value : normal<bf16>(shape.numel(), values.size(), scale)) {
      values.back().push_back(static_cast<double>(to_float(value)));
    }
  }
  const auto exact = outputs_and_gradients(operation, values, shapes, DType::f64, Device::cpu);
  const auto plain = outputs_and_gradients(operation, values, shapes, DType::f32, Device::cpu);
  for (const Device device : cuda_devices()) {
    for (const DType dtype : {DType::f32, DType::bf16}) {
      SCOPED_TRACE(std::string(name_of(device)) + ", " + name_of(dtype));
      const auto got = outputs_and_gradients(operation, values, shapes, dtype, device);
      ASSERT_EQ(got.size(), exact.size());
      for (std::size_t i = 0; i < got.size(); ++i) {
        ASSERT_EQ(got[i].size(), exact[i].size());
        double rounding = 0, worst = 0;
        for (std::size_t e = 0; e < exact[i].size(); ++e) {
          const double size = 1 + std::abs(exact[i][e]);
          const double rounded = static_cast<double>(to_float(to_bf16(static_cast<float>(exact[i][e]))));
          rounding = std::max(rounding, std::abs(rounded - exact[i][e]) / size);
          const double error = std::abs(got[i][e] - exact[i][e]) / size;
          worst = error <= worst ? worst : error;  // a NaN stays
        }
        const bool output = i + shapes.size() < got.size();
        const std::string what =
            output ? "output " + std::to_string(i) : "gradient " + std::to_string(i + shapes.size() - got.size());
        EXPECT_LE(worst, tolerance + (dtype == DType::bf16 ? factor * rounding : 0)) << what;
        if (dtype == DType::f32) expect_rounding_error(got[i], exact[i], plain[i], 2, what);
      }
    }
  }
}

}  // namespace unfurl::tests

/// Ends a test where no device runs CUDA kernels.
#define SKIP_WITHOUT_CUDA_DEVICE()                                                                     \
  do {                                                                                                 \
    if (::unfurl::tests::cuda_devices().empty()) {                                                     \
      GTEST_SKIP() << "this binary has no CUDA executed on the CPU, and there is no GPU it could use"; \
    }                                                                                                  \
  } while (false)
