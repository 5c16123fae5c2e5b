#include "train/generate/decode.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>

#include "core/error.h"
#include "core/random.h"
#include "train/generate/characters.h"
#include "train/generate/cut.h"
#include "train/generate/repeats.h"

namespace unfurl::train {
namespace {

constexpr float kNever = -std::numeric_limits<float>::infinity();
constexpr Index kMaxReturns = 64;  // how often bans may send a row back before it is cut

/// One sequence that is being drawn.
struct Row {
  Draw draw;
  std::string text;                  // opening and what was drawn
  std::vector<std::int32_t> tokens;  // drawn
  std::vector<std::size_t> starts;   // where each token's bytes begin in text
  std::vector<double> log_probability;
  std::vector<std::vector<std::int32_t>> forbidden;  // at position i, tokens that led to a banned phrase
  Index fed = 0;                                     // tokens that the model has seen
  Index returns = 0;
  bool done = false;
  Continuation result;

  Index position() const { return static_cast<Index>(tokens.size()); }
};

class Decoder {
 public:
  Decoder(LanguageModel& model, const PieceTable& pieces, const DecodeSettings& settings, std::span<const Draw> draws)
      : model_(model),
        pieces_(pieces),
        settings_(settings),
        queue_(kernels::ThreadPool::global()),
        rows_(draws.size()) {
    for (std::size_t i = 0; i < draws.size(); ++i) {
      rows_[i].draw = draws[i];
      rows_[i].text = settings.opening;
    }
  }

  std::vector<Continuation> run() {
    const auto count = static_cast<Index>(rows_.size());
    model_.fork(count, settings_.max_tokens);
    if (DrawingModel* const drawing = model_.drawing(); drawing != nullptr && settings_.bans == nullptr) {
      draw_ahead(*drawing);
      return results();
    }
    const float* first = model_.logits().row(0);
    first_logits_.assign(first, first + pieces_.vocab_size());
    std::vector<Row*> open;
    for (Row& row : rows_) open.push_back(&row);
    draw(open, open);
    for (;;) {
      close_done(open);
      if (open.empty()) break;
      std::vector<std::int32_t> tokens;
      for (Row* row : open) tokens.push_back(row->tokens[static_cast<std::size_t>(row->fed++)]);
      model_.step(tokens);
      draw(open, open);
    }
    return results();
  }

 private:
  std::vector<Continuation> results() {
    std::vector<Continuation> out;
    for (Row& row : rows_) out.push_back(std::move(row.result));
    return out;
  }

  /// All rows to their ends by a model that draws by itself.
  void draw_ahead(DrawingModel& model) {
    std::vector<DrawStart> starts;
    for (const Row& row : rows_) {
      starts.push_back({pieces_.first_state(settings_.closed, row.draw.attempt == 0), random_index(row)});
    }
    model.begin_draws(pieces_.follows(), settings_.sampling, settings_.seed, starts);
    Index queued = 0;
    for (Index taken = 0; std::any_of(rows_.begin(), rows_.end(), [](const Row& row) { return !row.done; }); ++taken) {
      for (; queued <= taken + settings_.ahead && queued < settings_.max_tokens; ++queued) model.queue_draw();
      const std::vector<Drawn> drawn = model.take_draw();
      for (std::size_t r = 0; r < rows_.size(); ++r) {
        if (rows_[r].done) continue;
        require(drawn[r].token != kernels::kNotFinite, "the model's logits at position {} are not finite numbers",
                rows_[r].position());
        take(rows_[r], static_cast<Index>(r), drawn[r].token, drawn[r].log_probability);
      }
    }
  }

  /// Draws the next token of each of the `drawing` rows, all of them among the `open` ones.
  void draw(const std::vector<Row*>& open, std::vector<Row*> drawing) {
    const kernels::Matrix<const float> logits = model_.logits();
    const Index cols = pieces_.vocab_size();
    while (!drawing.empty()) {
      const auto count = static_cast<Index>(drawing.size());
      logits_.resize(static_cast<std::size_t>(count * cols));
      tokens_.resize(drawing.size());
      log_probability_.resize(drawing.size());
      uniforms_.resize(drawing.size());
      for (Index i = 0; i < count; ++i) {
        const Row& row = *drawing[static_cast<std::size_t>(i)];
        const auto slot = std::find(open.begin(), open.end(), &row) - open.begin();
        prepare(row, row.tokens.empty() ? first_logits_.data() : logits.row(slot), logits_.data() + i * cols);
        uniforms_[static_cast<std::size_t>(i)] = uniform_for(row);
      }
      kernels::sample<kernels::CpuQueue, float>(queue_, tokens_.data(), log_probability_.data(), {logits_.data(), cols},
                                                uniforms_.data(), settings_.sampling, count, cols);
      std::vector<Row*> again;
      for (std::size_t i = 0; i < drawing.size(); ++i) {
        Row& row = *drawing[i];
        const auto slot = static_cast<Index>(std::find(open.begin(), open.end(), &row) - open.begin());
        if (!take(row, slot, tokens_[i], log_probability_[i])) again.push_back(&row);
      }
      drawing = std::move(again);
    }
  }

  /// Of the row's random numbers, each by its position.
  static std::uint64_t random_index(const Row& row) {
    return static_cast<std::uint64_t>(row.draw.sample) | static_cast<std::uint64_t>(row.draw.attempt) << 32;
  }

  float uniform_for(const Row& row) const {
    const auto position = static_cast<std::size_t>(row.position());
    const std::uint64_t redraw = position < row.forbidden.size() ? row.forbidden[position].size() : 0;
    const std::uint64_t index = random_index(row) | redraw << 48;
    return uniform(philox(philox_key(settings_.seed, Purpose::sample, static_cast<std::uint32_t>(position)), index)[0]);
  }

  /// The logits with -infinity for what may not be drawn.
  void prepare(const Row& row, const float* from, float* to) const {
    const auto cols = static_cast<std::size_t>(pieces_.vocab_size());
    const std::string_view tail =
        std::string_view(row.text).substr(row.text.size() - incomplete_tail(row.text), std::string_view::npos);
    if (tail.empty()) {
      const bool first = row.tokens.empty();
      const float* mask = pieces_.mask(first && settings_.closed);
      bool finite = true;
      for (std::size_t i = 0; i < cols; ++i) {
        finite &= from[i] < std::numeric_limits<float>::infinity();  // false for NaN, too
        to[i] = from[i] + mask[i];
      }
      require(finite, "the model's logits at position {} are not finite numbers", row.position());
      const auto eos = static_cast<std::size_t>(pieces_.eos());
      if (!first || row.draw.attempt == 0) to[eos] = from[eos];
    } else {
      std::fill(to, to + cols, kNever);
      for (const std::int32_t piece : pieces_.continuing()) {
        const auto i = static_cast<std::size_t>(piece);
        if (valid_utf8_so_far(std::string(tail) + pieces_.bytes(piece))) to[i] = from[i];
      }
    }
    const auto position = static_cast<std::size_t>(row.position());
    if (position < row.forbidden.size()) {
      for (const std::int32_t piece : row.forbidden[position]) to[piece] = kNever;
    }
  }

  /// Adds a drawn token to its row. False where the row has to draw again before the model's next step.
  bool take(Row& row, Index slot, std::int32_t token, float log_probability) {
    if (token < 0) {
      finish(row, Stop::banned);
      return true;
    }
    const std::string_view opening = settings_.opening;
    row.tokens.push_back(token);
    row.starts.push_back(row.text.size());
    row.log_probability.push_back(log_probability);
    const bool ends = token == pieces_.eos();
    if (!ends) row.text += pieces_.bytes(token);
    if (settings_.bans != nullptr) {
      const std::size_t tail = incomplete_tail(row.text);
      const std::string_view whole = std::string_view(row.text).substr(0, row.text.size() - tail);
      const auto match = settings_.bans->find(whole, opening.size(), ends);
      if (match) return go_back(row, slot, *match);
    }
    if (ends) {
      finish(row, Stop::end);
    } else if (settings_.max_words > 0 &&
               count_words(std::string_view(row.text).substr(opening.size())) > settings_.max_words) {
      finish(row, Stop::max_words);
    } else if (row.position() >= settings_.max_tokens) {
      finish(row, settings_.max_tokens_is_context ? Stop::context : Stop::max_tokens);
    }
    return true;
  }

  /// Takes the row back to the token with which a banned phrase began, and forbids that token there.
  bool go_back(Row& row, Index slot, const Bans::Match& match) {
    std::size_t position = 0;
    while (position + 1 < row.starts.size() && row.starts[position + 1] <= match.begin) ++position;
    if (++row.returns > kMaxReturns) {
      finish(row, Stop::banned);
      return true;
    }
    const auto latest = static_cast<std::size_t>(row.fed);  // the position that the model's logits are for
    row.forbidden.resize(position + 1);
    row.forbidden[position].push_back(row.tokens[position]);
    row.text.resize(row.starts[position]);
    row.tokens.resize(position);
    row.starts.resize(position);
    row.log_probability.resize(position);
    if (position == latest) return false;  // the same logits, one token less
    if (position == 0) {                   // the first logits are kept
      model_.truncate(slot, 0);
      row.fed = 0;
      return false;
    }
    model_.truncate(slot, static_cast<Index>(position) - 1);
    row.fed = static_cast<Index>(position) - 1;  // the token before it is fed again, for its logits
    return true;
  }

  void finish(Row& row, Stop stop) {
    const std::size_t opening = settings_.opening.size();
    std::string text = std::move(row.text);
    text.resize(text.size() - incomplete_tail(text));
    if (stop != Stop::end) {
      text.resize(cut_to_words(text, opening, settings_.max_words, stop == Stop::max_words || stop == Stop::banned));
    }
    text.replace(opening, std::string::npos, without_repeats(settings_.read, std::string_view(text).substr(opening)));
    text.resize(cut_spaces(text, opening));
    if (settings_.bans != nullptr) {
      while (const auto match = settings_.bans->find(text, opening, true)) {
        stop = Stop::banned;
        text.resize(std::max(match->begin, opening));
        text.resize(cut_separators(text, opening));
      }
    }
    row.result.text = text.substr(opening);
    row.result.stop = stop;
    row.result.tokens = row.position();
    for (const double value : row.log_probability) row.result.log_probability += value;
    row.done = true;
  }

  /// Drops finished rows, so that the model's next step is for the others alone.
  void close_done(std::vector<Row*>& open) {
    std::vector<Index> kept;
    std::vector<Row*> rest;
    for (std::size_t i = 0; i < open.size(); ++i) {
      if (open[i]->done) continue;
      kept.push_back(static_cast<Index>(i));
      rest.push_back(open[i]);
    }
    if (!kept.empty() && kept.size() < open.size()) model_.keep(kept);
    open = std::move(rest);
  }

  LanguageModel& model_;
  const PieceTable& pieces_;
  const DecodeSettings& settings_;
  kernels::CpuQueue queue_;
  std::vector<Row> rows_;
  std::vector<float> first_logits_, logits_, log_probability_, uniforms_;
  std::vector<std::int32_t> tokens_;
};

}  // namespace

const char* stop_name(Stop stop) {
  switch (stop) {
    case Stop::end:
      return "end";
    case Stop::max_tokens:
      return "max_tokens";
    case Stop::max_words:
      return "max_words";
    case Stop::context:
      return "context";
    case Stop::banned:
      return "banned";
    case Stop::not_expanded:
      return "not_expanded";
  }
  return "";
}

PieceTable::PieceTable(const Codec& codec, Index vocab_size) : eos_(codec.eos()) {
  require(codec.size() <= vocab_size && eos_ >= 0 && eos_ < codec.size(),
          "the model has {} pieces, its tokenizer {}: they do not belong together", vocab_size, codec.size());
  const auto count = static_cast<std::size_t>(vocab_size);
  pieces_.resize(count);
  mask_.assign(count, kNever);
  closed_mask_.assign(count, kNever);
  for (std::int32_t piece = 0; piece < static_cast<std::int32_t>(codec.size()); ++piece) {
    const auto i = static_cast<std::size_t>(piece);
    if (codec.is_control(piece)) continue;
    pieces_[i] = codec.bytes(piece);
    const std::string& bytes = pieces_[i];
    const bool junk = std::any_of(bytes.begin(), bytes.end(),
                                  [](char c) { return static_cast<unsigned char>(c) < 0x20 || c == 0x7F; });
    if (bytes.empty() || junk) continue;
    if ((static_cast<unsigned char>(bytes[0]) & 0xC0) == 0x80) continuing_.push_back(piece);
    if (!valid_utf8_so_far(bytes)) continue;
    mask_[i] = 0;
    // A character cut in two may turn out to be a letter.
    const char32_t code = character_at(bytes, 0).code;
    const bool joins = is_word_character(code) || code == 0xFFFD || fold(code) == '-' || fold(code) == '\'';
    if (!joins) closed_mask_[i] = 0;
  }
  make_follows();
}

/// States are the ways in which a text can end within a character (none: state 0), what may begin a text, and that it
/// has ended. Two ends that the same bytes complete are one state.
void PieceTable::make_follows() {
  const auto count = pieces_.size();
  std::vector<std::string> tails = {""};       // of each state
  std::map<std::string, std::uint8_t> states;  // by what may complete the tail
  // The bytes that may come next, and how many more: of those behind the next, any of the right kind will do.
  const auto completions = [](std::string tail) {
    std::string bytes;
    for (int byte = 0x80; byte < 0xC0; ++byte) {
      if (valid_utf8_so_far(tail + static_cast<char>(byte))) bytes += static_cast<char>(byte);
    }
    while (!bytes.empty() && incomplete_tail(tail) > 0) {
      tail += bytes[0];
      bytes += "+";
    }
    return bytes;
  };
  const auto state_of = [&](const std::string& text) -> std::uint8_t {
    const std::string tail = text.substr(text.size() - incomplete_tail(text));
    if (tail.empty()) return 0;
    const auto [at, is_new] = states.try_emplace(completions(tail), static_cast<std::uint8_t>(tails.size()));
    if (is_new) tails.push_back(tail);
    return at->second;
  };
  follows_.vocab_size = vocab_size();
  std::vector<std::uint8_t>& next = follows_.next;
  for (std::size_t state = 0; state < tails.size(); ++state) {  // more come up on the way
    next.resize((state + 1) * count, kernels::kNeverFollows);
    const std::string tail = tails[state];
    const auto set = [&](std::size_t piece) { next[state * count + piece] = state_of(tail + pieces_[piece]); };
    if (tail.empty()) {
      for (std::size_t piece = 0; piece < count; ++piece) {
        if (mask_[piece] == 0) set(piece);
      }
    } else {
      for (const std::int32_t piece : continuing_) {
        if (valid_utf8_so_far(tail + pieces_[static_cast<std::size_t>(piece)])) set(static_cast<std::size_t>(piece));
      }
    }
  }
  const auto eos = static_cast<std::size_t>(eos_);
  const std::size_t ended = tails.size();
  const auto first = [&](bool closed, bool ends) {
    const std::size_t state = next.size() / count;
    for (std::size_t piece = 0; piece < count; ++piece) {
      next.push_back(mask(closed)[piece] == 0 ? next[piece] : kernels::kNeverFollows);
    }
    if (ends) next[state * count + eos] = static_cast<std::uint8_t>(ended);
    first_states_[closed ? 1 : 0][ends ? 1 : 0] = static_cast<std::uint8_t>(state);
  };
  next.resize((ended + 1) * count, kernels::kNeverFollows);
  next[ended * count + eos] = static_cast<std::uint8_t>(ended);
  for (const bool closed : {false, true}) {
    for (const bool ends : {false, true}) first(closed, ends);
  }
  next[eos] = static_cast<std::uint8_t>(ended);
}

std::vector<Continuation> decode(LanguageModel& model, const PieceTable& pieces, const DecodeSettings& settings,
                                 std::span<const Draw> draws) {
  require(!draws.empty() && static_cast<Index>(draws.size()) <= kMaxRows, "decode: 1 to {} rows at once, not {}",
          kMaxRows, draws.size());
  require(settings.max_tokens >= 1, "decode: max_tokens must be at least 1, not {}", settings.max_tokens);
  return Decoder(model, pieces, settings, draws).run();
}

}  // namespace unfurl::train
