// Errors: one line that says what, where and what to do.
#pragma once
#include <fmt/core.h>

#include <stdexcept>
#include <utility>

namespace unfurl {

/// Something failed: the program ends with exit code 1.
class Error : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

/// The user's mistake (a recipe, an argument, a file): the program ends with exit code 2.
class UserError : public Error {
 public:
  using Error::Error;
};

template <class... Args>
[[noreturn]] void fail(fmt::format_string<Args...> format, Args&&... args) {
  throw Error(fmt::format(format, std::forward<Args>(args)...));
}

template <class... Args>
[[noreturn]] void user_error(fmt::format_string<Args...> format, Args&&... args) {
  throw UserError(fmt::format(format, std::forward<Args>(args)...));
}

/// A precondition of a function; the message starts with the function's name: "rms_norm: gain must be [64], got [32]".
template <class... Args>
void require(bool condition, fmt::format_string<Args...> format, Args&&... args) {
  if (!condition) throw Error(fmt::format(format, std::forward<Args>(args)...));
}

}  // namespace unfurl
