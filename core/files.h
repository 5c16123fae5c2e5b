// Files: whole reads, memory maps, and writes that either happen whole or not at all.
#pragma once
#include <cstddef>
#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace unfurl {

/// The whole file. Throws UserError naming the path where it cannot be read.
std::string read_file(const std::filesystem::path& path);

/// Writes beside `path` (same folder, name ending in ".tmp"), syncs, then renames over it: a reader, a kill or a full
/// disk at any moment leaves the old file or the new one, whole. A link stays, its target is replaced. Throws Error
/// naming path and reason, as where something other than a file is there; nothing is left.
void write_file(const std::filesystem::path& path, std::string_view bytes);

/// Streams a file the same way: `write` may be called often, `commit` makes it appear. Destroyed without commit, it
/// leaves nothing.
/// While it writes, remove_unfinished_files() knows of it.
class FileWriter {
 public:
  explicit FileWriter(std::filesystem::path path);
  ~FileWriter();
  FileWriter(const FileWriter&) = delete;
  FileWriter& operator=(const FileWriter&) = delete;

  /// Throws Error (disk full, ...) naming the path.
  void write(const void* bytes, std::size_t count);
  void write(std::string_view bytes) { write(bytes.data(), bytes.size()); }
  /// Bytes written so far.
  std::size_t size() const { return size_; }
  void commit();

 private:
  void put(const char* bytes, std::size_t count);
  void flush();
  void discard();
  [[noreturn]] void give_up(const char* what);
  std::filesystem::path path_, aside_;
  int descriptor_ = -1;
  int listed_ = -1;  // place among the unfinished files
  std::size_t size_ = 0;
  std::string buffer_;
};

/// Removes what unfinished writers of this process have put aside: the last act of a process that a signal ends. May be
/// called in a signal handler.
void remove_unfinished_files();

/// Puts the folder's entries on disk: a file that was made or renamed in it survives a power failure only then.
void sync_folder(const std::filesystem::path& folder);

/// A file mapped read-only. An empty file maps to no bytes.
class MappedFile {
 public:
  /// Throws UserError naming the path where it cannot be opened.
  explicit MappedFile(const std::filesystem::path& path);
  ~MappedFile();
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;

  const std::byte* data() const { return data_; }
  std::size_t size() const { return size_; }
  std::string_view text() const { return {reinterpret_cast<const char*>(data_), size_}; }

 private:
  const std::byte* data_ = nullptr;
  std::size_t size_ = 0;
};

/// Makes the folder and its parents. Throws Error naming the path where that fails or it is not writable.
void make_folder(const std::filesystem::path& path);

/// Throws UserError where both paths are one file: what is read would be overwritten.
void require_other_file(const std::filesystem::path& out, const std::filesystem::path& in);

/// Holds a folder for one process: two that write their results there would overwrite each other's. Where nothing has
/// come into the folder at the end but the lock's own file, that is removed, and so are the folders that were made for
/// it.
class FolderLock {
 public:
  /// Makes the folder. Throws UserError where another lock of this name, in this process or another, holds it.
  explicit FolderLock(std::filesystem::path folder, const char* name = ".lock");
  ~FolderLock();
  FolderLock(const FolderLock&) = delete;
  FolderLock& operator=(const FolderLock&) = delete;

 private:
  void remove_made();
  std::filesystem::path folder_, file_;
  std::vector<std::filesystem::path> made_;  // the folders that were not there, innermost first
  int descriptor_ = -1;
};

/// XXH3, 64 bits, of the bytes.
std::uint64_t hash_bytes(std::string_view bytes, std::uint64_t seed = 0);

}  // namespace unfurl
