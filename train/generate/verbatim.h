// What a user writes into a query for the image generator rather than for the model: LoRA tags, weights, wildcards. It
// is lifted out before the model reads the query, and stands in the answer byte for byte.
//
//   in the query                                what the model reads
//   <lora:name:0.8>, <hypernet:...>             nothing
//   embedding:name                              nothing
//   BREAK                                       nothing
//   (word:1.3), ((word)), [word], {word}        word
//   [from:to:0.5], [a|b]                        from; a
//   {a|b}, {2$$a|b}, {0.5::a|b}                 a
//   __hair-color__                              hair color
//   \(botw\)                                    (botw)
//
// Brackets nest. A bracket without its partner is text like any other.
#pragma once
#include <string>
#include <string_view>
#include <vector>

namespace unfurl::train {

struct LiftedItem {
  std::string bytes;  // as the user wrote it
  std::string words;  // what the model reads in its place; empty for tags
};

struct LiftedQuery {
  std::string original;
  std::string cleaned;  // what the model reads: items replaced by their words, one space between words
  std::vector<LiftedItem> items;
};

LiftedQuery lift(std::string_view query);

/// The query byte for byte and then what the model wrote after it, with the space between them that neither has.
std::string continue_verbatim(const LiftedQuery& query, std::string_view continuation);

/// A text that the model wrote freely, with every item of the query in it byte for byte: in the place of its words
/// where the text has them, else at the end.
std::string restore_items(const LiftedQuery& query, std::string_view text);

}  // namespace unfurl::train
