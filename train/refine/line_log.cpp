#include "train/refine/line_log.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "core/error.h"
#include "core/files.h"
#include "train/log.h"

namespace unfurl::train {

LineLog::LineLog(std::filesystem::path path) : path_(std::move(path)) {
  descriptor_ = ::open(path_.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0666);
  if (descriptor_ < 0) fail("cannot write {}: {}", path_.string(), std::strerror(errno));
  try {
    const MappedFile file(path_);
    const std::string_view text = file.text();
    while (end_ < text.size()) {
      const std::size_t end = text.find('\n', end_);
      if (end == std::string_view::npos) break;
      lines_.emplace_back(text.substr(end_, end - end_));
      end_ = end + 1;
    }
    if (end_ < text.size() && ::ftruncate(descriptor_, static_cast<off_t>(end_)) != 0) {
      fail("cannot cut the torn last line off {}: {}", path_.string(), std::strerror(errno));
    }
  } catch (...) {
    ::close(descriptor_);
    throw;
  }
}

LineLog::~LineLog() { ::close(descriptor_); }

void LineLog::append(std::string_view lines) {
  for (std::size_t done = 0; done < lines.size();) {
    const ssize_t count =
        ::pwrite(descriptor_, lines.data() + done, lines.size() - done, static_cast<off_t>(end_ + done));
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0) {
      const int problem = count < 0 ? errno : ENOSPC;
      if (::ftruncate(descriptor_, static_cast<off_t>(end_)) != 0) warn("cannot shorten {}", path_.string());
      fail("cannot write {}: {}; what is in it is kept, run again", path_.string(), std::strerror(problem));
    }
    done += static_cast<std::size_t>(count);
  }
  end_ += lines.size();
}

void LineLog::sync() { ::fdatasync(descriptor_); }

}  // namespace unfurl::train
