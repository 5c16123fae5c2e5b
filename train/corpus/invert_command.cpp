#include <fmt/format.h>

#include <cstdio>
#include <map>

#include "core/error.h"
#include "core/files.h"
#include "core/json.h"
#include "core/lines.h"
#include "core/names.h"
#include "train/corpus/commands.h"
#include "train/corpus/images.h"
#include "train/log.h"
#include "train/report/work_progress.h"

namespace unfurl::train {
namespace {

namespace fs = std::filesystem;

constexpr std::size_t kBlock = 512;  // images

struct Work {
  const InvertOptions& options;
  const FlavorLists& lists;
  const EmbeddingFile &images, &captions;
};

/// The image's line with its prompt.
std::string line_of(const Work& work, const ImageRecord& image, const Inversion& inversion) {
  std::size_t form = best_form(inversion);
  for (std::size_t i = 0; i < kForms.size(); ++i) {
    if (kForms[i] == work.options.form) form = i;
  }
  Json object = Json::parse(image.line);
  object["prompt"] = prompt_of(image.caption, inversion[form], work.lists);
  Json flavors = Json::array(), similarities = Json::object();
  for (const Index flavor : inversion[form].flavors) {
    flavors.push_back(work.lists.texts[static_cast<std::size_t>(flavor)]);
  }
  for (std::size_t i = 0; i < kForms.size(); ++i) similarities[kForms[i]] = inversion[i].similarity;
  object["flavors"] = std::move(flavors);
  object["form"] = kForms[form];
  object["similarity"] = inversion[form].similarity;
  object["similarities"] = std::move(similarities);
  if (work.images.simulated() || work.captions.simulated()) object["simulated"] = true;
  return object.dump() + "\n";
}

/// Lines of images [from, to); one whose embedding has no direction gives {"id", "dropped": why}.
std::string invert_block(const Work& work, const std::vector<ImageRecord>& records, std::size_t from, std::size_t to) {
  auto& pool = kernels::ThreadPool::global();
  const auto size = static_cast<std::size_t>(work.lists.size);
  std::vector<float> images((to - from) * size), captions((to - from) * size);
  std::vector<std::string> lines(to - from);
  for (std::size_t i = from; i < to; ++i) {
    const std::span<float> image(images.data() + (i - from) * size, size),
        caption(captions.data() + (i - from) * size, size);
    work.images.read(records[i].row, 1, image.data());
    work.captions.read(records[i].row, 1, caption.data());
    std::string why;
    if (!normalize(image)) {
      why = fmt::format("its embedding is {}", fault_of_embedding(image));
    } else if (!normalize(caption)) {
      why = fmt::format("its caption's embedding is {}", fault_of_embedding(caption));
    }
    if (why.empty()) continue;
    lines[i - from] = Json(Json::Object{{"id", records[i].id}, {"dropped", why}}).dump() + "\n";
    std::ranges::fill(image, 0.0f);
  }
  const Ranking ranking =
      rank_flavors(pool, work.lists, images.data(), static_cast<Index>(to - from), work.options.rules);
  pool.parallel_for(static_cast<Index>(to - from), [&](Index i) {
    const auto at = static_cast<std::size_t>(i);
    if (!lines[at].empty()) return;
    const ImageRecord& record = records[from + at];
    const Inversion inversion =
        invert(pool, work.lists, ranking, at, record.caption, std::span(images).subspan(at * size, size),
               std::span(captions).subspan(at * size, size), work.options.rules);
    lines[at] = line_of(work, record, inversion);
  });
  std::string text;
  for (const std::string& line : lines) text += line;
  return text;
}

/// Finished blocks, each a file, in a folder that belongs to one job: what another has left is removed.
class Parts {
 public:
  Parts(fs::path folder, std::uint64_t job) : folder_(std::move(folder)), lock_(folder_) {
    const std::string name = fmt::format("{:016x}\n", job);
    if (fs::exists(folder_ / "job") && read_file(folder_ / "job") == name) return;
    remove_parts();
    write_file(folder_ / "job", name);
  }
  fs::path path(std::size_t block) const { return folder_ / fmt::format("part-{:08}.jsonl", block); }

  void remove_parts() const {
    std::vector<fs::path> files;
    for (const auto& entry : fs::directory_iterator(folder_)) {
      const std::string name = entry.path().filename().string();
      if (name == "job" || name.starts_with("part-")) files.push_back(entry.path());
    }
    std::error_code ignored;
    for (const fs::path& file : files) fs::remove(file, ignored);
  }

 private:
  fs::path folder_;
  FolderLock lock_;
};

std::uint64_t job_of(const InvertOptions& options, const FlavorLists& lists, const EmbeddingFile& images,
                     const EmbeddingFile& captions) {
  const InvertRules& rules = options.rules;
  return hash_bytes(fmt::format("{} {} {} {} {} {} {} {} {} {}", hash_bytes(read_file(options.images)),
                                images.fingerprint(), captions.fingerprint(), lists.fingerprint, options.form,
                                rules.keep, rules.max_tokens, rules.fast, rules.most, kBlock));
}

}  // namespace

void run_corpus_invert(const InvertOptions& options) {
  ImageList list = read_images(options.images, options.bad_line_share);
  require_other_file(options.out, options.images);
  const EmbeddingFile images(options.embeddings), captions(options.caption_embeddings);
  require_rows(list, images);
  require_rows(list, captions);
  const FlavorLists lists = read_flavor_lists(options.flavors);
  for (const EmbeddingFile* file : {&images, &captions}) {
    if (file->cols() != lists.size) {
      user_error("{} has embeddings of {} numbers, but those of the flavors in {} have {}", file->path().string(),
                 file->cols(), options.flavors.string(), lists.size);
    }
  }
  const auto without_caption =
      std::erase_if(list.images, [](const ImageRecord& image) { return image.caption.empty(); });
  if (list.images.empty()) user_error("{}: no image has a caption", options.images.string());
  std::string missing;
  std::size_t lists_there = 0;
  for (std::size_t l = 0; l < kFlavorLists.size(); ++l) {
    if (lists.begins[l] < lists.begins[l + 1]) {
      ++lists_there;
    } else {
      missing += fmt::format("{}{}.txt", missing.empty() ? "" : ", ", kFlavorLists[l]);
    }
  }
  if (!missing.empty()) info("{} has no {}: the classic form goes without", options.flavors.string(), missing);

  if (const auto folder = options.out.parent_path(); !folder.empty()) make_folder(folder);
  const fs::path parts_folder = options.out.string() + ".parts";
  const Work work{options, lists, images, captions};
  const std::size_t count = list.images.size(), blocks = (count + kBlock - 1) / kBlock;
  std::map<std::string, std::size_t> forms, dropped, sources;
  std::size_t written = 0;
  {
    const Parts parts(parts_folder, job_of(options, lists, images, captions));
    std::size_t done = 0;
    while (done < blocks && fs::exists(parts.path(done))) ++done;
    if (done > 0) info("{} of {} images were done before", std::min(count, done * kBlock), count);
    WorkProgress progress("images", static_cast<std::int64_t>(std::min(count, done * kBlock)),
                          static_cast<std::int64_t>(count));
    for (std::size_t block = done; block < blocks; ++block) {
      const std::size_t to = std::min(count, (block + 1) * kBlock);
      write_file(parts.path(block), invert_block(work, list.images, block * kBlock, to));
      progress.update(static_cast<std::int64_t>(to));
    }
    FileWriter out(options.out);
    for (std::size_t block = 0; block < blocks; ++block) {
      const std::string text = read_file(parts.path(block));
      for (const Line& line : Lines(text)) {
        const Json object = Json::parse(line.text);
        if (const Json* why = object.find("dropped")) {
          ++dropped[why->as_string()];
          continue;
        }
        ++forms[object.at("form").as_string()];
        if (const Json* source = object.find("source"); source != nullptr && source->is_string()) {
          ++sources[source->as_string()];
        }
        out.write(std::string(line.text) + '\n');
        ++written;
      }
    }
    if (written == 0) user_error("{}: no embedding has a direction: no prompt is written", options.images.string());
    out.commit();
    parts.remove_parts();
  }
  std::error_code ignored;
  fs::remove(parts_folder / ".lock", ignored);
  fs::remove(parts_folder, ignored);

  fmt::print("{} {} -> {}\n", written, plural(static_cast<Index>(written), "prompt"), options.out.string());
  fmt::print("  flavors   {} in {} {} of {} numbers; {} repeated, {} of no use\n", lists.count(), lists_there,
             plural(static_cast<Index>(lists_there), "list"), lists.size, lists.repeated, lists.unusable);
  for (const auto& [form, n] : forms) fmt::print("  form      {}: {}\n", form, n);
  for (const auto& [source, n] : sources) fmt::print("  source    {}: {}\n", source, n);
  if (without_caption > 0) fmt::print("  dropped   {}: no caption\n", without_caption);
  for (const auto& [why, n] : dropped) fmt::print("  dropped   {}: {}\n", n, why);
  if (list.bad > 0) fmt::print("  dropped   {}: its line is bad\n", list.bad);
  std::fflush(stdout);
}

}  // namespace unfurl::train
