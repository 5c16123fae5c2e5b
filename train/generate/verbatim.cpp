#include "train/generate/verbatim.h"

#include <algorithm>
#include <cstddef>
#include <optional>

#include "train/corpus/text.h"
#include "train/generate/bans.h"
#include "train/generate/characters.h"

namespace unfurl::train {
namespace {

constexpr std::string_view kNone = {};
constexpr std::size_t kLongest = 16384;  // bytes; brackets are searched for in square time, and no context holds more
constexpr int kDeepest = 64;             // brackets inside of brackets: a guard for the stack, not a limit anyone meets

bool is_name(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' || c == '-';
}
bool is_ascii_space(char c) { return c == ' ' || (c >= '\t' && c <= '\r'); }

/// "1.3", "-0.5", " .8 ".
bool is_number(std::string_view text) {
  text = trim(text);
  if (!text.empty() && (text[0] == '-' || text[0] == '+')) text.remove_prefix(1);
  bool digit = false, point = false;
  for (const char c : text) {
    if (c == '.' && !point) {
      point = true;
    } else if (c >= '0' && c <= '9') {
      digit = true;
    } else {
      return false;
    }
  }
  return digit;
}

char partner(char open) { return open == '(' ? ')' : open == '[' ? ']' : '}'; }

/// The place of the bracket that closes the one at `at`; npos where there is none.
std::size_t closing(std::string_view text, std::size_t at) {
  std::string open;
  for (std::size_t i = at; i < text.size(); ++i) {
    const char c = text[i];
    if (c == '\\') {
      ++i;
    } else if (c == '(' || c == '[' || c == '{') {
      open += partner(c);
    } else if (c == ')' || c == ']' || c == '}') {
      if (open.back() != c) return std::string_view::npos;
      open.pop_back();
      if (open.empty()) return i;
    }
  }
  return std::string_view::npos;
}

/// The parts between separators that stand outside of all inner brackets.
std::vector<std::string_view> split_outside(std::string_view text, char separator) {
  std::vector<std::string_view> parts;
  std::size_t start = 0;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (c == '\\') {
      ++i;
    } else if (c == '(' || c == '[' || c == '{') {
      const std::size_t end = closing(text, i);
      if (end != std::string_view::npos) i = end;
    } else if (c == separator) {
      parts.push_back(text.substr(start, i - start));
      start = i + 1;
    }
  }
  parts.push_back(text.substr(start));
  return parts;
}

std::string_view first_filled(const std::vector<std::string_view>& parts, std::size_t count) {
  for (std::size_t i = 0; i < count; ++i) {
    if (!trim(parts[i]).empty()) return parts[i];
  }
  return kNone;
}

/// The part of a bracket's inside that the model reads.
std::string_view chosen(char open, std::string_view inside) {
  if (open == '(') {
    const std::size_t colon = inside.rfind(':');
    return colon != std::string_view::npos && is_number(inside.substr(colon + 1)) ? inside.substr(0, colon) : inside;
  }
  if (open == '[') {
    auto parts = split_outside(inside, '|');
    if (parts.size() > 1) return first_filled(parts, parts.size());
    parts = split_outside(inside, ':');
    return parts.size() > 1 && is_number(parts.back()) ? first_filled(parts, parts.size() - 1) : inside;
  }
  // "2$$a|b", "1-2$$ and $$a|b": how many are taken, and what joins them.
  const std::size_t money = inside.find("$$");
  if (money != std::string_view::npos &&
      inside.substr(0, money).find_first_not_of("0123456789- ") == std::string::npos) {
    inside.remove_prefix(inside.rfind("$$") + 2);
  }
  std::string_view first = first_filled(split_outside(inside, '|'), split_outside(inside, '|').size());
  const std::size_t weight = first.find("::");
  if (weight != std::string_view::npos && is_number(first.substr(0, weight))) first.remove_prefix(weight + 2);
  return first;
}

/// What stands at text[at] for the image generator alone: its length, and what the model reads instead.
struct Item {
  std::size_t length = 0;
  std::string words;
};

std::string clean(std::string_view text, std::vector<LiftedItem>* items, int depth);

std::optional<Item> item_at(std::string_view text, std::size_t at, int depth) {
  const char c = text[at];
  const std::string_view rest = text.substr(at);
  if (c == '(' || c == '[' || c == '{') {
    const std::size_t end = closing(text, at);
    if (end == std::string_view::npos || depth >= kDeepest) return {};
    return Item{end + 1 - at, clean(chosen(c, text.substr(at + 1, end - at - 1)), nullptr, depth + 1)};
  }
  if (c == '<') {
    std::size_t i = 1;
    while (i < rest.size() && is_name(rest[i])) ++i;
    const std::size_t end = rest.find_first_of("<>\n", i);
    if (i == 1 || i >= rest.size() || rest[i] != ':' || end == std::string_view::npos || rest[end] != '>') return {};
    return Item{end + 1, ""};
  }
  if (c == '\\') {
    // An escaped bracket: the whole run without spaces and commas, so that "\(botw\)" is one item.
    std::string words;
    std::size_t i = 0;
    for (; i < rest.size() && !is_ascii_space(rest[i]) && rest[i] != ','; ++i) {
      const bool escape = rest[i] == '\\' && i + 1 < rest.size() &&
                          std::string_view("()[]{}<>\\|:").find(rest[i + 1]) != std::string_view::npos;
      if (escape) ++i;
      if (i == 0) return {};  // a backslash before something else
      words += rest[i];
    }
    return Item{i, std::move(words)};
  }
  const bool starts_word = at == 0 || !is_word_character(last_character(text.substr(0, at)).code);
  if (!starts_word) return {};
  if (c == 'e' || c == 'E') {
    constexpr std::string_view kEmbedding = "embedding:";
    if (lower(rest.substr(0, kEmbedding.size())) != kEmbedding) return {};
    const std::size_t end = std::min(rest.find_first_of(" \t\r\n,()[]{}<>|", kEmbedding.size()), rest.size());
    if (end == kEmbedding.size()) return {};
    return Item{end, ""};
  }
  if (rest.starts_with("BREAK")) {
    if (rest.size() > 5 && is_word_character(character_at(rest, 5).code)) return {};
    return Item{5, ""};
  }
  if (rest.starts_with("__")) {
    std::size_t end = rest.find("__", 2);
    if (end == std::string_view::npos || end == 2) return {};
    std::string words;
    for (const char letter : rest.substr(2, end - 2)) {
      if (!is_name(letter) && letter != '/' && letter != '*' && letter != '.') return {};
      words += letter == '_' || letter == '-' || letter == '/' ? ' ' : letter;
    }
    return Item{end + 2, std::move(words)};
  }
  return {};
}

/// The text as the model reads it, spaces as they come; its items are added to `items` where that is given.
std::string clean(std::string_view text, std::vector<LiftedItem>* items, int depth) {
  std::string out;
  for (std::size_t at = 0; at < text.size();) {
    std::optional<Item> item = item_at(text, at, depth);
    if (!item) {
      out += text[at++];
      continue;
    }
    out += item->words.empty() ? " " : item->words;
    if (items != nullptr) {
      items->push_back({std::string(text.substr(at, item->length)), std::string(trim(item->words))});
    }
    at += item->length;
  }
  return out;
}

/// One space between words, no space before a comma, no comma after a comma or at the beginning.
std::string tidy(std::string_view text) {
  std::string out;
  bool space = false;
  for (std::size_t at = 0; at < text.size();) {
    const Character character = character_at(text, at);
    const std::string_view bytes = text.substr(at, character.length);
    at += character.length;
    if (is_space(character.code)) {
      space = true;
      continue;
    }
    if (bytes == "," && (out.empty() || out.back() == ',')) continue;
    if (space && !out.empty() && bytes != ",") out += ' ';
    space = false;
    out += bytes;
  }
  return out;
}

}  // namespace

LiftedQuery lift(std::string_view query) {
  LiftedQuery lifted;
  lifted.original = query;
  lifted.cleaned = tidy(query.size() <= kLongest ? clean(query, &lifted.items, 0) : query);
  return lifted;
}

std::string continue_verbatim(const LiftedQuery& query, std::string_view continuation) {
  std::string text = query.original;
  if (continuation.empty()) return text;
  const Character last = last_character(text), first = character_at(continuation, 0);
  if (is_space(last.code) || text.empty()) {
    while (!continuation.empty() && is_space(character_at(continuation, 0).code)) {
      continuation.remove_prefix(character_at(continuation, 0).length);
    }
  } else if (is_visible_content(first.code) &&
             (is_word_character(last.code) || !query.cleaned.ends_with(text.back()))) {
    // The model went on from the cleaned query, which ends in something else: "a cat,<lora:x>" + "oil".
    text += ' ';
  }
  text += continuation;
  return text;
}

std::string restore_items(const LiftedQuery& query, std::string_view text) {
  // The text in parts: what the model wrote, and items that were put into it.
  struct Part {
    std::string text;
    bool item;
  };
  std::vector<Part> parts = {{std::string(trim(text)), false}};
  for (const LiftedItem& item : query.items) {
    bool placed = false;
    const Bans words({item.words});
    for (std::size_t i = 0; i < parts.size() && !placed && !words.empty(); ++i) {
      if (parts[i].item) continue;
      const auto match = words.find(parts[i].text, 0, true);
      if (!match) continue;
      const std::string whole = parts[i].text;
      parts[i].text = whole.substr(0, match->begin);
      parts.insert(parts.begin() + static_cast<std::ptrdiff_t>(i) + 1,
                   {{item.bytes, true}, {whole.substr(match->end), false}});
      placed = true;
    }
    if (placed) continue;
    const bool starts = parts.size() == 1 && parts[0].text.empty();
    // Words join the list of segments; tags stand by themselves.
    if (!starts) parts.push_back({words.empty() ? " " : ", ", true});
    parts.push_back({item.bytes, true});
  }
  std::string out;
  for (const Part& part : parts) out += part.text;
  return out;
}

}  // namespace unfurl::train
