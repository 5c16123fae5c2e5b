// Spacing artefacts of prompt collections that were tokenised and joined again: "8 k", "sci - fi", "1 9 8 5", "( moss
// )".
#pragma once
#include <string>
#include <string_view>

namespace unfurl::train {

/// Mends spacing and nothing else; letters keep their case. In order:
/// - white space of any kind and the wide comma become one space, and ", "; blank segments go;
/// - digits standing alone in a row join ("1 9 8 5" -> "1985"), and a unit k, d or s joins them ("8 k", "3 d", "8 0
/// s");
/// - a lone hyphen between letters or digits joins them ("sci - fi" -> "sci-fi"), a lone apostrophe its ending
///   ("king ' s" -> "king's");
/// - no space after "(", "[", "{", "#", and none before ")", "]", "}", ",", ".", "!", "?", ";", ":".
/// Applied twice it does what it does once.
std::string normalize_spacing(std::string_view text);

}  // namespace unfurl::train
