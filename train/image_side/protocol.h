// What passes between us and an image side, as text: one JSON object a line.
//
// The side speaks first, one line that says what it is:
//
//   {"name": "sdxl-turbo", "version": "1.0, 4 steps", "simulated": false, "embedding_size": 768}
//
// Then requests come, a batch of them followed by an empty line (a side may wait for that or not), and the side answers
// each once, in any order; numbers are written so that a float comes back as it was:
//
//   {"id": "q1#7", "query": "a fox", "prompt": "a fox, oil painting", "seed": 1}
//   {"id": "q1#7", "image_embedding": [...], "query_embedding": [...], "prompt_embedding": [...], "aesthetic": 5.1,
//    "image": "q1.png"}
//   {"id": "q1#7", "error": "out of memory"}
//
// `aesthetic` and `image` are optional; the last form says that this request failed. A child process reads requests on
// its standard input, answers on its standard output, and ends at the end of its input. A server gives the first line
// for a GET, and for a POST of a batch its answers.
#pragma once
#include <string>
#include <string_view>

#include "train/image_side/image_side.h"

namespace unfurl::train {

/// With its line end.
std::string to_line(const ImageSideHello& hello);
std::string to_line(const ImageRequest& request);
/// One that is `simulated` says so in every line.
std::string to_line(const ImageAnswer& answer, bool simulated = false);
std::string error_line(std::string_view id, std::string_view why);

/// Throws Error that says what is wrong with the line, quoting its beginning.
ImageSideHello parse_hello(std::string_view line);
ImageRequest parse_request(std::string_view line);

/// A line of the answers, read as far as it could be.
struct ParsedAnswer {
  ImageAnswer answer;  // always with its id
  std::string error;   // why it is no good answer; empty where it is one
};
/// Throws Error where not even the id can be read.
ParsedAnswer parse_answer(std::string_view line, std::int64_t embedding_size);

/// The first bytes of a text, printable, in quotes, for messages.
std::string in_quotes(std::string_view text, std::size_t most = 60);

}  // namespace unfurl::train
