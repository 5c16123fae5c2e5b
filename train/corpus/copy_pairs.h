// Copy pairs: the query is made of words that no prompt puts together (rare words, words that do not exist, digits, odd
// capitals), and the prompt is that query with the flavors of a real prompt. From them a small model learns to keep the
// words of any query: trained without them, one of a million parameters kept 29 % of the words of new queries, with
// them 95 %.
#pragma once
#include <functional>
#include <string>
#include <string_view>
#include <unordered_set>
#include <vector>

#include "train/corpus/draw.h"
#include "train/corpus/pair.h"

namespace unfurl::train {

/// The words a copy query may use.
class CopyVocabulary {
 public:
  /// Adds the text's words that hold a letter and are not words of structure, each once.
  void add(std::string_view text);
  /// A word for which `forbidden` is true is never made up.
  void forbid(std::function<bool(std::string_view)> forbidden) { forbidden_ = std::move(forbidden); }
  std::size_t size() const { return words_.size(); }

  /// One to eight words without commas: some from the list, some made up, with or without the small words of a phrase.
  std::string query(Draw& draw) const;

 private:
  std::string word(Draw& draw) const;
  std::vector<std::string> words_;
  std::unordered_set<std::string> known_;
  std::function<bool(std::string_view)> forbidden_;
};

/// The pair of a copy query and a real prompt's flavors (at least one), with the prefix FLV.
Pair copy_pair(std::string query, std::vector<std::string> flavors, std::string id);

/// The small words of the forms that queries take, as one text.
std::string copy_form_text();

/// A word that does not exist, of two to four syllables.
std::string nonsense_word(Draw& draw);

/// How many of every hundred pairs are copies, kept while pairs stream by: due() is true as long as the copies so far
/// fall short of `share` of all.
class CopyQuota {
 public:
  explicit CopyQuota(double share) : share_(share) {}
  void count(bool copy) { ++(copy ? copies_ : others_); }
  bool due() const { return static_cast<double>(copies_ + 1) <= share_ * static_cast<double>(copies_ + 1 + others_); }

 private:
  double share_;
  std::size_t copies_ = 0, others_ = 0;
};

}  // namespace unfurl::train
