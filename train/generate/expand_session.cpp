#include "train/generate/expand_session.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <istream>
#include <optional>
#include <ostream>
#include <string>

#include "core/error.h"
#include "train/corpus/text.h"

namespace unfurl::train {
namespace {

constexpr std::string_view kHelp =
    "a query            its expansions\n"
    "a number           expands that expansion further\n"
    ":more, empty line  other expansions of the same query\n"
    ":n 6               so many expansions\n"
    ":diverse 16        draws so many and shows those that differ most; 0: no more than are shown\n"
    ":steps 2           expands each expansion further, so many times in all\n"
    ":prefix FLV        how to expand; without a name: as the model thinks best\n"
    ":seed 7            the same seed gives the same expansions\n"
    ":temperature 0.9   higher is more daring\n"
    ":words 40          at most so many words; 0: any number\n"
    ":keep free         the model may rewrite the query; \":keep verbatim\": it may not\n"
    ":ban PHRASE        never generated; without a phrase: bans are lifted\n"
    ":help, :q\n";

template <class Number>
Number parse(std::string_view name, std::string_view text) {
  Number value{};
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc{} || end != text.data() + text.size()) user_error("{} takes a number, not \"{}\"", name, text);
  return value;
}

bool all_digits(std::string_view text) {
  return !text.empty() && std::all_of(text.begin(), text.end(), [](char c) { return c >= '0' && c <= '9'; });
}

class Session {
 public:
  Session(Expander& expander, ExpandSettings settings, std::ostream& out)
      : expander_(expander), settings_(std::move(settings)), out_(out) {}

  /// One line; false where it ends the session.
  bool take(std::string_view line) {
    const std::string_view text = trim(line);
    if (text == ":q" || text == ":quit" || text == ":exit") return false;
    if (text.empty() || text == ":more") {
      if (query_.empty()) user_error("type a query, or :help");
      ++settings_.seed;
      expand();
    } else if (text[0] == ':') {
      command(text);
    } else if (all_digits(text) && !last_.items.empty()) {
      const std::size_t number = text.size() < 9 ? parse<std::size_t>("a pick", text) : 0;
      if (number < 1 || number > last_.items.size()) {
        user_error("there is no expansion {}: pick 1 to {}, or type a query", text, last_.items.size());
      }
      query_ = last_.items[number - 1].text;
      further_ = true;
      expand();
    } else {
      query_ = text;
      further_ = false;
      expand();
    }
    return true;
  }

 private:
  void expand() {
    last_ = {};
    ExpandSettings settings = settings_;
    if (further_ && settings.prefix.empty()) settings.prefix = settings.step_prefix;
    last_ = expand_or_return(expander_, query_, settings);
    for (std::size_t i = 0; i < last_.items.size(); ++i) out_ << i + 1 << ". " << last_.items[i].text << '\n';
    for (const std::string& warning : last_.warnings) out_ << "(" << warning << ")\n";
    out_ << "(seed " << settings_.seed << ")\n";
  }

  void command(std::string_view text) {
    const std::size_t space = std::min(text.find(' '), text.size());
    const std::string_view name = text.substr(0, space), value = trim(text.substr(space));
    if (name == ":help") {
      out_ << kHelp;
      return;
    }
    ExpandSettings changed = settings_;
    if (name == ":n") {
      changed.count = parse<Index>(name, value);
    } else if (name == ":diverse") {
      changed.diverse = parse<Index>(name, value);
    } else if (name == ":steps") {
      changed.steps = parse<Index>(name, value);
    } else if (name == ":prefix") {
      changed.prefix = value;
      expander_.check_prefix(changed.prefix);
    } else if (name == ":seed") {
      const Index seed = parse<Index>(name, value);
      if (seed < 0) user_error("{} takes a number from 0 on, not {}", name, value);
      changed.seed = static_cast<std::uint64_t>(seed);
    } else if (name == ":temperature") {
      changed.sampling.temperature = parse<float>(name, value);
    } else if (name == ":words") {
      changed.max_words = parse<Index>(name, value);
    } else if (name == ":keep") {
      changed.keep = parse_keep(value);
    } else if (name == ":ban") {
      std::vector<std::string> phrases;
      if (!value.empty()) {
        phrases = changed.bans.phrases();
        for (std::string& phrase : Bans::read(std::string(value))) phrases.push_back(std::move(phrase));
      }
      changed.bans = Bans(std::move(phrases));
    } else {
      user_error("there is no {}; :help lists what there is", name);
    }
    check(changed);
    settings_ = std::move(changed);
  }

  Expander& expander_;
  ExpandSettings settings_;
  std::ostream& out_;
  std::string query_;
  bool further_ = false;  // the query is an expansion
  Expansions last_;
};

}  // namespace

int run_session(Expander& expander, const ExpandSettings& settings, std::istream& in, std::ostream& out,
                bool terminal) {
  Session session(expander, settings, out);
  if (terminal) out << "Type a query; a number expands that expansion further; :help, :q\n";
  for (std::string line;;) {
    if (terminal) out << "> ";
    out << std::flush;
    if (!out) return 1;
    if (!std::getline(in, line)) {
      if (terminal) out << '\n' << std::flush;
      break;
    }
    try {
      if (!session.take(line)) break;
    } catch (const std::exception& error) {
      out << "(" << error.what() << ")\n";
    }
  }
  return 0;
}

}  // namespace unfurl::train
