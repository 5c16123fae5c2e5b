#include "train/corpus/grammar.h"

#include <algorithm>
#include <utility>

#include "core/error.h"
#include "train/corpus/segments.h"
#include "train/corpus/text.h"
#include "train/corpus/words.h"

namespace unfurl::train {

struct Grammar::Subject {
  std::string_view kind;      // its class, "animals"
  std::string noun;           // "old fox", with adjective and material, without article
  std::string named;          // the same as queries and prompts say it, mostly with its article
  std::string action, place;  // may be empty
};

struct Grammar::Style {
  std::string lead;                  // "oil painting of"
  std::vector<std::string> flavors;  // the medium's name, where there is one, first
};

namespace {

// Kinds of subject and how often each is drawn, of 100.
constexpr std::pair<std::string_view, int> kKinds[] = {{"people", 24},    {"animals", 20}, {"mythical", 10},
                                                       {"buildings", 10}, {"vehicles", 8}, {"objects", 11},
                                                       {"food", 5},       {"plants", 5},   {"landscapes", 7}};
constexpr std::pair<std::string_view, int> kMedia[] = {{"photo", 30},   {"painting", 22}, {"drawing", 12},
                                                       {"digital", 20}, {"render", 8},    {"craft", 8}};

// Singular nouns that take no article.
constexpr std::string_view kMassNouns[] = {"bamboo", "lavender", "ivy",   "garlic", "wisteria", "paella",
                                           "curry",  "salad",    "sushi", "aloe",   "wildlife"};

template <std::size_t N>
std::string_view weighted(const std::pair<std::string_view, int> (&choices)[N], Draw& draw) {
  std::size_t at = draw.below(100);
  for (const auto& [name, weight] : choices) {
    if (at < static_cast<std::size_t>(weight)) return name;
    at -= static_cast<std::size_t>(weight);
  }
  return choices[0].first;
}

std::string joined(const std::vector<std::string>& parts, std::string_view between) {
  std::string out;
  for (const std::string& part : parts) {
    if (part.empty()) continue;
    if (!out.empty()) out += between;
    out += part;
  }
  return out;
}

std::string sentence(std::initializer_list<std::string> parts) { return joined(parts, " "); }

std::vector<std::string_view> split_at(std::string_view text, char mark) {
  std::vector<std::string_view> parts;
  for (std::size_t start = 0; start <= text.size();) {
    const std::size_t end = std::min(text.find(mark, start), text.size());
    parts.push_back(trim(text.substr(start, end - start)));
    start = end + 1;
  }
  return parts;
}

/// One pair: `opening` is what the prompt says first, `details` come behind it as segments of content.
Pair make_pair(std::string type, std::string query, std::string prefix, const std::string& opening,
               const std::vector<std::string>& details, const std::vector<std::string>& flavors) {
  Pair pair;
  const std::string content = joined({opening, joined(details, ", ")}, ", ");
  pair.prompt = joined({content, joined(flavors, ", ")}, ", ");
  pair.content = content_words(content);
  pair.query = std::move(query);
  pair.prefix = std::move(prefix);
  pair.type = std::move(type);
  pair.flavors = flavors;
  return pair;
}

/// People write one query in twelve with a capital; the prompt that repeats it keeps it.
std::string maybe_capital(std::string text, Draw& draw) {
  if (draw.chance(1.0 / 12) && text[0] >= 'a' && text[0] <= 'z') text[0] = static_cast<char>(text[0] - 'a' + 'A');
  return text;
}

}  // namespace

std::string with_article(std::string_view noun_phrase) {
  const auto words = split_words(noun_phrase);
  if (words.empty()) return {};
  // The head is the last word, or the one before "of" and "in": "bowl of ramen", "ship in a bottle", "suit of armor".
  std::size_t head = words.size() - 1;
  for (std::size_t i = 1; i < words.size(); ++i) {
    if (words[i] == "of" || words[i] == "in" || words[i] == "made") {
      head = i - 1;
      break;
    }
  }
  const std::string noun = lower(words[head]);
  const bool plural = noun.size() > 3 && noun.back() == 's' && !noun.ends_with("ss") && !noun.ends_with("us") &&
                      !noun.ends_with("is") && !noun.ends_with("as");
  if (plural || std::find(std::begin(kMassNouns), std::end(kMassNouns), noun) != std::end(kMassNouns)) {
    return std::string(noun_phrase);
  }
  const std::string first = lower(words[0]);
  const bool like_you = first.starts_with("uni") || first.starts_with("one") || first.starts_with("eu");
  const bool vowel = std::string_view("aeiou").find(first[0]) != std::string_view::npos && !like_you;
  return ((vowel || first == "hourglass") ? "an " : "a ") + std::string(noun_phrase);
}

Grammar::Grammar(const std::function<bool(std::string_view)>& allowed) {
  for (const std::string_view file :
       {"subjects", "adjectives", "materials", "actions", "places", "details", "flavors", "general"}) {
    for (const WordSection& section : word_file(file)) {
      const std::string key = std::string(file) + '/' + std::string(section.name);
      List& kept = lists_[key];
      std::copy_if(section.entries.begin(), section.entries.end(), std::back_inserter(kept), allowed);
      require(!kept.empty(), "Grammar: no entry of {} is allowed", key);
    }
  }
  const auto associations = [&](std::string_view file, std::size_t least) {
    std::vector<Association> made;
    for (const WordSection& section : word_file(file)) {
      for (const std::string_view entry : section.entries) {
        const auto sides = split_at(entry, ':');
        require(sides.size() == 2, "Grammar: {} needs one colon: {}", file, entry);
        Association association;
        for (const std::string_view name : split_at(sides[0], '|')) {
          if (allowed(name)) association.names.push_back(name);
        }
        for (const std::string_view scene : split_at(sides[1], '|')) {
          if (allowed(scene)) association.scenes.push_back(scene);
        }
        if (!association.names.empty() && association.scenes.size() >= least) made.push_back(std::move(association));
      }
    }
    require(!made.empty(), "Grammar: no entry of {} is allowed", file);
    return made;
  };
  ideas_ = associations("abstract", 1);
  places_ = associations("grounded", 1);
}

const Grammar::List& Grammar::list(std::string_view file, std::string_view section) const {
  const auto found = lists_.find(std::string(file) + '/' + std::string(section));
  require(found != lists_.end(), "Grammar: there is no list {}/{}", file, section);
  return found->second;
}

Grammar::Subject Grammar::subject(Draw& draw, std::string_view kind) const {
  Subject made;
  made.kind = kind;
  made.noun = draw.pick(list("subjects", kind));
  if (draw.chance(0.75)) {
    const std::string_view adjective = draw.pick(list("adjectives", draw.chance(0.4) ? "any" : kind));
    const bool said = contains_word(split_words(made.noun), adjective);
    const bool contradicts = adjective == "young" || adjective == "old" || adjective == "newborn";
    if (!said && !(contradicts && made.noun.find(' ') != std::string::npos))
      made.noun = std::string(adjective) + ' ' + made.noun;
  }
  const bool thing = kind == "objects" || kind == "buildings" || kind == "vehicles";
  const bool being = kind == "animals" || kind == "mythical";
  if ((thing && draw.chance(0.2)) || (being && draw.chance(0.1))) {
    made.noun += " made of " + std::string(draw.pick(list("materials", "any")));
  }
  made.named = draw.chance(0.65) ? with_article(made.noun) : made.noun;
  if (draw.chance(kind == "landscapes" ? 0.7 : 0.85)) made.action = draw.pick(list("actions", kind));

  const bool indoors = kind == "people"                      ? draw.chance(0.4)
                       : kind == "objects" || kind == "food" ? true
                                                             : draw.chance(0.1);
  const double placed = kind == "people" || kind == "animals" || kind == "mythical" ? 0.75
                        : kind == "landscapes"                                      ? 0.0
                        : kind == "buildings" || kind == "food"                     ? 0.3
                                                                                    : 0.5;
  const bool fits = !indoors || kind == "people" || kind == "objects" || kind == "food" || kind == "animals";
  if (draw.chance(placed)) made.place = draw.pick(list("places", indoors && fits ? "indoor" : "outdoor"));
  if (made.action.empty() && made.place.empty()) made.action = draw.pick(list("actions", kind));
  return made;
}

std::vector<std::string> Grammar::details(Draw& draw, std::string_view kind, std::size_t count) const {
  // One of the weather, one of the time, one of the air: a morning that is an evening shows nothing.
  List sections = {"weather", "time", "air"};
  if (!kind.empty()) sections.insert(sections.end(), 3, kind);
  draw.shuffle(sections);
  std::vector<std::string> made;
  for (const std::string_view section : sections) {
    if (made.size() == count) break;
    std::string detail(draw.pick(list("details", section)));
    if (std::find(made.begin(), made.end(), detail) == made.end()) made.push_back(std::move(detail));
  }
  return made;
}

Grammar::Style Grammar::style(Draw& draw) const {
  const std::string medium(weighted(kMedia, draw)), name = "name " + medium, kind = "style " + medium;
  Style made;
  made.lead = draw.pick(list("flavors", "lead " + medium));
  // A picture has one medium, style, light, scale of colors and mood; techniques and qualities may be several.
  const List order = {name, kind, medium, "light", "color", "mood", "quality"};
  List rest = {kind, medium, medium, medium, "light", "color", "mood", "quality", "quality"};
  draw.shuffle(rest);
  List sections = {medium};
  if (draw.chance(0.8)) sections.push_back(name);
  const std::size_t count = draw.between(3, 9);
  while (sections.size() < count) {
    sections.push_back(rest.back());
    rest.pop_back();
  }
  const auto rank = [&](std::string_view section) {
    return std::find(order.begin(), order.end(), section) - order.begin();
  };
  std::stable_sort(sections.begin(), sections.end(), [&](auto a, auto b) { return rank(a) < rank(b); });
  for (const std::string_view section : sections) {
    const List& choices = list("flavors", section);
    std::size_t at = draw.below(choices.size());
    const auto taken = [&] {
      return std::find(made.flavors.begin(), made.flavors.end(), choices[at]) != made.flavors.end();
    };
    while (taken()) at = (at + 1) % choices.size();
    made.flavors.emplace_back(choices[at]);
  }
  if (draw.chance(0.3)) draw.shuffle(made.flavors);
  return made;
}

std::vector<std::string> Grammar::flavors(Draw& draw) const { return style(draw).flavors; }

std::vector<Pair> Grammar::subject_scene(Draw& draw) const {
  const Subject s = subject(draw, weighted(kKinds, draw));
  const std::string full = sentence({s.named, s.action, s.place});
  const std::vector<std::string> more = details(draw, s.kind, draw.between(1, 3));
  std::vector<Pair> pairs;

  const auto add = [&](const char* type, std::string query, const char* prefix, const std::string& rest,
                       const std::vector<std::string>& tail, std::size_t flavors_said = 0) {
    query = maybe_capital(std::move(query), draw);
    const Style how = style(draw);
    // The flavors that a long query says already are a part of its prompt's flavors.
    std::vector<std::string> said(how.flavors.begin(), how.flavors.begin() + static_cast<std::ptrdiff_t>(flavors_said));
    const std::string asked = joined({query, joined(said, ", ")}, ", ");
    const double form = draw.bits() * 0x1p-32;
    std::string opening = query + rest;
    const bool detailed = tail.empty() && query.size() > full.size();  // the query says the details itself
    if (flavors_said == 0 && form < 0.14) {
      opening = how.lead + ' ' + sentence({with_article(s.noun), s.action, s.place});
    } else if (flavors_said == 0 && form < 0.20 && !s.place.empty()) {
      opening = s.place + ", " + sentence({with_article(s.noun), s.action});
    }
    const bool anew = opening != query + rest;
    pairs.push_back(make_pair(type, asked, prefix, opening, anew && detailed ? more : tail, how.flavors));
  };
  const auto behind = [](const std::string& a, const std::string& b = "") {
    std::string text;
    for (const std::string& part : {a, b}) text += part.empty() ? "" : ' ' + part;
    return text;
  };

  add("short", draw.chance(0.5) ? s.noun : s.named, "DTL", behind(s.action, s.place), more);
  if (!s.action.empty() && !s.place.empty()) {
    if (draw.chance(0.5)) {
      add("medium", sentence({s.named, s.action}), "DTL", ' ' + s.place, more);
    } else {
      add("medium", sentence({s.named, s.place}), "DTL", ", " + s.action, more);
    }
  }
  const bool only_flavors = draw.chance(0.5);
  add("concrete", full, only_flavors ? "FLV" : "DTL", "", only_flavors ? std::vector<std::string>() : more);
  const std::size_t flavors_said = draw.below(3);
  add("long", joined({full, joined(more, ", ")}, ", "), "FLV", "", {}, flavors_said);
  const std::string open_query(draw.pick(list("general", s.kind)));
  if (draw.chance(0.5)) {
    add("specificity", open_query, "SPCT", ", " + full, more);
  } else {
    const Style how = style(draw);
    pairs.push_back(make_pair("specificity", open_query, "SPCT", full, more, how.flavors));
  }
  const std::string id = content_id(full);
  for (Pair& pair : pairs) pair.id = id;
  return pairs;
}

std::vector<Pair> Grammar::idea_scene(Draw& draw) const {
  const Association& idea = draw.pick(ideas_);
  const std::string scene(draw.pick(idea.scenes));
  const std::string id = content_id(std::string(idea.names.front()) + ' ' + scene);
  std::vector<Pair> pairs;
  for (int i = 0; i < 5; ++i) {
    std::string query(draw.pick(idea.names));
    if (draw.chance(0.25)) query = std::string(kGrammarPhrases[draw.between(1, 4)]) + ' ' + query;
    query = maybe_capital(std::move(query), draw);
    const Style how = style(draw);
    const double form = draw.bits() * 0x1p-32;
    const std::string opening = form < 0.65 ? query + ", " + scene : form < 0.85 ? scene : how.lead + ' ' + scene;
    pairs.push_back(make_pair("abstract", query, "ABST", opening, details(draw, "", draw.below(3)), how.flavors));
    pairs.back().id = id;
  }
  return pairs;
}

std::vector<Pair> Grammar::grounded_scene(Draw& draw) const {
  const Association& place = draw.pick(places_);
  const Subject s = subject(draw, draw.chance(0.75) ? "people" : "animals");
  const std::string where(place.names.front());
  const std::string id = content_id(s.noun + ' ' + s.action + ' ' + where);
  std::vector<Pair> pairs;
  for (int i = 0; i < 5; ++i) {
    const std::string named = draw.chance(0.6) ? with_article(s.noun) : s.noun;
    const bool acts = !s.action.empty() && draw.chance(0.5);
    std::string query = maybe_capital(sentence({named, acts ? s.action : "", where}), draw);
    List facts = place.scenes;
    draw.shuffle(facts);
    if (facts.size() > 2) facts.resize(draw.between(2, 3));
    std::vector<std::string> seen(facts.begin(), facts.end());
    if (draw.chance(0.5)) seen.push_back(details(draw, "", 1).front());
    const Style how = style(draw);
    const std::string opening =
        draw.chance(0.85) ? query : how.lead + ' ' + sentence({with_article(s.noun), s.action, where});
    pairs.push_back(make_pair("grounded", query, "GRD", opening, seen, how.flavors));
    pairs.back().id = id;
  }
  return pairs;
}

std::vector<Pair> Grammar::scene(Draw& draw) const {
  const std::size_t kind = draw.below(100);
  if (kind < 70) return subject_scene(draw);
  return kind < 86 ? idea_scene(draw) : grounded_scene(draw);
}

}  // namespace unfurl::train
