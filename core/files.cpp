#include "core/files.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <climits>
#include <cstring>
#include <utility>

#include "core/error.h"

namespace unfurl {
namespace {

constexpr std::size_t kBuffer = 1 << 20;

std::string reason() { return std::strerror(errno); }

/// The name of a file that is being written, where a signal handler can read it: it may neither lock nor allocate.
struct Unfinished {
  std::atomic<bool> taken{false}, named{false};
  char path[PATH_MAX] = {};
};
std::array<Unfinished, 8> unfinished;  // a writer that finds no place is not listed

int list_unfinished(const std::filesystem::path& path) {
  const std::string& name = path.native();
  if (name.size() >= PATH_MAX) return -1;
  for (std::size_t i = 0; i < unfinished.size(); ++i) {
    if (unfinished[i].taken.exchange(true)) continue;
    std::memcpy(unfinished[i].path, name.c_str(), name.size() + 1);
    unfinished[i].named = true;
    return static_cast<int>(i);
  }
  return -1;
}

void unlist(int& place) {
  if (place < 0) return;
  Unfinished& entry = unfinished[static_cast<std::size_t>(std::exchange(place, -1))];
  entry.named = false;
  entry.taken = false;
}

}  // namespace

void remove_unfinished_files() {
  for (const Unfinished& entry : unfinished) {
    if (entry.named) ::unlink(entry.path);
  }
}

void sync_folder(const std::filesystem::path& folder) {
  const int descriptor = ::open(folder.empty() ? "." : folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (descriptor < 0) return;
  ::fsync(descriptor);
  ::close(descriptor);
}

std::string read_file(const std::filesystem::path& path) { return std::string(MappedFile(path).text()); }

void write_file(const std::filesystem::path& path, std::string_view bytes) {
  FileWriter writer(path);
  writer.write(bytes);
  writer.commit();
}

FileWriter::FileWriter(std::filesystem::path path) : path_(std::move(path)) {
  // What a rename would replace: /dev/stdout, a pipe, a link in place of what it points to.
  std::error_code error;
  const std::filesystem::file_status there = std::filesystem::status(path_, error);
  if (std::filesystem::exists(there) && !std::filesystem::is_regular_file(there)) {
    throw Error(fmt::format("cannot write {}: it is {}", path_.string(),
                            std::filesystem::is_directory(there) ? "a folder" : "not a regular file"));
  }
  if (std::filesystem::is_symlink(path_, error) && std::filesystem::exists(there)) {
    path_ = std::filesystem::canonical(path_);
  }
  aside_ = path_;
  aside_ += ".tmp";
  listed_ = list_unfinished(aside_);
  descriptor_ = ::open(aside_.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
  if (descriptor_ >= 0) return;
  const std::string why = reason();
  unlist(listed_);
  throw Error(fmt::format("cannot write {}: {}", path_.string(), why));
}

FileWriter::~FileWriter() {
  if (descriptor_ >= 0) discard();
}

void FileWriter::discard() {
  ::close(std::exchange(descriptor_, -1));
  ::unlink(aside_.c_str());
  unlist(listed_);
}

void FileWriter::give_up(const char* what) {
  const std::string why = reason();
  discard();
  throw Error(fmt::format("cannot {} {}: {}", what, path_.string(), why));
}

void FileWriter::put(const char* bytes, std::size_t count) {
  while (count > 0) {
    const ssize_t done = ::write(descriptor_, bytes, count);
    if (done < 0 && errno == EINTR) continue;
    if (done < 0) give_up("write");
    bytes += done;
    count -= static_cast<std::size_t>(done);
  }
}

void FileWriter::flush() {
  put(buffer_.data(), buffer_.size());
  buffer_.clear();
}

void FileWriter::write(const void* bytes, std::size_t count) {
  require(descriptor_ >= 0, "FileWriter: {} is closed", path_.string());
  size_ += count;
  if (buffer_.size() + count >= kBuffer) flush();
  if (count >= kBuffer) return put(static_cast<const char*>(bytes), count);
  buffer_.append(static_cast<const char*>(bytes), count);
}

void FileWriter::commit() {
  require(descriptor_ >= 0, "FileWriter: {} is closed", path_.string());
  flush();
  if (::fsync(descriptor_) != 0) give_up("write");
  if (::close(std::exchange(descriptor_, -1)) != 0 || ::rename(aside_.c_str(), path_.c_str()) != 0) {
    const std::string why = reason();
    ::unlink(aside_.c_str());
    unlist(listed_);
    throw Error(fmt::format("cannot write {}: {}", path_.string(), why));
  }
  unlist(listed_);
  sync_folder(path_.parent_path());
}

MappedFile::MappedFile(const std::filesystem::path& path) {
  const int descriptor = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);  // a pipe must not block here
  if (descriptor < 0) throw UserError(fmt::format("cannot read {}: {}", path.string(), reason()));
  struct stat status {};
  if (::fstat(descriptor, &status) != 0 || !S_ISREG(status.st_mode)) {
    const std::string why = S_ISDIR(status.st_mode) ? "it is a folder" : "it is not a regular file";
    ::close(descriptor);
    throw UserError(fmt::format("cannot read {}: {}", path.string(), why));
  }
  size_ = static_cast<std::size_t>(status.st_size);
  if (size_ > 0) {
    void* mapped = ::mmap(nullptr, size_, PROT_READ, MAP_PRIVATE, descriptor, 0);
    if (mapped == MAP_FAILED) {
      const std::string why = reason();
      ::close(descriptor);
      throw UserError(fmt::format("cannot read {}: {}", path.string(), why));
    }
    data_ = static_cast<const std::byte*>(mapped);
  }
  ::close(descriptor);
}

MappedFile::~MappedFile() {
  if (data_ != nullptr) ::munmap(const_cast<std::byte*>(data_), size_);
}

void make_folder(const std::filesystem::path& path) {
  std::error_code error;
  std::filesystem::create_directories(path, error);
  if (error) throw Error(fmt::format("cannot make the folder {}: {}", path.string(), error.message()));
  if (::access(path.c_str(), W_OK | X_OK) != 0) {
    throw Error(fmt::format("cannot write to the folder {}: {}", path.string(), reason()));
  }
}

void require_other_file(const std::filesystem::path& out, const std::filesystem::path& in) {
  std::error_code missing;
  if (std::filesystem::equivalent(out, in, missing)) {
    throw UserError(fmt::format("{} is read and would be overwritten; name another output", in.string()));
  }
}

FolderLock::FolderLock(std::filesystem::path folder, const char* name)
    : folder_(std::move(folder)), file_(folder_ / name) {
  std::error_code ignored;
  for (auto above = folder_; !above.empty() && !std::filesystem::exists(above, ignored); above = above.parent_path()) {
    made_.push_back(above);
  }
  try {
    make_folder(folder_);
    descriptor_ = ::open(file_.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644);
    if (descriptor_ < 0) fail("cannot write to the folder {}: {}", folder_.string(), reason());
  } catch (const Error&) {
    remove_made();
    throw;
  }
  // A file that has lost its name was that of a lock that has just ended.
  struct stat status {};
  if (::flock(descriptor_, LOCK_EX | LOCK_NB) != 0 || ::fstat(descriptor_, &status) != 0 || status.st_nlink == 0) {
    ::close(descriptor_);
    throw UserError(fmt::format("another run is writing to {}; wait for it, or set another output", folder_.string()));
  }
}

FolderLock::~FolderLock() {
  std::error_code error;
  int entries = 0;
  for (std::filesystem::directory_iterator it(folder_, error), end; !error && it != end; it.increment(error)) ++entries;
  if (!error && entries == 1) {
    ::unlink(file_.c_str());
    remove_made();
  }
  ::close(descriptor_);
}

/// Those that hold nothing.
void FolderLock::remove_made() {
  for (const auto& folder : made_) ::rmdir(folder.c_str());
}

std::uint64_t hash_bytes(std::string_view bytes, std::uint64_t seed) {
  return XXH3_64bits_withSeed(bytes.data(), bytes.size(), seed);
}

}  // namespace unfurl
