#include <fmt/format.h>

#include <array>
#include <limits>
#include <map>
#include <set>

#include "core/error.h"
#include "core/files.h"
#include "core/json.h"
#include "core/names.h"
#include "train/corpus/text.h"
#include "train/judge/agreement.h"
#include "train/judge/sheet.h"
#include "train/trainer/evaluation_report.h"

namespace unfurl::train {
namespace {

namespace fs = std::filesystem;

enum Choice : int { kA, kB, kTie };

struct KeyItem {
  std::string kind, query_id;
  bool a_is_left = false;
};

struct SheetKey {
  std::string sheet, a, b;
  std::map<std::string, KeyItem> items;
};

SheetKey read_key(const fs::path& path) {
  const std::string text = read_file(path);
  try {
    const Json json = Json::parse(text);
    SheetKey out{json.at("sheet").as_string(), json.at("a").as_string(), json.at("b").as_string(), {}};
    for (const Json& item : json.at("items").as_array()) {
      out.items[item.at("item").as_string()] = {item.at("kind").as_string(), item.at("query_id").as_string(),
                                                item.at("left").as_string() == "a"};
    }
    return out;
  } catch (const UserError&) {
    throw;
  } catch (const Error& error) {
    user_error("{}: not the key of a sheet: {}", path.string(), error.what());
  }
}

/// All votes on a sheet, by item.
class Votes {
 public:
  explicit Votes(const SheetKey& key) : key_(key) {}

  void add_file(const fs::path& path) {
    const std::string text = read_file(path);
    try {
      const Json json = Json::parse(text);
      const std::string& sheet = json.at("sheet").as_string();
      if (sheet != key_.sheet) {
        user_error("{}: votes on another sheet ({}) than that of the key ({})", path.string(), sheet, key_.sheet);
      }
      const std::string rater(trim(json.at("rater").as_string()));
      if (rater.empty()) user_error("{}: the rater has no name", path.string());
      for (const Json& vote : json.at("votes").as_array()) add(path, rater, vote);
    } catch (const UserError&) {
      throw;
    } catch (const Error& error) {
      user_error("{}: not votes as the page saves them: {}", path.string(), error.what());
    }
  }

  std::size_t count() const { return votes_; }
  std::size_t left() const { return left_; }
  std::size_t raters() const { return raters_.size(); }
  /// The ratings of each item of that kind; "" for all.
  std::vector<std::vector<int>> units(const std::string& kind) const {
    std::vector<std::vector<int>> out;
    for (const auto& [item, choices] : by_item_) {
      if (kind.empty() || key_.items.at(item).kind == kind) out.push_back(choices);
    }
    return out;
  }
  const std::map<std::string, std::vector<int>>& by_item() const { return by_item_; }

 private:
  void add(const fs::path& path, const std::string& rater, const Json& vote) {
    const std::string &item = vote.at("item").as_string(), &choice = vote.at("vote").as_string();
    const auto found = key_.items.find(item);
    if (found == key_.items.end()) user_error("{}: the sheet has no item \"{}\"", path.string(), item);
    if (choice != "left" && choice != "right" && choice != "tie") {
      user_error("{}: the vote on {} must be left, right or tie, got \"{}\"", path.string(), item, choice);
    }
    const auto [before, first] = by_whom_.emplace(std::pair{rater, item}, path.string());
    if (!first) {
      user_error("{}: \"{}\" has voted on {} before, in {}; leave one of the votes out", path.string(), rater, item,
                 before->second);
    }
    raters_.insert(rater);
    ++votes_;
    left_ += choice == "left";
    by_item_[item].push_back(choice == "tie" ? kTie : (choice == "left") == found->second.a_is_left ? kA : kB);
  }

  const SheetKey& key_;
  std::map<std::string, std::vector<int>> by_item_;
  std::map<std::pair<std::string, std::string>, std::string> by_whom_;  // rater and item: the file
  std::set<std::string> raters_;
  std::size_t votes_ = 0, left_ = 0;
};

std::string shown(const std::optional<double>& alpha) { return alpha ? fmt::format("{:.3f}", *alpha) : "n/a"; }

}  // namespace

void read_votes(const VoteSettings& settings) {
  const SheetKey key = read_key(settings.folder / "sheet-key.json");
  Votes votes(key);
  for (const fs::path& path : settings.files) votes.add_file(path);
  if (votes.count() == 0) user_error("there is no vote in {}", settings.files.front().string());

  Json json = Json::Object{{"a", key.a},
                           {"b", key.b},
                           {"sheet", key.sheet},
                           {"votes", static_cast<std::int64_t>(votes.count())},
                           {"raters", static_cast<std::int64_t>(votes.raters())},
                           {"left_share", static_cast<double>(votes.left()) / static_cast<double>(votes.count())}};
  std::vector<std::vector<std::string>> table = {
      {"", "queries", "votes", "A better", "B better", "ties", "A wins, ties half", "agreement"}};
  for (const std::string kind : {"1x1", "4x4"}) {
    std::array<std::int64_t, 3> counts{};
    std::map<std::string, std::pair<double, double>> by_query;  // what A won, votes
    for (const auto& [item, choices] : votes.by_item()) {
      const KeyItem& of = key.items.at(item);
      if (of.kind != kind) continue;
      for (const int choice : choices) {
        ++counts[static_cast<std::size_t>(choice)];
        by_query[of.query_id].first += choice == kA ? 1 : choice == kTie ? 0.5 : 0;
        by_query[of.query_id].second += 1;
      }
    }
    std::vector<double> shares;
    for (const auto& [query, won] : by_query) shares.push_back(won.first / won.second);
    const Estimate wins = estimate(shares, settings.bootstrap);
    const std::optional<double> alpha = krippendorff_alpha(votes.units(kind));
    const std::int64_t all = counts[kA] + counts[kB] + counts[kTie];
    table.push_back({kind, fmt::format("{}", shares.size()), fmt::format("{}", all), fmt::format("{}", counts[kA]),
                     fmt::format("{}", counts[kB]), fmt::format("{}", counts[kTie]),
                     wins.defined() ? fmt::format("{:.3f} [{:.3f}, {:.3f}]", wins.mean, wins.low, wins.high) : "n/a",
                     shown(alpha)});
    Json one = Json::Object{{"queries", static_cast<std::int64_t>(shares.size())},
                            {"votes", all},
                            {"a", counts[kA]},
                            {"b", counts[kB]},
                            {"ties", counts[kTie]}};
    one["wins"] =
        wins.defined() ? Json(Json::Object{{"mean", wins.mean}, {"low", wins.low}, {"high", wins.high}}) : Json();
    one["agreement"] = alpha ? Json(*alpha) : Json();
    json[kind] = std::move(one);
  }
  const std::optional<double> alpha = krippendorff_alpha(votes.units(""));
  json["agreement"] = alpha ? Json(*alpha) : Json();
  if (settings.json) {
    fmt::print("{}\n", json.dump(2));
  } else {
    fmt::print("A: {}, B: {}; {} {} of {} {}, {:.0f} % of them for the left side\n{}\n", key.a, key.b, votes.count(),
               plural(static_cast<std::int64_t>(votes.count()), "vote"), votes.raters(),
               plural(static_cast<std::int64_t>(votes.raters()), "rater"),
               100 * static_cast<double>(votes.left()) / static_cast<double>(votes.count()), text_table(table));
    fmt::print(
        "{:g} % intervals over queries; agreement: Krippendorff's alpha, nominal (1: all agree, 0: as by chance), {} "
        "over all\n",
        100 * settings.bootstrap.confidence, shown(alpha));
  }
  std::fflush(stdout);
}

}  // namespace unfurl::train
