#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "core/json.h"
#include "core/safetensors.h"
#include "train/commands.h"
#include "train/report/progress.h"
#include "train/trainer/checkpoint.h"

namespace unfurl::train {
namespace {

namespace fs = std::filesystem;

struct Statistics {
  double mean = 0, std = 0, least = 0, most = 0;
  Index not_finite = 0;
};

Statistics statistics_of(const SafetensorsFile& file, const FileTensor& tensor) {
  std::vector<double> values(static_cast<std::size_t>(tensor.count()));
  file.copy_to(tensor, values.data(), tensor.count());
  Statistics out;
  double sum = 0, squares = 0;
  Index finite = 0;
  for (const double value : values) {
    if (!std::isfinite(value)) {
      ++out.not_finite;
      continue;
    }
    out.least = finite == 0 ? value : std::min(out.least, value);
    out.most = finite == 0 ? value : std::max(out.most, value);
    sum += value;
    squares += value * value;
    ++finite;
  }
  if (finite > 0) {
    out.mean = sum / static_cast<double>(finite);
    out.std = std::sqrt(std::max(0.0, squares / static_cast<double>(finite) - out.mean * out.mean));
  }
  return out;
}

bool is_floating(FileDType dtype) {
  return dtype == FileDType::F64 || dtype == FileDType::F32 || dtype == FileDType::F16 || dtype == FileDType::BF16;
}

void show_tensors(const SafetensorsFile& file, Json& json, bool print) {
  for (const FileTensor& tensor : file.tensors()) {
    Json entry = Json::object();
    entry["name"] = tensor.name;
    entry["dtype"] = name_of(tensor.dtype);
    for (const Index size : tensor.shape) entry["shape"].push_back(size);
    std::string numbers;
    if (is_floating(tensor.dtype)) {
      const Statistics s = statistics_of(file, tensor);
      entry["mean"] = s.mean;
      entry["std"] = s.std;
      entry["min"] = s.least;
      entry["max"] = s.most;
      entry["not_finite"] = s.not_finite;
      numbers = fmt::format("mean {:>10.3g}  std {:>9.3g}  in [{:.3g}, {:.3g}]{}", s.mean, s.std, s.least, s.most,
                            s.not_finite > 0 ? fmt::format("  {} NOT FINITE", s.not_finite) : "");
    }
    if (print) {
      fmt::print("  {:<40} {:<5} {:<16} {}\n", tensor.name, name_of(tensor.dtype),
                 fmt::format("[{}]", fmt::join(tensor.shape, ", ")), numbers);
    }
    json["tensors"].push_back(std::move(entry));
  }
}

}  // namespace

int run_inspect(const InspectOptions& options) {
  Json json = Json::object();
  fs::path model = options.path;
  if (!fs::is_regular_file(options.path)) {
    const fs::path checkpoint = resolve_checkpoint(options.path);
    model = checkpoint / "model.safetensors";
    const Json state = verify_checkpoint(checkpoint);
    json["checkpoint"] = checkpoint.string();
    for (const auto& [name, value] : state.as_object()) json[name] = value;
    if (!options.json) {
      fmt::print("{}\n  all files have the sizes and checksums that state.json says\n", checkpoint.string());
      for (const char* key : {"program", "step", "tokens", "seconds", "best_step", "best_loss"}) {
        if (const Json* value = state.find(key)) fmt::print("  {:<12} {}\n", key, value->dump());
      }
    }
  }
  const SafetensorsFile file(model);
  Index count = 0;
  for (const FileTensor& tensor : file.tensors()) count += tensor.count();
  json["elements"] = count;
  if (!options.json)
    fmt::print("  {} tensors, {} elements: {}\n", file.tensors().size(), grouped(count), model.string());
  if (options.tensors) show_tensors(file, json, !options.json);
  if (options.json) fmt::print("{}\n", json.dump(2));
  return 0;
}

}  // namespace unfurl::train
