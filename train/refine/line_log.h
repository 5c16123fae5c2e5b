// A file of lines that only grows: what a long piece of work has done, so that it goes on after a kill.
#pragma once
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

namespace unfurl::train {

class LineLog {
 public:
  /// Opens the file, making it where it is missing. A kill leaves at most its last line torn: that is cut off. Throws
  /// Error naming the path where it cannot be read or written.
  explicit LineLog(std::filesystem::path path);
  ~LineLog();
  LineLog(const LineLog&) = delete;
  LineLog& operator=(const LineLog&) = delete;

  /// The lines that were there at the opening, without line ends.
  const std::vector<std::string>& lines() const { return lines_; }

  /// Appends whole lines, each with its line end; when it returns they survive the end of this process. A disk that is
  /// full leaves the file as it was and throws Error.
  void append(std::string_view lines);
  /// Puts all on disk, so that it survives a power failure too.
  void sync();

 private:
  std::filesystem::path path_;
  std::vector<std::string> lines_;
  std::size_t end_ = 0;  // bytes of the file
  int descriptor_ = -1;
};

}  // namespace unfurl::train
