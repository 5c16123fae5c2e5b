// Lines of a file that cannot be used: counted and named, never silently dropped, and the end of the run where they are
// too many.
#pragma once
#include <cstddef>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

namespace unfurl::train {

struct BadLineRule {
  double max_bad_share = 0.01;  // share of the file's lines that may be bad
  int named = 3;                // bad lines that messages name; the others are counted
};

class BadLines {
 public:
  /// `what` is what each of the file's `lines` should be: "pair".
  BadLines(std::filesystem::path path, std::string what, std::size_t lines, BadLineRule rule = {});

  /// Lines count from 1.
  void note(std::size_t line, std::string_view why);

  std::size_t count() const { return count_; }
  /// The first bad lines, "path:line: why".
  const std::vector<std::string>& named() const { return named_; }

  /// True where more lines are bad than may be.
  bool too_many() const;
  /// Throws UserError that counts the bad lines and names the first.
  [[noreturn]] void refuse() const;
  /// Logs as warnings what refuse() would say; nothing where no line is bad.
  void warn() const;

 private:
  std::string counted() const;
  std::filesystem::path path_;
  std::string what_;
  std::size_t lines_, count_ = 0;
  BadLineRule rule_;
  std::vector<std::string> named_;
};

/// The last one may lack its line end.
std::size_t count_lines(std::string_view text);

/// Why a line of plain text cannot be used, "" where it can: "invalid UTF-8", or "a control character" (other than
/// tabs).
std::string_view fault_of_text(std::string_view line);

}  // namespace unfurl::train
