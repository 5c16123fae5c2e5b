#include "train/trainer/checkpoint.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>

#include "core/files.h"
#include "core/safetensors.h"
#include "train/log.h"

namespace unfurl::train {
namespace {

namespace fs = std::filesystem;

/// The R of "optimizer-I-of-R.safetensors". Throws Error where the files do not say it.
int optimizer_parts(const Json& files) {
  const auto& all = files.as_object();
  const auto found =
      std::find_if(all.begin(), all.end(), [](const auto& f) { return f.first.starts_with("optimizer-0-of-"); });
  if (found == all.end()) fail("it names no state of the optimiser");
  const std::string_view digits = std::string_view(found->first).substr(std::string_view("optimizer-0-of-").size());
  int parts = 0;
  std::from_chars(digits.data(), digits.data() + digits.size(), parts);
  if (parts < 1 || parts > 1 << 20 || optimizer_file(0, parts) != found->first)
    fail("{} is no name of a part", found->first);
  return parts;
}

/// N of a folder named "step-N".
std::optional<Index> step_of(const std::string& name) {
  constexpr std::string_view kPrefix = "step-";
  if (!name.starts_with(kPrefix)) return std::nullopt;
  Index step = 0;
  const char* end = name.data() + name.size();
  const auto [at, error] = std::from_chars(name.data() + kPrefix.size(), end, step);
  if (error != std::errc() || at != end || step < 0) return std::nullopt;
  return step;
}

/// The elements of a bucket in which a state was shared: 0 where there was one.
Index bucket_of(const fs::path& checkpoint, const Json& state, const std::string& name) {
  const Json* const buckets = state.find(kBuckets);
  if (buckets == nullptr) return 0;
  const Index bucket = buckets->at(name).as_integer();
  if (bucket < 0 || bucket % kernels::kNormBlock != 0) {
    user_error("{} is damaged: \"{}\" in buckets of {} elements", (checkpoint / kStateFile).string(), name, bucket);
  }
  return bucket;
}

/// Copies what two lists of ranges, ascending, have in common, from `from`, where theirs lie one behind the other, to
/// `to`, where ours do.
void copy_common(const Tensor& to, const std::vector<Range>& ours, const float* from,
                 const std::vector<Range>& theirs) {
  auto there = theirs.begin();
  Index at = 0;  // where `there` starts in `from`
  for (Index own_at = 0; const Range& own : ours) {
    for (; there != theirs.end() && there->end <= own.begin; ++there) at += there->size();
    Index from_at = at;
    for (auto other = there; other != theirs.end() && other->begin < own.end; ++other) {
      const Range common{std::max(own.begin, other->begin), std::min(own.end, other->end)};
      to.span_of(own_at + common.begin - own.begin, {common.size()})
          .write(from + from_at + common.begin - other->begin);
      from_at += other->size();
    }
    own_at += own.size();
  }
}

std::vector<Index> shape_of(const Tensor& tensor) {
  std::vector<Index> shape;
  for (int i = 0; i < tensor.rank(); ++i) shape.push_back(tensor.size(i));
  return shape;
}

/// What state.json ends with.
std::string seal_of(std::string_view text) { return fmt::format(",\n  \"xxh3\": \"{:016x}\"\n}}\n", hash_bytes(text)); }

}  // namespace

std::string sealed(const Json& state) {
  Json rest = Json::object();
  for (const auto& [key, value] : state.as_object()) {
    if (key != "xxh3") rest[key] = value;
  }
  std::string text = rest.dump(2);
  text.resize(text.rfind('\n'));  // and the brace behind it
  return text + seal_of(text);
}

std::string optimizer_file(int part, int parts) { return fmt::format("optimizer-{}-of-{}.safetensors", part, parts); }

int parts_of(const std::vector<StateTensor>& state, int ranks) {
  const bool whole = std::all_of(state.begin(), state.end(), [](const auto& s) { return s.whole.ranks == 1; });
  return whole ? 1 : ranks;
}

Json bucket_sizes(const std::vector<StateTensor>& state) {
  Json out = Json::object();
  for (const StateTensor& s : state) out[s.name] = s.whole.bucket;
  return out;
}

std::vector<NamedTensor> named_tensors(const Parameters& parameters) {
  std::vector<NamedTensor> out;
  for (const Parameter& parameter : parameters.all()) {
    const Tensor& value = parameter.master;
    require(value.defined(), "named_tensors: ranks share the masters, and nobody has all of them");
    if (parameter.parts.empty()) out.push_back({parameter.name, value});
    for (const ParameterPart& part : parameter.parts) {
      const Index cols = parameter.shape[-1];
      out.push_back({part.name, part.dimension == 0 ? value.span_of(part.begin * cols, {part.end - part.begin, cols})
                                                    : value.columns(part.begin, part.end)});
    }
  }
  return out;
}

void write_tensors(const fs::path& path, const std::vector<NamedTensor>& tensors) {
  std::vector<SafetensorsWriter::Header> headers;
  for (const NamedTensor& named : tensors) headers.push_back({named.name, FileDType::F32, shape_of(named.tensor)});
  SafetensorsWriter writer(path, headers);
  for (const NamedTensor& named : tensors) {
    const Tensor tensor = named.tensor.to(Device::cpu);
    const auto matrix = tensor.matrix<float>();
    const auto row_bytes = static_cast<std::size_t>(tensor.cols()) * sizeof(float);
    if (tensor.contiguous()) {
      writer.write(matrix.data, static_cast<std::size_t>(tensor.rows()) * row_bytes);
    } else {
      for (Index r = 0; r < tensor.rows(); ++r) writer.write(matrix.row(r), row_bytes);
    }
  }
  writer.commit();
}

void read_tensors(const fs::path& path, const std::vector<NamedTensor>& tensors) {
  const SafetensorsFile file(path);
  if (file.tensors().size() > tensors.size()) {
    for (const FileTensor& found : file.tensors()) {
      const bool known =
          std::any_of(tensors.begin(), tensors.end(), [&](const auto& t) { return t.name == found.name; });
      if (!known)
        user_error("{}: the model has no tensor \"{}\"; it is of another configuration", path.string(), found.name);
    }
  }
  std::vector<float> buffer;
  for (const auto& [name, tensor] : tensors) {
    const FileTensor& found = file.at(name);
    if (found.shape != shape_of(tensor)) {
      user_error("{}: \"{}\" is [{}], the model needs {}", path.string(), name, fmt::join(found.shape, ", "),
                 tensor.shape());
    }
    if (tensor.contiguous() && tensor.device() == Device::cpu) {
      file.copy_to(found, tensor.data<float>(), tensor.numel());
      continue;
    }
    buffer.resize(static_cast<std::size_t>(tensor.numel()));
    file.copy_to(found, buffer.data(), tensor.numel());
    tensor.write(buffer.data());
  }
}

void read_optimizer(const fs::path& checkpoint, const std::vector<StateTensor>& state) {
  const Json json = read_state(checkpoint);
  const int parts = optimizer_parts(json.at("files"));
  if (parts == 1 && parts_of(state, 2) == 1) {
    std::vector<NamedTensor> tensors;
    for (const StateTensor& s : state) tensors.push_back({s.name, s.tensor});
    return read_tensors(checkpoint / optimizer_file(0, 1), tensors);
  }
  std::vector<float> buffer;
  for (int part = 0; part < parts; ++part) {
    const fs::path path = checkpoint / optimizer_file(part, parts);
    const SafetensorsFile file(path);
    for (const StateTensor& s : state) {
      const Buckets theirs{s.whole.count, parts == 1 ? 0 : bucket_of(checkpoint, json, s.name), parts, part};
      const Index count = theirs.own_count();
      const FileTensor& found = file.at(s.name);
      if (found.shape != std::vector<Index>{count}) {
        user_error("{}: \"{}\" is [{}], the model needs [{}]", path.string(), s.name, fmt::join(found.shape, ", "),
                   count);
      }
      buffer.resize(static_cast<std::size_t>(count));
      file.copy_to(found, buffer.data(), count);
      copy_common(s.tensor, s.whole.own(), buffer.data(), theirs.own());
    }
  }
}

fs::path checkpoint_path(const fs::path& run, Index step) { return run / fmt::format("step-{:06}", step); }

std::vector<Index> checkpoint_steps(const fs::path& run) {
  std::vector<Index> steps;
  std::error_code error;
  for (fs::directory_iterator it(run, error), end; !error && it != end; it.increment(error)) {
    const fs::path name = it->path().filename();
    const auto step = step_of(name.string());
    if (step && name == checkpoint_path(run, *step).filename()) steps.push_back(*step);
  }
  std::sort(steps.begin(), steps.end());
  return steps;
}

Json read_state(const fs::path& checkpoint) {
  const fs::path path = checkpoint / kStateFile;
  const std::string text = read_file(path);
  const std::size_t end = text.size() - std::min(text.size(), seal_of("").size());
  const bool whole = text.substr(end) == seal_of(std::string_view(text).substr(0, end));
  std::int64_t format = 0;
  Json state;
  try {
    state = Json::parse(text);
    format = state.at("format").as_integer();
  } catch (const Error&) {  // which tells what was read, and that may be long
  }
  if (format > kCheckpointFormat && whole) {
    throw NewerCheckpoint(
        fmt::format("{}: format {} is of a newer version of this program; use that", path.string(), format));
  }
  const bool unsealed = format >= 1 && format < kCheckpointFormat && state.find("xxh3") == nullptr;
  if (!unsealed && !(whole && format == kCheckpointFormat)) {
    user_error("{} is damaged: its checksum is not that of its text", path.string());
  }
  return state;
}

Json verify_checkpoint(const fs::path& checkpoint, Checked checked) {
  Json state = read_state(checkpoint);
  try {
    const Json& files = state.at("files");
    std::vector<std::string> needed = {kModelFile, kTokenizerFile};
    const int parts = optimizer_parts(files);
    for (int part = 0; part < parts && checked == Checked::all; ++part) needed.push_back(optimizer_file(part, parts));
    for (const std::string& name : needed) {
      const Json& entry = files.at(name);
      const MappedFile file(checkpoint / name);
      if (static_cast<std::int64_t>(file.size()) != entry.at("bytes").as_integer() ||
          fmt::format("{:016x}", hash_bytes(file.text())) != entry.at("xxh3").as_string()) {
        user_error("{} is damaged: its size or checksum is not what state.json says", (checkpoint / name).string());
      }
    }
    return state;
  } catch (const UserError&) {
    throw;
  } catch (const Error& error) {
    throw UserError(fmt::format("{} is damaged: {}", (checkpoint / kStateFile).string(), error.what()));
  }
}

std::optional<fs::path> newest_checkpoint(const fs::path& run, const std::function<bool(Index)>& wanted) {
  std::vector<Index> steps = checkpoint_steps(run);
  if (wanted) steps.erase(std::remove_if(steps.begin(), steps.end(), std::not_fn(wanted)), steps.end());
  for (auto step = steps.rbegin(); step != steps.rend(); ++step) {
    const fs::path path = checkpoint_path(run, *step);
    try {
      if (const Index of = verify_checkpoint(path).at("step").as_integer(); of != *step) {
        fail("{} is of step {}", path.string(), of);
      }
      return path;
    } catch (const NewerCheckpoint&) {
      throw;
    } catch (const Error& error) {
      const auto before = std::next(step);
      warn("{}; {}", error.what(),
           before == steps.rend() ? "no checkpoint is left to go back to" : fmt::format("step {} is tried", *before));
    }
  }
  return std::nullopt;
}

fs::path resolve_checkpoint(const fs::path& path) {
  if (fs::exists(path / kStateFile)) return path;
  if (!fs::is_directory(path)) user_error("there is no run or checkpoint at {}", path.string());
  if (fs::exists(path / "run.json")) {
    try {
      const Json run = Json::parse(read_file(path / "run.json"));
      const fs::path best = checkpoint_path(path, run.at("best_step").as_integer());
      if (fs::exists(best / kStateFile)) return best;
    } catch (const Error&) {  // run.json only says which is best: without it the newest will do
    }
  }
  const auto newest = newest_checkpoint(path);
  if (newest) return *newest;
  if (checkpoint_steps(path).empty()) {
    user_error("{} holds no checkpoint; train first, or name another folder", path.string());
  }
  user_error("no checkpoint in {} is whole; copy one back, or train again with --fresh", path.string());
}

void prune_checkpoints(const fs::path& run, const KeptCheckpoints& kept) {
  const std::vector<Index> steps = checkpoint_steps(run);
  for (std::size_t i = 0; i < steps.size(); ++i) {
    const bool newest = static_cast<Index>(steps.size() - i) <= kept.newest;
    const bool milestone = kept.every > 0 && steps[i] % kept.every == 0;
    if (!newest && !milestone && steps[i] != kept.best) remove_checkpoint(checkpoint_path(run, steps[i]));
  }
}

void remove_checkpoints_after(const fs::path& run, Index step) {
  for (const Index other : checkpoint_steps(run)) {
    if (other > step) remove_checkpoint(checkpoint_path(run, other));
  }
}

void remove_checkpoint(const fs::path& checkpoint) {
  fs::path aside = checkpoint;
  aside += kRemoved;
  std::error_code error;
  fs::remove_all(aside, error);
  fs::rename(checkpoint, aside, error);
  if (error == std::errc::no_such_file_or_directory) return;
  if (!error) fs::remove_all(aside, error);
  if (error) fail("cannot remove {}: {}", checkpoint.string(), error.message());
}

void remove_unfinished_checkpoints(const fs::path& run) {
  std::error_code error;
  for (fs::directory_iterator it(run, error), end; !error && it != end; it.increment(error)) {
    const fs::path name = it->path().filename();
    const bool unfinished = name.extension() == kUnfinished || name.extension() == kRemoved;
    std::error_code ignored;
    if (unfinished && step_of(name.stem().string())) fs::remove_all(it->path(), ignored);
  }
}

}  // namespace unfurl::train
