// A model and a tokenizer small enough to know what they do: what may follow is a rule written in the test.
#pragma once
#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <map>
#include <stdexcept>
#include <string>
#include <vector>

#include "core/error.h"
#include "train/generate/codec.h"
#include "train/generate/language_model.h"

namespace unfurl::tests {

/// Pieces: 0 <eos>, 1 <sep>, 2 <FLV>, 3 <MSTP>, the 256 bytes, then the words given. Text is cut greedily into the
/// longest pieces, opened by a space, as the real tokenizer does.
class FakeCodec : public train::Codec {
 public:
  static constexpr std::int32_t kEos = 0, kSep = 1, kFlv = 2, kMstp = 3, kBytes = 4, kWords = 260;

  explicit FakeCodec(std::vector<std::string> words) : words_(std::move(words)) {}

  Index size() const override { return kWords + static_cast<Index>(words_.size()); }
  std::int32_t eos() const override { return kEos; }
  bool is_control(std::int32_t piece) const override { return piece < kBytes; }
  std::string bytes(std::int32_t piece) const override {
    if (piece < kBytes) return "";
    if (piece < kWords) return std::string(1, static_cast<char>(piece - kBytes));
    return words_.at(static_cast<std::size_t>(piece - kWords));
  }
  std::vector<std::int32_t> encode(std::string_view text) const override {
    std::vector<std::int32_t> pieces;
    const std::string opened = " " + std::string(text);
    for (std::size_t at = 0; at < opened.size();) {
      std::int32_t best = byte(opened[at]);
      std::size_t length = 1;
      for (std::size_t i = 0; i < words_.size(); ++i) {
        if (words_[i].size() > length && opened.compare(at, words_[i].size(), words_[i]) == 0) {
          best = kWords + static_cast<std::int32_t>(i);
          length = words_[i].size();
        }
      }
      pieces.push_back(best);
      at += length;
    }
    return pieces;
  }
  train::Condition condition(std::string_view query, std::string_view prefix) const override {
    train::Condition condition;
    if (prefix == "FLV") condition.tokens.push_back(kFlv);
    if (prefix == "MSTP") condition.tokens.push_back(kMstp);
    for (const std::int32_t piece : encode(query)) condition.tokens.push_back(piece);
    condition.tokens.push_back(kSep);
    condition.prefix_length = static_cast<Index>(condition.tokens.size());
    return condition;
  }
  std::vector<std::string> prefixes() const override { return {"FLV", "MSTP"}; }

  static std::int32_t byte(char c) { return kBytes + static_cast<unsigned char>(c); }
  /// The number of a word's piece.
  std::int32_t id(const std::string& word) const {
    const auto found = std::find(words_.begin(), words_.end(), word);
    if (found == words_.end()) throw std::runtime_error("no piece " + word);
    return kWords + static_cast<std::int32_t>(found - words_.begin());
  }

 private:
  std::vector<std::string> words_;
};

/// What may follow is a function of all the tokens before it. Throws where it is not called as
/// train/generate/language_model.h says.
class FakeModel : public train::LanguageModel {
 public:
  using Weights = std::map<std::int32_t, double>;  // of the pieces that may follow; all others weigh nothing
  using Rule = std::function<Weights(const std::vector<std::int32_t>& tokens)>;

  FakeModel(Index vocab_size, Index context, Rule rule)
      : vocab_size_(vocab_size), context_(context), rule_(std::move(rule)) {}

  Index vocab_size() const override { return vocab_size_; }
  Index context() const override { return context_; }

  void prefill(std::span<const std::int32_t> shared, Index prefix_length) override {
    require(!shared.empty() && prefix_length >= 0 && prefix_length <= static_cast<Index>(shared.size()), "prefill");
    shared_.assign(shared.begin(), shared.end());
    prefix_length_ = prefix_length;
    rows_.clear();
    ++prefills;
  }
  void fork(Index rows, Index capacity) override {
    require(rows >= 1 && rows <= train::kMaxRows && capacity >= 1, "fork");
    require(static_cast<Index>(shared_.size()) + capacity <= context_, "fork: over the context");
    rows_.assign(static_cast<std::size_t>(rows), {});
    capacity_ = capacity;
    fill();
  }
  void step(std::span<const std::int32_t> tokens) override {
    require(tokens.size() == rows_.size(), "step: {} tokens for {} rows", tokens.size(), rows_.size());
    for (std::size_t r = 0; r < rows_.size(); ++r) {
      rows_[r].push_back(tokens[r]);
      require(static_cast<Index>(rows_[r].size()) <= capacity_, "step: over the capacity");
    }
    ++steps;
    fill();
  }
  kernels::Matrix<const float> logits() const override { return {logits_.data(), vocab_size_}; }
  void truncate(Index row, Index own_length) override {
    auto& tokens = rows_.at(static_cast<std::size_t>(row));
    require(own_length >= 0 && own_length <= static_cast<Index>(tokens.size()), "truncate");
    tokens.resize(static_cast<std::size_t>(own_length));
    // Its logits are gone: who reads them all the same shall notice.
    std::fill_n(logits_.begin() + row * vocab_size_, vocab_size_, std::nanf(""));
    ++truncates;
  }
  void keep(std::span<const Index> rows) override {
    std::vector<std::vector<std::int32_t>> kept;
    std::vector<float> logits;
    Index last = -1;
    for (const Index row : rows) {
      require(row > last && row < static_cast<Index>(rows_.size()), "keep");
      last = row;
      kept.push_back(rows_[static_cast<std::size_t>(row)]);
      logits.insert(logits.end(), logits_.begin() + row * vocab_size_, logits_.begin() + (row + 1) * vocab_size_);
    }
    rows_ = std::move(kept);
    logits_ = std::move(logits);
  }

  const std::vector<std::int32_t>& shared() const { return shared_; }
  Index prefix_length() const { return prefix_length_; }
  int prefills = 0, steps = 0, truncates = 0;

 private:
  void fill() {
    logits_.assign(rows_.size() * static_cast<std::size_t>(vocab_size_), -std::numeric_limits<float>::infinity());
    for (std::size_t r = 0; r < rows_.size(); ++r) {
      std::vector<std::int32_t> tokens = shared_;
      tokens.insert(tokens.end(), rows_[r].begin(), rows_[r].end());
      for (const auto& [piece, weight] : rule_(tokens)) {
        logits_[r * static_cast<std::size_t>(vocab_size_) + static_cast<std::size_t>(piece)] =
            static_cast<float>(std::log(weight));
      }
    }
  }

  Index vocab_size_, context_;
  Rule rule_;
  std::vector<std::int32_t> shared_;
  Index prefix_length_ = 0, capacity_ = 0;
  std::vector<std::vector<std::int32_t>> rows_;
  std::vector<float> logits_;
};

inline std::vector<std::string> fake_words() {
  return {" oil",  " painting", " by",  " greg", " rut",  "kowski", " artist", " art",    "ist",  "s",      ",",
          " soft", " light",    " sky", " sun",  " dawn", " fog",   " cat",    " castle", " red", " stone", " a"};
}

/// Prompts of a kind: after a comma or the start any word; after a word mostly a comma or another word; ends now and
/// then. " greg" is often followed by " rut" "kowski", " art" by "ist".
inline FakeModel::Rule fake_rule(const FakeCodec& codec) {
  return [&codec](const std::vector<std::int32_t>& tokens) {
    FakeModel::Weights weights;
    const std::string last = codec.bytes(tokens.back());
    const auto add = [&](const char* word, double weight) { weights[codec.id(word)] = weight; };
    if (last == " rut") {
      add("kowski", 20);
      add("s", 1);
    } else if (last == " greg") {
      add(" rut", 10);
      add(",", 1);
    } else if (last == " art") {
      add("ist", 2);
      add("s", 1);
      add(",", 4);
    } else if (last == " by") {
      add(" greg", 5);
      add(" a", 1);
    } else if (last == "," || last.empty()) {
      for (const char* word : {" oil", " soft", " sky", " dawn", " fog", " art", " red", " by"}) add(word, 1);
    } else {
      for (const char* word : {" painting", " light", " sun", " stone", " castle"}) add(word, 1);
      add(",", 4);
      weights[FakeCodec::kEos] = 2;
    }
    return weights;
  };
}

}  // namespace unfurl::tests
