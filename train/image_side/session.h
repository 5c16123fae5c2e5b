// One line to an image side: a child process of its own, or a server.
#pragma once
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "train/image_side/image_side.h"

namespace unfurl::train {

class ImageSession {
 public:
  virtual ~ImageSession() = default;

  /// Sends the lines of one batch and hands each line of the answers, without its end, to `on_line` until that returns
  /// true. Throws Error, without naming the side, where it dies, is silent for too long, or has no more to say; the
  /// session is of no use then.
  virtual void exchange(const std::string& lines, const std::function<bool(std::string_view)>& on_line) = 0;

  const ImageSideHello& hello() const { return hello_; }

 protected:
  ImageSideHello hello_;
};

/// A program: its standard input and output are the line; of its standard error the last words are kept for messages.
/// Throws UserError where there is no such program, Error where it says no hello in time.
std::unique_ptr<ImageSession> start_child(const ImageSideConfig& config);

/// A server. Throws Error where it says no hello.
std::unique_ptr<ImageSession> connect_server(const ImageSideConfig& config);

}  // namespace unfurl::train
