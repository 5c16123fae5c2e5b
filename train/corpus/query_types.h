// The types of query that a prompt is asked for, and what a query of each may look like.
#pragma once
#include <array>
#include <string>
#include <string_view>
#include <vector>

namespace unfurl::train {

struct QueryType {
  std::string_view name;
  std::string_view prefix;       // of its pairs; "" for none
  std::size_t max_words;         // of a query
  bool successive;               // made of the query before it and shorter; else of the prompt
  bool says_content;             // shares a word with the prompt
  std::string_view instruction;  // to a language model
};

/// The successive ones in their order: each is shorter and more abstract than the last.
inline constexpr std::array<QueryType, 7> kQueryTypes = {{
    {"long", "", 30, true, true, "Keep what is seen and some of the style. Leave out about half of the words."},
    {"medium", "", 20, true, true, "Keep what is seen and one remark on the style."},
    {"concrete", "", 14, true, true, "Keep only what is seen, no style, no artists, no words on quality."},
    {"short", "DTL", 6, true, true, "Name the main thing that is seen, in two to five words."},
    {"abstract", "ABST", 4, true, false, "Name the idea or the feeling behind it, in one to three words."},
    {"grounded", "GRD", 15, false, true, "Keep only the main thing and the place, time or facts that are named."},
    {"specificity", "SPCT", 5, false, false,
     "Say in general what it is one of, so that it is open which one is meant."},
}};

/// Null where there is none of that name.
const QueryType* find_query_type(std::string_view name);

/// A language model's answer without quotes, a label ("Query:", "Prompt:"), a last full stop and the model's thoughts
/// ("<think>...").
std::string cleaned_answer(std::string_view answer);
/// True for an answer that begins as refusals do.
bool is_refusal(std::string_view answer);

/// A language model's answer as a query.
struct CheckedQuery {
  std::string text;
  std::string_view fault;  // why it is none; "" where it is one
};

/// Takes off quotes, a label ("Query:") and a model's thoughts ("<think>..."). Faults: "empty", "a refusal", "prose",
/// "too long", "not shorter" (than `previous`, in words, or of as many in letters), "unrelated" (no word of the
/// prompt).
CheckedQuery check_query(std::string_view answer, const QueryType& type, std::string_view prompt,
                         std::string_view previous);

}  // namespace unfurl::train
