// The answers of one image side, on disk: a file that only grows, of records
//
//   magic u64 | bytes of the payload u64 | XXH3 of the payload u64 | payload
//
// so that a kill at any moment leaves at most its last record torn, which the next opening cuts off. Little-endian.
#pragma once
#include <cstdint>
#include <filesystem>
#include <mutex>
#include <optional>
#include <unordered_map>

#include "core/files.h"
#include "train/image_side/image_side.h"

namespace unfurl::train {

/// What a request asks of a side: XXH3 twice, 128 bits, of its identity, query, prompt and seed.
struct RequestKey {
  std::uint64_t a = 0, b = 0;
  bool operator==(const RequestKey&) const = default;
};
struct RequestKeyHash {
  std::size_t operator()(const RequestKey& key) const { return key.a; }
};
RequestKey key_of(const ImageSideHello& side, const ImageRequest& request);

class ImageCache {
 public:
  /// Opens FOLDER/images-HASH.cache, whose name depends on what the side says of itself, for this process alone.
  /// Records that do not match their checksum are skipped with a warning. Throws UserError where another process has
  /// it, Error where it cannot be read or written.
  ImageCache(const std::filesystem::path& folder, const ImageSideHello& side);
  ~ImageCache();
  ImageCache(const ImageCache&) = delete;
  ImageCache& operator=(const ImageCache&) = delete;

  std::size_t size() const { return places_.size(); }
  bool contains(const RequestKey& key) const { return places_.contains(key); }
  /// All but the id; none where there is none.
  std::optional<ImageAnswer> find(const RequestKey& key) const;
  /// Appends; when it returns, the record survives the end of this process. A disk that is full leaves the file as it
  /// was and throws Error.
  void add(const RequestKey& key, const ImageAnswer& answer);
  /// Puts all records on disk, so that they survive a power failure too.
  void sync();

 private:
  struct Place {
    std::uint64_t offset, size;  // of the payload
  };
  void scan();
  std::filesystem::path path_;
  std::string name_;
  FolderLock lock_;
  std::int64_t embedding_size_;
  int descriptor_ = -1;
  std::uint64_t end_ = 0;  // bytes of the file
  std::unordered_map<RequestKey, Place, RequestKeyHash> places_;
};

}  // namespace unfurl::train
