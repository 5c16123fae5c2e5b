#include "train/judge/sheet.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <optional>

#include "core/error.h"
#include "core/files.h"
#include "core/json.h"
#include "core/lines.h"
#include "core/names.h"
#include "train/corpus/draw.h"
#include "train/judge/expansions.h"
#include "train/log.h"

namespace unfurl::train {
namespace {

namespace fs = std::filesystem;

constexpr std::uint32_t kSides = 7003, kOrder = 7004;
constexpr std::size_t kBestOf = 4;
constexpr std::size_t kLargePage = 200u << 20;

/// The files of a system's images of a query, sample by sample; "" where there is none.
using ImageFiles = std::map<std::pair<std::string, std::string>, std::vector<std::string>>;

ImageFiles read_image_files(const fs::path& path, bool& simulated) {
  ImageFiles out;
  if (!fs::exists(path)) return out;
  const std::string text = read_file(path);
  for (const auto& [number, bytes] : Lines(text)) {
    try {
      const Json line = Json::parse_line(bytes);
      if (number == 1) {
        simulated = line.at("simulated").as_bool();
        continue;
      }
      std::vector<std::string>& files = out[{line.at("system").as_string(), line.at("query_id").as_string()}];
      for (const Json& file : line.at("files").as_array()) files.push_back(file.as_string());
    } catch (const Error& error) {
      user_error("{}:{}: not a judgement's image files: {}", path.string(), number, error.what());
    }
  }
  return out;
}

std::string base64(std::string_view bytes) {
  constexpr std::string_view kDigits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string out;
  out.reserve(bytes.size() / 3 * 4 + 4);
  for (std::size_t i = 0; i < bytes.size(); i += 3) {
    std::uint32_t group = 0;
    for (std::size_t j = 0; j < 3; ++j) {
      group = group << 8 | (i + j < bytes.size() ? static_cast<unsigned char>(bytes[i + j]) : 0u);
    }
    for (std::size_t j = 0; j < 4; ++j) out += i + j <= bytes.size() ? kDigits[group >> (18 - 6 * j) & 63] : '=';
  }
  return out;
}

/// "" for a file that is no image which browsers show.
std::string data_uri(const fs::path& path) {
  std::error_code error;
  if (!fs::is_regular_file(path, error)) return "";
  const std::string bytes = read_file(path);
  const char* type = nullptr;
  if (bytes.starts_with("\x89PNG\r\n\x1a\n")) type = "png";
  if (bytes.starts_with("\xFF\xD8\xFF")) type = "jpeg";
  if (bytes.starts_with("GIF8")) type = "gif";
  if (bytes.starts_with("RIFF") && bytes.substr(8, 4) == "WEBP") type = "webp";
  return type == nullptr ? "" : fmt::format("data:image/{};base64,{}", type, base64(bytes));
}

struct Pair {
  std::string a, b;
};

Pair choose_pair(const ExpansionsFile& all, const std::string& asked) {
  const auto known = [&](const std::string& name) { return all.texts.contains(name); };
  if (asked.empty()) {
    for (const std::string& system : all.systems) {
      const bool control =
          system == "straight" || system == "random_flavors" || system == "nearest" || system == "few_shot";
      if (!control && known("straight")) return {system, "straight"};
    }
    user_error("this judgement has no model beside the straight query; name two systems with --pairs-of A,B");
  }
  std::string unknown;
  for (std::size_t comma = asked.find(','); comma != std::string::npos; comma = asked.find(',', comma + 1)) {
    const Pair pair = {asked.substr(0, comma), asked.substr(comma + 1)};
    if (known(pair.a) && known(pair.b)) {
      if (pair.a == pair.b) user_error("--pairs-of needs two systems, got \"{}\" twice", pair.a);
      return pair;
    }
    unknown = known(pair.a) ? pair.b : pair.a;
  }
  if (unknown.empty()) user_error("--pairs-of needs two names with a comma between them, got \"{}\"", asked);
  user_error("--pairs-of: this judgement has no system \"{}\"{}", unknown, did_you_mean(unknown, all.systems));
}

class Sheet {
 public:
  explicit Sheet(const SheetSettings& settings)
      : settings_(settings),
        all_(read_judged_expansions(settings.folder / "expansions.jsonl")),
        pair_(choose_pair(all_, settings.pair)),
        files_(read_image_files(settings.folder / "image_files.jsonl", simulated_)) {
    // What the page does not hold: nobody works out the sides from it, even where the seed is known.
    secret_ =
        hash_bytes(read_file(settings.folder / "expansions.jsonl") + "\n" + pair_.a + "\n" + pair_.b, settings.seed);
  }

  void write() {
    for (const TestQuery& query : all_.queries) add_query(query);
    if (items_.empty()) user_error("{} and {} have no query in common", pair_.a, pair_.b);
    Draw draw(secret_, kOrder, 0);
    draw.shuffle(items_);
    std::vector<SheetItem> shown;
    Json key_items = Json::array();
    std::string content;
    for (std::size_t i = 0; i < items_.size(); ++i) {
      Entry& entry = items_[i];
      entry.item.id = fmt::format("i{:03}", i + 1);
      const bool swapped = Draw(secret_, kSides, i).chance(0.5);
      if (swapped) std::swap(entry.item.left, entry.item.right);
      key_items.push_back(Json::Object{{"item", entry.item.id},
                                       {"kind", entry.item.four ? "4x4" : "1x1"},
                                       {"query_id", entry.query_id},
                                       {"query", entry.item.query},
                                       {"left", swapped ? "b" : "a"}});
      for (const SheetSide* side : {&entry.item.left, &entry.item.right}) {
        for (const auto* texts : {&side->images, &side->prompts}) {
          for (const std::string& text : *texts) content += fmt::format("{:016x}", hash_bytes(text));
        }
      }
      content += entry.item.query + '\n';
      shown.push_back(std::move(entry.item));
    }
    const std::string sheet = fmt::format("{:016x}", hash_bytes(content));
    const fs::path key = settings_.folder / "sheet-key.json";
    const Json written = Json::Object{{"sheet", sheet}, {"a", pair_.a}, {"b", pair_.b}, {"items", key_items}};
    const std::string text = written.dump(1) + "\n";
    if (fs::exists(key) && read_file(key) != text) {
      warn("{} is replaced: votes on the sheet that it was the key of cannot be read any more", key.string());
    }
    const std::string page =
        sheet_page(sheet,
                   !simulated_        ? ""
                   : with_images_ > 0 ? "The images come from a simulated image side."
                                      : "The judgement is of a simulated image side, whose images nobody can see.",
                   shown);
    write_file(key, text);
    write_file(settings_.folder / "sheet.html", page);
    if (page.size() > kLargePage) warn("the page has {} MB: browsers may be slow", page.size() >> 20);
    if (fours_ == 0) warn("no system has four samples of a query: there is no 4x4; judge with -n 4");
    fmt::print("{}: {} comparisons of {} and {}, {} of them with images\n{}\n",
               (settings_.folder / "sheet.html").string(), shown.size(), pair_.a, pair_.b, with_images_,
               key.string() + ": which side is whose; keep it from those who vote");
    std::fflush(stdout);
  }

 private:
  struct Entry {
    std::string query_id;
    SheetItem item;
  };

  void add_query(const TestQuery& query) {
    const auto of = [&](const std::string& system) -> const std::vector<std::string>* {
      const auto& texts = all_.texts.at(system);
      const auto found = texts.find(query.id);
      return found == texts.end() ? nullptr : &found->second;
    };
    const std::vector<std::string>*const a = of(pair_.a), *const b = of(pair_.b);
    if (a == nullptr || b == nullptr) return;
    const std::size_t both = std::min(a->size(), b->size());
    for (std::size_t i = 0; i < std::min(both, static_cast<std::size_t>(settings_.rounds)); ++i) {
      add_item(query, false, *a, *b, i, 1);
    }
    if (both >= kBestOf) {
      add_item(query, true, *a, *b, 0, kBestOf);
      ++fours_;
    }
  }

  void add_item(const TestQuery& query, bool four, const std::vector<std::string>& a, const std::vector<std::string>& b,
                std::size_t first, std::size_t count) {
    Entry entry{query.id, {}};
    entry.item.query = query.text;
    entry.item.four = four;
    entry.item.left.images = images(pair_.a, query.id, first, count);
    entry.item.right.images = images(pair_.b, query.id, first, count);
    entry.item.images = entry.item.left.images.size() == count && entry.item.right.images.size() == count;
    if (entry.item.images) {
      ++with_images_;
    } else {  // a side with fewer images would be known by that
      entry.item.left = {
          {}, {a.begin() + static_cast<std::ptrdiff_t>(first), a.begin() + static_cast<std::ptrdiff_t>(first + count)}};
      entry.item.right = {
          {}, {b.begin() + static_cast<std::ptrdiff_t>(first), b.begin() + static_cast<std::ptrdiff_t>(first + count)}};
    }
    items_.push_back(std::move(entry));
  }

  std::vector<std::string> images(const std::string& system, const std::string& query, std::size_t first,
                                  std::size_t count) const {
    std::vector<std::string> out;
    const auto found = files_.find({system, query});
    if (found == files_.end()) return out;
    for (std::size_t i = first; i < std::min(found->second.size(), first + count); ++i) {
      if (found->second[i].empty()) continue;
      // Its name is relative to where the side ran: this program's folder, or the judgement's.
      std::string uri = data_uri(found->second[i]);
      if (uri.empty()) uri = data_uri(settings_.folder / found->second[i]);
      if (!uri.empty()) out.push_back(std::move(uri));
    }
    return out;
  }

  const SheetSettings& settings_;
  ExpansionsFile all_;
  Pair pair_;
  bool simulated_ = false;
  ImageFiles files_;
  std::uint64_t secret_ = 0;
  std::vector<Entry> items_;
  std::size_t fours_ = 0, with_images_ = 0;
};

}  // namespace

void write_sheet(const SheetSettings& settings) { Sheet(settings).write(); }

}  // namespace unfurl::train
