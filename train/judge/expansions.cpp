#include "train/judge/expansions.h"

#include <fmt/format.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <memory>
#include <set>

#include "core/error.h"
#include "core/files.h"
#include "core/json.h"
#include "core/lines.h"

namespace unfurl::train {
namespace {

using Key = std::pair<std::string, std::string>;  // system, query id

/// What is in the file: whole lines only. Returns the bytes that are of use.
std::size_t read_lines(const std::string& text, const std::string& identity,
                       std::map<Key, std::vector<SystemPrompt>>& known) {
  std::size_t at = 0;
  bool first = true;
  while (at < text.size()) {
    const std::size_t end = text.find('\n', at);
    if (end == std::string::npos) break;  // cut off in the middle
    try {
      const Json line = Json::parse(std::string_view(text).substr(at, end - at));
      if (first) {
        if (line.at("judgement").as_string() != identity) return 0;
        first = false;
      } else {
        std::vector<SystemPrompt> prompts;
        for (const Json& p : line.at("prompts").as_array()) {
          prompts.push_back({p.at("text").as_string(), p.at("ended").as_bool()});
        }
        known[{line.at("system").as_string(), line.at("query_id").as_string()}] = std::move(prompts);
      }
    } catch (const Error&) {
      break;  // what follows a damaged line is made again
    }
    at = end + 1;
  }
  return at;
}

class Appender {
 public:
  Appender(const std::filesystem::path& path, std::size_t keep) : path_(path) {
    std::error_code error;
    if (std::filesystem::exists(path, error)) std::filesystem::resize_file(path, keep, error);
    file_.reset(error ? nullptr : std::fopen(path.c_str(), "ab"));
    if (!file_) fail("cannot write {}: {}", path.string(), error ? error.message() : std::strerror(errno));
  }
  void write(const Json& line) {
    const std::string text = line.dump() + "\n";
    if (std::fwrite(text.data(), 1, text.size(), file_.get()) != text.size() || std::fflush(file_.get()) != 0) {
      fail("cannot write {}: {}", path_.string(), std::strerror(errno));
    }
  }

 private:
  struct Close {
    void operator()(std::FILE* file) const { std::fclose(file); }
  };
  std::filesystem::path path_;
  std::unique_ptr<std::FILE, Close> file_;
};

}  // namespace

Expanded expand_all(const std::filesystem::path& file, const std::string& identity, const std::vector<System>& systems,
                    const std::vector<TestQuery>& queries, bool simulated,
                    const std::function<void(std::size_t done, std::size_t total)>& progress) {
  std::map<Key, std::vector<SystemPrompt>> known;
  const std::size_t keep = std::filesystem::exists(file) ? read_lines(read_file(file), identity, known) : 0;
  Appender out(file, keep);
  if (keep == 0) {
    Json header = Json::Object{{"judgement", identity}};
    if (simulated) header["simulated"] = true;
    out.write(header);
  }
  std::size_t total = 0, done = 0;
  for (const System& system : systems) total += std::min(system.queries, queries.size());
  Expanded all;
  for (const System& system : systems) {
    std::vector<std::vector<SystemPrompt>>& mine = all[system.name];
    for (std::size_t q = 0; q < std::min(system.queries, queries.size()); ++q) {
      const TestQuery& query = queries[q];
      const auto found = known.find({system.name, query.id});
      if (found != known.end()) {
        mine.push_back(found->second);
      } else {
        std::vector<SystemPrompt> prompts;
        for (std::string& text : system.prompts(query)) prompts.push_back({std::move(text), true});
        for (std::size_t i = 0; system.ended != nullptr && i < prompts.size(); ++i) {
          prompts[i].ended = (*system.ended)[i];
        }
        Json line = Json::Object{{"system", system.name}, {"query_id", query.id}, {"query", query.text}};
        line["prompts"] = Json::array();
        for (const SystemPrompt& p : prompts) {
          line["prompts"].push_back(Json::Object{{"text", p.text}, {"ended", p.ended}});
        }
        out.write(line);
        mine.push_back(std::move(prompts));
      }
      progress(++done, total);
    }
  }
  return all;
}

ExpansionsFile read_judged_expansions(const std::filesystem::path& file) {
  const std::string text = read_file(file);
  ExpansionsFile out;
  for (const auto& [number, bytes] : Lines(text)) {
    try {
      const Json line = Json::parse_line(bytes);
      if (number == 1) {
        line.at("judgement").as_string();
        continue;
      }
      const std::string &system = line.at("system").as_string(), &id = line.at("query_id").as_string();
      if (!out.texts.contains(system)) out.systems.push_back(system);
      if (system == out.systems[0]) out.queries.push_back({.id = id, .text = line.at("query").as_string()});
      std::vector<std::string>& texts = out.texts[system][id];
      for (const Json& prompt : line.at("prompts").as_array()) texts.push_back(prompt.at("text").as_string());
    } catch (const Error& error) {
      user_error("{}:{}: not a judgement's expansions: {}", file.string(), number, error.what());
    }
  }
  if (out.queries.empty()) user_error("{} holds no expansions; run `unfurl judge` first", file.string());
  return out;
}

}  // namespace unfurl::train
