#include "train/data/segment.h"

#include <algorithm>
#include <cmath>
#include <queue>

namespace unfurl::train {
namespace {

/// What SentencePiece takes off the lowest score for a character that has no piece.
constexpr float kUnknownPenalty = 10;

std::size_t character_length(std::string_view text, std::size_t at) {
  const auto first = static_cast<unsigned char>(text[at]);
  const std::size_t length = first < 0x80 ? 1 : first < 0xE0 ? 2 : first < 0xF0 ? 3 : 4;
  return std::min(length, text.size() - at);
}

template <class Visit>
void for_each_word(std::string_view text, const Visit& visit) {
  for (std::size_t begin = 0; begin < text.size();) {
    const std::size_t end = std::min(text.find(' ', begin + 1), text.size());
    visit(text.substr(begin, end - begin));
    begin = end;
  }
}

}  // namespace

void Segmenter::add(std::string_view bytes, std::int32_t id, float score) {
  pieces_.emplace(bytes, Piece{id, score});
  longest_ = std::max(longest_, bytes.size());
  lowest_ = std::min(lowest_, score);
}

const Segmenter::Piece* Segmenter::find(std::string_view bytes) const {
  if (bytes.size() > longest_) return nullptr;
  const auto found = pieces_.find(bytes);
  return found == pieces_.end() ? nullptr : &found->second;
}

void Segmenter::append_bytes(std::string_view bytes, std::vector<std::int32_t>& out) {
  for (const char byte : bytes) out.push_back(-1 - static_cast<unsigned char>(byte));
}

void Segmenter::merge(std::string_view text, double dropout, Draws& draws, std::vector<std::int32_t>& out) const {
  for_each_word(text, [&](std::string_view word) { merge_word(word, dropout, draws, out); });
}

void Segmenter::sample(std::string_view text, double power, Draws& draws, std::vector<std::int32_t>& out) const {
  for_each_word(text, [&](std::string_view word) { sample_word(word, power, draws, out); });
}

void Segmenter::merge_word(std::string_view word, double dropout, Draws& draws, std::vector<std::int32_t>& out) const {
  // Symbols are a linked list over the word; one that was merged into its left neighbour has no bytes left.
  struct Symbol {
    std::size_t begin, size;
    int previous, next;
  };
  struct Candidate {
    float score;
    int left, right;
    std::size_t size;  // of both when it was found: a stale candidate no longer fits
  };
  struct Later {
    bool operator()(const Candidate& a, const Candidate& b) const {
      return a.score < b.score || (a.score == b.score && a.left > b.left);
    }
  };
  std::vector<Symbol> symbols;
  for (std::size_t at = 0; at < word.size();) {
    const std::size_t size = character_length(word, at);
    const int i = static_cast<int>(symbols.size());
    symbols.push_back({at, size, i - 1, i + 1});
    at += size;
  }
  symbols.back().next = -1;

  std::priority_queue<Candidate, std::vector<Candidate>, Later> agenda;
  const auto consider = [&](int left, int right) {
    if (left < 0 || right < 0) return;
    const Symbol& a = symbols[static_cast<std::size_t>(left)];
    const std::size_t size = a.size + symbols[static_cast<std::size_t>(right)].size;
    if (const Piece* piece = find(word.substr(a.begin, size))) agenda.push({piece->score, left, right, size});
  };
  for (int i = 1; i < static_cast<int>(symbols.size()); ++i) consider(i - 1, i);
  while (!agenda.empty()) {
    const Candidate best = agenda.top();
    agenda.pop();
    Symbol& left = symbols[static_cast<std::size_t>(best.left)];
    Symbol& right = symbols[static_cast<std::size_t>(best.right)];
    if (left.size == 0 || right.size == 0 || left.size + right.size != best.size) continue;
    if (dropout > 0 && draws.next() < dropout) continue;
    left.size = best.size;
    left.next = right.next;
    right.size = 0;
    if (left.next >= 0) symbols[static_cast<std::size_t>(left.next)].previous = best.left;
    consider(left.previous, best.left);
    consider(best.left, left.next);
  }
  for (int i = 0; i >= 0; i = symbols[static_cast<std::size_t>(i)].next) {
    const Symbol& symbol = symbols[static_cast<std::size_t>(i)];
    const std::string_view bytes = word.substr(symbol.begin, symbol.size);
    if (const Piece* piece = find(bytes)) {
      out.push_back(piece->id);
    } else {
      append_bytes(bytes, out);
    }
  }
}

void Segmenter::sample_word(std::string_view word, double power, Draws& draws, std::vector<std::int32_t>& out) const {
  // Forward: total[e] = log of the summed weights of all segmentations of word[0, e). Then a path is drawn from the
  // end.
  struct Edge {
    std::size_t begin;
    std::int32_t id;  // -1: a character without a piece
    double weight;    // log
  };
  const double none = -std::numeric_limits<double>::infinity();
  std::vector<double> total(word.size() + 1, none);
  std::vector<std::vector<Edge>> edges(word.size() + 1);  // by their end
  total[0] = 0;
  for (std::size_t begin = 0; begin < word.size();) {
    const std::size_t first = character_length(word, begin);
    for (std::size_t end = begin + first; end - begin <= longest_; end += character_length(word, end)) {
      const Piece* piece = find(word.substr(begin, end - begin));
      if (piece != nullptr) edges[end].push_back({begin, piece->id, piece->score * power});
      if (piece == nullptr && end == begin + first) {
        edges[end].push_back({begin, -1, (lowest_ - kUnknownPenalty) * power});
      }
      if (end == word.size()) break;
    }
    if (first > longest_) edges[begin + first].push_back({begin, -1, (lowest_ - kUnknownPenalty) * power});
    begin += first;
    double most = none;
    for (const Edge& edge : edges[begin]) most = std::max(most, total[edge.begin] + edge.weight);
    double sum = 0;
    for (const Edge& edge : edges[begin]) sum += std::exp(total[edge.begin] + edge.weight - most);
    total[begin] = most + std::log(sum);
  }
  std::vector<std::pair<std::size_t, const Edge*>> path;
  for (std::size_t end = word.size(); end > 0;) {
    const std::vector<Edge>& choices = edges[end];
    double left = draws.next();
    const Edge* chosen = &choices.back();
    for (const Edge& edge : choices) {
      left -= std::exp(total[edge.begin] + edge.weight - total[end]);
      if (left < 0) {
        chosen = &edge;
        break;
      }
    }
    path.emplace_back(end, chosen);
    end = chosen->begin;
  }
  for (auto step = path.rbegin(); step != path.rend(); ++step) {
    const auto& [end, edge] = *step;
    if (edge->id >= 0) {
      out.push_back(edge->id);
    } else {
      append_bytes(word.substr(edge->begin, end - edge->begin), out);
    }
  }
}

}  // namespace unfurl::train
