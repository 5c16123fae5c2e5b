#include "train/report/metrics.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "core/error.h"
#include "core/files.h"
#include "train/log.h"

namespace unfurl::train {
namespace {

/// Calls visit(line, value) for every line that is a whole JSON object.
template <class Visit>
void each_line(std::string_view text, const Visit& visit) {
  while (!text.empty()) {
    const std::size_t end = text.find('\n');
    if (end == std::string_view::npos) return;  // cut off
    const std::string_view line = text.substr(0, end);
    text.remove_prefix(end + 1);
    Json value;
    try {
      value = Json::parse(line);
    } catch (const Error&) {
      continue;
    }
    if (value.is_object()) visit(line, std::move(value));
  }
}

}  // namespace

MetricsWriter::MetricsWriter(std::filesystem::path path, std::int64_t resume_step) : path_(std::move(path)) {
  std::string kept;
  if (resume_step >= 0 && std::filesystem::exists(path_)) {
    each_line(read_file(path_), [&](std::string_view line, const Json& value) {
      const Json* step = value.find("step");
      if (step != nullptr && step->is_integer() && step->as_integer() > resume_step) return;
      kept.append(line);
      kept += '\n';
    });
  }
  write_file(path_, kept);
  descriptor_ = ::open(path_.c_str(), O_WRONLY | O_APPEND | O_CLOEXEC);
  if (descriptor_ < 0) fail("cannot write {}: {}", path_.string(), std::strerror(errno));
}

MetricsWriter::~MetricsWriter() {
  put();
  ::close(descriptor_);
}

void MetricsWriter::write(const Json& line) {
  waiting_ += line.dump() + '\n';
  put();
}

void MetricsWriter::sync() {
  put();
  ::fdatasync(descriptor_);
}

void MetricsWriter::put() {
  if (waiting_.empty()) return;
  const off_t before = ::lseek(descriptor_, 0, SEEK_END);
  ssize_t done = -1;
  do {
    done = ::write(descriptor_, waiting_.data(), waiting_.size());
  } while (done < 0 && errno == EINTR);
  if (done == static_cast<ssize_t>(waiting_.size())) {
    waiting_.clear();
    warned_ = false;
    return;
  }
  const std::string why = done < 0 ? std::strerror(errno) : "no space left";
  // Half of it would be there twice.
  if (done > 0 && (before < 0 || ::ftruncate(descriptor_, before) != 0))
    waiting_.erase(0, static_cast<std::size_t>(done));
  if (!warned_) warn("cannot write {}: {}; its lines wait", path_.string(), why);
  warned_ = true;
}

void MetricsWriter::write(const StepMetrics& metrics) {
  write(Json(Json::Object{{"kind", "step"},
                          {"step", metrics.step},
                          {"loss", metrics.loss},
                          {"learning_rate", metrics.learning_rate},
                          {"gradient_norm", metrics.gradient_norm},
                          {"tokens", metrics.tokens},
                          {"tokens_per_second", metrics.tokens_per_second},
                          {"seconds", metrics.seconds}}));
}

void MetricsWriter::write(const ValidationMetrics& metrics) {
  write(Json(Json::Object{{"kind", "validation"},
                          {"step", metrics.step},
                          {"loss", metrics.loss},
                          {"bits_per_byte", metrics.bits_per_byte},
                          {"targets", metrics.targets},
                          {"seconds", metrics.seconds},
                          {"best", metrics.best}}));
}

void MetricsWriter::write(const SampleMetrics& metrics) {
  write(Json(Json::Object{{"kind", "sample"},
                          {"step", metrics.step},
                          {"query", metrics.query},
                          {"prefix", metrics.prefix},
                          {"expansions", Json(Json::Array(metrics.expansions.begin(), metrics.expansions.end()))}}));
}

std::vector<Json> read_metrics(const std::filesystem::path& path) {
  std::vector<Json> out;
  each_line(read_file(path), [&](std::string_view, Json value) { out.push_back(std::move(value)); });
  return out;
}

}  // namespace unfurl::train
