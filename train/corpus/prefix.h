// The eight prefixes by which a query says how it wants to be expanded, and that training pairs are labelled with.
#pragma once
#include <array>
#include <cstddef>
#include <string_view>

namespace unfurl::train {

struct Prefix {
  std::string_view name;
  std::string_view meaning;
};

/// The order is part of the tokenizer's file format: piece numbers follow it.
inline constexpr std::array<Prefix, 8> kPrefixes = {{
    {"ABST", "the query is abstract: varied concrete scenes"},
    {"DTL", "the prompt adds detail to the query's content"},
    {"GRD", "the prompt stays grounded in what the query says: place, time, facts"},
    {"SPCT", "the query leaves open what exactly is meant: the prompt makes it specific"},
    {"FLV", "the prompt adds flavors only: the content stays as it is"},
    {"HAST", "highly aesthetic images"},
    {"RFT", "from the re-fine-tune set: the model's own expansions that scored well"},
    {"MSTP", "a further step from a prompt that was expanded before"},
}};

/// True for one of the eight names, in capitals.
bool is_prefix(std::string_view name);

/// The place of `name` in kPrefixes. Throws UserError that lists the eight and suggests the nearest.
std::size_t require_prefix(std::string_view name);

}  // namespace unfurl::train
