#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "core/json.h"
#include "core/names.h"
#include "core/safetensors.h"
#include "train/commands.h"
#include "train/corpus/fields.h"
#include "train/report/progress.h"
#include "train/trainer/checkpoint.h"
#include "train/trainer/load_run.h"

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

Json shape_of(const ModelConfig& model) {
  Json out = Json::object();
  out["preset"] = model.preset;
  out["width"] = model.width;
  out["layers"] = model.layers;
  out["heads"] = model.heads;
  out["kv_heads"] = model.kv_heads;
  out["head_dim"] = model.head_dim;
  out["ff_width"] = model.ff_width;
  out["context"] = model.context;
  out["vocab_size"] = model.vocab_size;
  return out;
}

std::string described(const ModelConfig& m) {
  return fmt::format(
      "{}width {}, {} {}, {} {} of {} ({} for keys and values), feed-forward {}, context {}, vocabulary {}",
      m.preset.empty() ? "" : m.preset + ": ", m.width, m.layers, plural(m.layers, "layer"), m.heads,
      plural(m.heads, "head"), m.head_dim, m.kv_heads, m.ff_width, m.context, grouped(m.vocab_size));
}

/// A figure of state.json for a reader, "" where there is none.
std::string figure(const Json& state, const char* key) {
  const Json* const value = state.find(key);
  if (value == nullptr || value->is_null()) return "";
  if (value->is_integer()) return grouped(value->as_integer());
  if (value->is_number()) return fmt::format("{:.4f}", value->as_number());
  return value->is_string() ? value->as_string() : value->dump();
}

void show_run(const fs::path& checkpoint, const Json& state, const ModelConfig& model) {
  fmt::print("{}\n  all files have the sizes and checksums that state.json says\n", checkpoint.string());
  const auto line = [](const char* name, const std::string& text) {
    if (!text.empty()) fmt::print("  {:<12} {}\n", name, text);
  };
  line("program", figure(state, "program"));
  line("model", described(model));
  line("step", figure(state, "step"));
  line("tokens", figure(state, "tokens"));
  if (const Json* seconds = state.find("seconds"); seconds != nullptr && seconds->is_number()) {
    line("seconds", fmt::format("{:.1f}", seconds->as_number()));
  }
  line("best_step", figure(state, "best_step"));
  line("best_loss", figure(state, "best_loss"));
  if (is_simulated(state)) line("data", "SIMULATED: no real images are behind it");
}

}  // namespace

int run_inspect(const InspectOptions& options) {
  Json json = Json::object();
  fs::path model = options.path;
  const bool is_file = fs::is_regular_file(options.path);
  if (!is_file) {
    const fs::path checkpoint = resolve_checkpoint(options.path);
    model = checkpoint / "model.safetensors";
    const Json state = verify_checkpoint(checkpoint);
    const Recipe recipe = recipe_of(state, checkpoint);
    json["checkpoint"] = checkpoint.string();
    for (const auto& [name, value] : state.as_object()) json[name] = value;
    json["model"] = shape_of(recipe.model);
    if (!options.json) show_run(checkpoint, state, recipe.model);
  }
  const SafetensorsFile file(model);
  const auto tensors = static_cast<Index>(file.tensors().size());
  Index count = 0;
  for (const FileTensor& tensor : file.tensors()) count += tensor.count();
  if (!is_file) json["parameters"] = count;
  json["elements"] = count;
  if (!options.json) {
    const std::string in_tensors = fmt::format("{} {}", tensors, plural(tensors, "tensor"));
    if (is_file) {
      fmt::print("  {}, {} {}: {}\n", in_tensors, grouped(count), plural(count, "element"), model.string());
    } else {
      fmt::print("  {:<12} {} in {}: {}\n", "parameters", grouped(count), in_tensors, model.string());
    }
  }
  if (options.tensors) show_tensors(file, json, !options.json);
  if (options.json) fmt::print("{}\n", json.dump(2));
  return 0;
}

}  // namespace unfurl::train
