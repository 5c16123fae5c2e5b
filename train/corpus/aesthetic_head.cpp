#include "train/corpus/aesthetic_head.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <map>

#include "core/error.h"
#include "core/safetensors.h"

namespace unfurl::train {
namespace {

struct Layer {
  Index out = 0, in = 0;
  std::vector<double> weight = {}, bias = {};  // [out, in], [out]
};

Layer read_layer(const SafetensorsFile& file, const std::string& prefix) {
  const FileTensor &weight = file.at(prefix + "weight"), &bias = file.at(prefix + "bias");
  if (weight.shape.size() != 2 || weight.count() == 0) {
    user_error("{}: {} must be a matrix", file.path().string(), weight.name);
  }
  Layer layer{.out = weight.shape[0], .in = weight.shape[1]};
  layer.weight.resize(static_cast<std::size_t>(weight.count()));
  layer.bias.resize(static_cast<std::size_t>(layer.out));
  file.copy_to(weight, layer.weight.data(), weight.count());
  file.copy_to(bias, layer.bias.data(), layer.out);
  const auto finite = [](double x) { return std::isfinite(x); };
  if (!std::ranges::all_of(layer.weight, finite) || !std::ranges::all_of(layer.bias, finite)) {
    user_error("{}: {}weight and {}bias must be finite", file.path().string(), prefix, prefix);
  }
  return layer;
}

/// The numbers I of tensors "layers.I.weight", in order.
std::vector<int> layer_numbers(const SafetensorsFile& file) {
  std::vector<int> numbers;
  for (const FileTensor& tensor : file.tensors()) {
    constexpr std::string_view kBegin = "layers.", kEnd = ".weight";
    const std::string_view name = tensor.name;
    if (!name.starts_with(kBegin) || !name.ends_with(kEnd) || name.size() <= kBegin.size() + kEnd.size()) continue;
    const std::string_view digits = name.substr(kBegin.size(), name.size() - kBegin.size() - kEnd.size());
    int number = 0;
    const auto [end, problem] = std::from_chars(digits.data(), digits.data() + digits.size(), number);
    if (problem == std::errc() && end == digits.data() + digits.size()) numbers.push_back(number);
  }
  std::ranges::sort(numbers);
  return numbers;
}

}  // namespace

AestheticHead::AestheticHead(const std::filesystem::path& path) {
  const SafetensorsFile file(path);
  std::vector<std::string> prefixes;
  if (file.find("weight") != nullptr) {
    prefixes = {""};
    kind_ = "linear";
  } else {
    for (const int number : layer_numbers(file)) prefixes.push_back(fmt::format("layers.{}.", number));
    kind_ = fmt::format("mlp of {} layers", prefixes.size());
  }
  if (prefixes.empty()) {
    user_error("{} is no aesthetic head: it has neither \"weight\" nor \"layers.0.weight\"", path.string());
  }
  // From the last layer, whose output is the score, down to the first.
  weight_ = {1};
  for (auto prefix = prefixes.rbegin(); prefix != prefixes.rend(); ++prefix) {
    const Layer layer = read_layer(file, *prefix);
    if (layer.out != size()) {
      user_error("{}: {}weight has {} rows, expected {}: {}", path.string(), *prefix, layer.out, size(),
                 prefix == prefixes.rbegin() ? "a head gives one score" : "the inputs of the layer behind it");
    }
    std::vector<double> composed(static_cast<std::size_t>(layer.in), 0.0);
    for (std::size_t o = 0; o < weight_.size(); ++o) {
      bias_ += weight_[o] * layer.bias[o];
      for (std::size_t i = 0; i < composed.size(); ++i) {
        composed[i] += weight_[o] * layer.weight[o * composed.size() + i];
      }
    }
    weight_ = std::move(composed);
  }
}

double AestheticHead::score(std::span<const float> unit) const {
  require(unit.size() == weight_.size(), "aesthetic score: expected {} elements, got {}", weight_.size(), unit.size());
  double sum = bias_;
  for (std::size_t i = 0; i < unit.size(); ++i) sum += weight_[i] * unit[i];
  return sum;
}

}  // namespace unfurl::train
