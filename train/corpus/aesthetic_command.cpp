#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <map>
#include <memory>
#include <optional>

#include "core/error.h"
#include "core/files.h"
#include "core/json.h"
#include "core/names.h"
#include "core/safetensors.h"
#include "kernels/thread_pool.h"
#include "train/corpus/aesthetic_head.h"
#include "train/corpus/commands.h"
#include "train/corpus/images.h"
#include "train/corpus/votes.h"
#include "train/log.h"
#include "train/report/work_progress.h"

namespace unfurl::train {
namespace {

constexpr Index kBlock = 4096;  // rows read at once

/// What became of an image.
struct Verdict {
  std::optional<double> score;  // where it was scored
  std::string why;              // it was dropped; "" where it is kept
};

void check(const AestheticOptions& options) {
  const bool by_score = !options.head.empty();
  if (!by_score && options.likes.empty())
    user_error("--head FILE or --likes FILE is missing: by what are images kept?");
  if (by_score && options.embeddings.empty()) user_error("--head needs --embeddings FILE: the images' CLIP embeddings");
  if (by_score && options.threshold.has_value() == options.quantile.has_value()) {
    user_error("--head needs one of --threshold X and --quantile Q");
  }
  if (!by_score && (options.threshold || options.quantile)) user_error("--threshold and --quantile need --head FILE");
  if (options.quantile && !(*options.quantile >= 0 && *options.quantile < 1)) {
    user_error("--quantile must be at least 0 and below 1, got {:g}", *options.quantile);
  }
  if (options.threshold && !std::isfinite(*options.threshold)) user_error("--threshold must be a number");
  for (const char* written : {"images.jsonl", "embeddings.safetensors", "dropped.jsonl"}) {
    for (const auto& read : {options.images, options.embeddings, options.likes}) {
      if (!read.empty()) require_other_file(options.out / written, read);
    }
  }
}

/// Scores the images for which `counts` holds; those whose embedding has no direction are dropped.
template <class Counts>
void score(const ImageList& list, const EmbeddingFile& file, const AestheticHead& head, const Counts& counts,
           std::vector<Verdict>& verdicts) {
  const auto cols = static_cast<std::size_t>(file.cols());
  std::vector<float> rows(static_cast<std::size_t>(std::min(kBlock, file.rows())) * cols);
  WorkProgress progress("images", 0, file.rows());
  auto& pool = kernels::ThreadPool::global();
  std::size_t next = 0;  // of the list, whose rows ascend
  for (Index first = 0; first < file.rows(); first += kBlock) {
    const Index count = std::min(kBlock, file.rows() - first);
    file.read(first, count, rows.data());
    const std::size_t begin = next;
    while (next < list.images.size() && list.images[next].row < first + count) ++next;
    pool.parallel_for(static_cast<Index>(next - begin), [&](Index i) {
      const std::size_t at = begin + static_cast<std::size_t>(i);
      if (!counts(list.images[at])) return;
      const std::span<float> row(rows.data() + static_cast<std::size_t>(list.images[at].row - first) * cols, cols);
      if (normalize(row)) {
        verdicts[at].score = head.score(row);
      } else {
        verdicts[at].why = fmt::format("its embedding is {}", fault_of_embedding(row));
      }
    });
    progress.update(first + count);
  }
}

std::string histogram(const std::vector<double>& sorted, double threshold) {
  constexpr int kBins = 20, kWidth = 50;
  const double low = sorted.front(), high = sorted.back();
  if (!(high > low)) return fmt::format("  all scores are {:.4f}\n", low);
  std::vector<std::size_t> counts(kBins);
  for (const double x : sorted)
    ++counts[static_cast<std::size_t>(std::min((x - low) / (high - low) * kBins, kBins - 0.5))];
  const std::size_t most = *std::ranges::max_element(counts);
  std::string out = "  score   images\n";
  for (int b = 0; b < kBins; ++b) {
    const double from = low + (high - low) * b / kBins, to = low + (high - low) * (b + 1) / kBins;
    const std::size_t count = counts[static_cast<std::size_t>(b)];
    const bool here = threshold >= from && (threshold < to || (b == kBins - 1 && threshold <= to));
    const std::string bar(count == 0 ? 0 : std::max<std::size_t>(1, count * kWidth / most), '#');
    out += fmt::format("  {:7.3f} {:>8} {}{}\n", from, count, bar, here ? " <- threshold" : "");
  }
  return out;
}

/// Decides by score; returns the report's lines.
std::string keep_by_score(const AestheticOptions& options, std::vector<Verdict>& verdicts) {
  std::vector<double> scores;
  for (const Verdict& verdict : verdicts) {
    if (verdict.score) scores.push_back(*verdict.score);
  }
  if (scores.empty()) user_error("{}: no image has a score: none is kept", options.images.string());
  std::ranges::sort(scores);
  // Of q = 0.8, a fifth of the scores is kept, rounded up, and those that equal the least of it.
  const double threshold =
      options.threshold ? *options.threshold
                        : scores[static_cast<std::size_t>(*options.quantile * static_cast<double>(scores.size()))];
  if (threshold > scores.back()) {
    user_error("no image of {} has a score of {:g} or more: the best has {:.4f}, --quantile 0.9 would take {:.4f}",
               options.images.string(), threshold, scores.back(),
               scores[static_cast<std::size_t>(0.9 * static_cast<double>(scores.size()))]);
  }
  if (threshold <= scores.front() && scores.size() > 1) {
    warn("the threshold {:g} keeps every image: the lowest score is {:.4f}", threshold, scores.front());
  }
  for (Verdict& verdict : verdicts) {
    if (verdict.score && *verdict.score < threshold) verdict.why = "its score is below the threshold";
  }
  return fmt::format("  threshold {:.4f}; scores from {:.4f} to {:.4f}, median {:.4f}\n{}", threshold, scores.front(),
                     scores.back(), scores[scores.size() / 2], histogram(scores, threshold));
}

/// Writes images.jsonl, embeddings.safetensors and dropped.jsonl.
void write(const AestheticOptions& options, const ImageList& list, const std::vector<Verdict>& verdicts,
           const EmbeddingFile* file, Index kept, const std::string& missing_source) {
  const bool simulated_file = file != nullptr && file->simulated();
  const bool simulated =
      simulated_file || std::ranges::any_of(list.images, [](const ImageRecord& image) { return image.simulated; });
  FileWriter images(options.out / "images.jsonl"), dropped(options.out / "dropped.jsonl");
  std::optional<SafetensorsWriter> embeddings;
  if (file != nullptr) {
    embeddings.emplace(options.out / "embeddings.safetensors",
                       std::vector<SafetensorsWriter::Header>{{"embeddings", FileDType::F32, {kept, file->cols()}}},
                       simulated ? FileMetadata{{"simulated", "true"}} : FileMetadata{});
  }
  std::vector<float> row(file == nullptr ? 0 : static_cast<std::size_t>(file->cols()));
  for (std::size_t i = 0; i < verdicts.size(); ++i) {
    const ImageRecord& image = list.images[i];
    const Verdict& verdict = verdicts[i];
    if (!verdict.why.empty()) {
      Json::Object object{{"id", image.id}, {"why", verdict.why}};
      if (verdict.score) object.emplace_back("aesthetic", *verdict.score);
      if (simulated_file || image.simulated) object.emplace_back("simulated", true);
      dropped.write(Json(std::move(object)).dump() + "\n");
      continue;
    }
    Json object = Json::parse(image.line);
    if (image.source.empty()) object["source"] = missing_source;
    if (verdict.score) object["aesthetic"] = *verdict.score;
    if (simulated_file) object["simulated"] = true;
    images.write(object.dump() + "\n");
    if (file == nullptr) continue;
    file->read(image.row, 1, row.data());
    embeddings->write(row.data(), row.size() * sizeof(float));
  }
  if (embeddings) embeddings->commit();
  dropped.commit();
  images.commit();
}

}  // namespace

void run_corpus_aesthetic(const AestheticOptions& options) {
  check(options);
  const bool by_score = !options.head.empty(), by_votes = !options.likes.empty();
  const ImageList list = read_images(options.images, options.bad_line_share);
  if (list.images.empty()) user_error("{}: none of its {} lines is an image", options.images.string(), list.lines);
  std::optional<EmbeddingFile> file;
  if (!options.embeddings.empty()) {
    file.emplace(options.embeddings);
    require_rows(list, *file);
  }
  const std::string missing_source = !options.source.empty() ? options.source : by_score ? "natural" : "generated";
  const auto source_of = [&](const ImageRecord& image) { return image.source.empty() ? missing_source : image.source; };
  const auto scored = [&](const ImageRecord& image) {
    return by_score && (!by_votes || source_of(image) == "natural");
  };

  std::vector<Verdict> verdicts(list.images.size());
  std::string report;
  if (by_score) {
    const AestheticHead head(options.head);
    if (head.size() != file->cols()) {
      user_error("{} scores embeddings of {} numbers, but those of {} have {}", options.head.string(), head.size(),
                 file->path().string(), file->cols());
    }
    score(list, *file, head, scored, verdicts);
    report = fmt::format("  head      {}\n", head.kind()) + keep_by_score(options, verdicts);
  }
  std::int64_t best = INT64_MIN;
  if (by_votes) {
    const auto votes = read_votes(options.likes, options.bad_line_share);
    for (std::size_t i = 0; i < verdicts.size(); ++i) {
      if (scored(list.images[i])) continue;
      const auto found = votes.find(list.images[i].id);
      if (found == votes.end()) {
        verdicts[i].why = "nobody voted for it";
        continue;
      }
      const std::int64_t sum = found->second.likes - found->second.dislikes;
      best = std::max(best, sum);
      if (sum < options.min_likes) verdicts[i].why = "too few like it";
    }
    if (best == INT64_MIN) {
      warn("{} has no vote for an image of {} that votes decide", options.likes.string(), options.images.string());
    } else {
      report +=
          fmt::format("  votes     {} or more likes without dislikes; the best has {}\n", options.min_likes, best);
    }
  }

  std::map<std::string, std::size_t> reasons;
  std::map<std::string, std::pair<std::size_t, std::size_t>> sources;  // kept, all
  Index kept = 0;
  for (std::size_t i = 0; i < verdicts.size(); ++i) {
    const bool good = verdicts[i].why.empty();
    kept += good;
    auto& [kept_here, all_here] = sources[source_of(list.images[i])];
    kept_here += good;
    ++all_here;
    if (!good) ++reasons[verdicts[i].why];
  }
  if (kept == 0) {
    user_error("{}: no image is kept: not one is liked enough{}", options.images.string(),
               best == INT64_MIN ? "" : fmt::format("; the best is with --min-likes {}", best));
  }
  make_folder(options.out);
  write(options, list, verdicts, file ? &*file : nullptr, kept, missing_source);

  fmt::print("{} of {} {} -> {}\n{}", kept, verdicts.size(), plural(static_cast<Index>(verdicts.size()), "image"),
             (options.out / "images.jsonl").string(), report);
  for (const auto& [name, counts] : sources) {
    fmt::print("  {:<9} {} of {} kept ({:.0f} %)\n", name, counts.first, counts.second,
               100.0 * static_cast<double>(counts.first) / static_cast<double>(counts.second));
  }
  for (const auto& [why, count] : reasons) fmt::print("  dropped   {}: {}\n", count, why);
  if (list.bad > 0) fmt::print("  dropped   {}: its line is bad\n", list.bad);
  std::fflush(stdout);
}

}  // namespace unfurl::train
