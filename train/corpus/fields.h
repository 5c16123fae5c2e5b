// Members of the JSON objects that corpus files hold, one a line. The functions throw Error that says what is wrong,
// without the file and the line, which the caller knows.
#pragma once
#include <string>
#include <string_view>

#include "core/json.h"

namespace unfurl::train {

/// Throws Error: "empty line", "invalid UTF-8", "not JSON (...)", "not an object, but an array".
Json parse_object_line(std::string_view line);

/// Throws Error: "query is missing", "query must be a string, got a number", "query is empty" (blank).
std::string required_text(const Json& object, std::string_view name);

/// "" where it is missing or null. Throws Error where it is no string.
std::string optional_text(const Json& object, std::string_view name);

/// The member "id", of which an integer is taken as its digits; "" where it is missing or null.
std::string optional_id(const Json& object);
/// The same; throws Error where it is missing or blank.
std::string required_id(const Json& object);

/// True where the member "simulated" is: all that is derived from the line must say so too.
bool is_simulated(const Json& object);

/// Whence an image is: "natural" or "generated".
inline bool is_source(std::string_view text) { return text == "natural" || text == "generated"; }

}  // namespace unfurl::train
