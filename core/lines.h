// A text, line by line:
//
//   for (const Line& line : Lines(text)) use(line.number, line.text);
#pragma once
#include <algorithm>
#include <cstddef>
#include <string_view>

namespace unfurl {

/// What some editors put before UTF-8.
inline constexpr std::string_view kByteOrderMark = "\xef\xbb\xbf";

struct Line {
  std::size_t number = 0;  // from 1
  std::string_view text;   // without its end
};

/// The lines of `text`, which stays where it is; without a byte order mark, and the last with or without an end.
class Lines {
 public:
  class Iterator {
   public:
    explicit Iterator(std::string_view rest) : rest_(rest) { take(); }
    const Line& operator*() const { return line_; }
    Iterator& operator++() {
      rest_.remove_prefix(std::min(line_.text.size() + 1, rest_.size()));
      take();
      return *this;
    }
    /// Whether this is at the text's end.
    bool operator==(std::nullptr_t) const { return rest_.empty(); }

   private:
    void take() {
      ++line_.number;
      line_.text = rest_.substr(0, std::min(rest_.find('\n'), rest_.size()));
    }
    std::string_view rest_;
    Line line_;
  };

  explicit Lines(std::string_view text) : text_(text) {
    if (text_.starts_with(kByteOrderMark)) text_.remove_prefix(kByteOrderMark.size());
  }
  Iterator begin() const { return Iterator(text_); }
  static std::nullptr_t end() { return nullptr; }

 private:
  std::string_view text_;
};

}  // namespace unfurl
