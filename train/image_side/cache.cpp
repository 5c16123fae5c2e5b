#include "train/image_side/cache.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "core/error.h"
#include "core/names.h"
#include "train/log.h"

namespace unfurl::train {
namespace {

constexpr std::uint64_t kMagic = 0x31474D494C465255;  // "URFLIMG1"

struct RecordHeader {
  std::uint64_t magic, size, hash;
};

/// The payload: this, three embeddings of `embedding_size` floats, `file_size` bytes of the image file's name.
struct PayloadHeader {
  std::uint64_t a, b;
  double aesthetic;
  std::uint32_t embedding_size, file_size;
  std::uint32_t scored, zero;
};

std::string identity(const ImageSideHello& side) {
  return fmt::format("{}\n{}\n{}\n{}", side.name, side.version, side.simulated, side.embedding_size);
}

std::string file_name(const ImageSideHello& side) { return fmt::format("images-{:016x}", hash_bytes(identity(side))); }

std::size_t payload_size(std::uint64_t embedding_size, std::uint64_t file_size) {
  return sizeof(PayloadHeader) + 3 * sizeof(float) * embedding_size + file_size;
}

}  // namespace

RequestKey key_of(const ImageSideHello& side, const ImageRequest& request) {
  // Each part with its length in front: no two requests give the same bytes.
  std::string bytes;
  const std::string who = identity(side);
  for (const std::string* part : {&who, &request.query, &request.prompt}) {
    bytes += fmt::format("{}:", part->size());
    bytes += *part;
  }
  bytes += std::to_string(request.seed);
  return {hash_bytes(bytes, 0), hash_bytes(bytes, 1)};
}

ImageCache::ImageCache(const std::filesystem::path& folder, const ImageSideHello& side)
    : path_(folder / (file_name(side) + ".cache")),
      name_(file_name(side) + ".lock"),
      lock_(folder, name_.c_str()),
      embedding_size_(side.embedding_size) {
  descriptor_ = ::open(path_.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0666);
  if (descriptor_ < 0) fail("cannot open the image cache {}: {}", path_.string(), std::strerror(errno));
  try {
    scan();
  } catch (...) {
    ::close(descriptor_);
    throw;
  }
}

ImageCache::~ImageCache() { ::close(descriptor_); }

void ImageCache::scan() {
  const MappedFile file(path_);
  const std::string_view all = file.text();
  const std::string_view magic(reinterpret_cast<const char*>(&kMagic), sizeof kMagic);
  std::size_t at = 0, damaged = 0;
  while (at < all.size()) {
    RecordHeader header{};
    PayloadHeader payload{};
    bool good = all.size() - at >= sizeof header + sizeof payload;
    if (good) {
      std::memcpy(&header, all.data() + at, sizeof header);
      const std::size_t left = all.size() - at - sizeof header;
      good = header.magic == kMagic && header.size >= sizeof payload && header.size <= left;
    }
    if (good) {
      const std::string_view bytes = all.substr(at + sizeof header, header.size);
      std::memcpy(&payload, bytes.data(), sizeof payload);
      good = hash_bytes(bytes) == header.hash && header.size == payload_size(payload.embedding_size, payload.file_size);
      good = good && payload.embedding_size == static_cast<std::uint64_t>(embedding_size_);
    }
    if (good) {
      places_[{payload.a, payload.b}] = {at + sizeof header, header.size};
      at += sizeof header + header.size;
      end_ = at;
    } else {
      ++damaged;
      at = std::min(all.find(magic, at + 1), all.size());
    }
  }
  if (damaged > 0) {
    warn("{}: {} {} cut short or damaged, and will be rendered again", path_.string(), damaged,
         plural(static_cast<std::int64_t>(damaged), "answer was", "answers were"));
  }
  if (end_ < all.size() && ::ftruncate(descriptor_, static_cast<off_t>(end_)) != 0) {
    fail("cannot repair the image cache {}: {}", path_.string(), std::strerror(errno));
  }
}

std::optional<ImageAnswer> ImageCache::find(const RequestKey& key) const {
  const auto found = places_.find(key);
  if (found == places_.end()) return std::nullopt;
  std::string bytes(found->second.size, '\0');
  for (std::size_t done = 0; done < bytes.size();) {
    const ssize_t count =
        ::pread(descriptor_, bytes.data() + done, bytes.size() - done, static_cast<off_t>(found->second.offset + done));
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0) fail("cannot read the image cache {}", path_.string());
    done += static_cast<std::size_t>(count);
  }
  PayloadHeader payload{};
  std::memcpy(&payload, bytes.data(), sizeof payload);
  ImageAnswer answer;
  const char* at = bytes.data() + sizeof payload;
  const auto size = static_cast<std::size_t>(embedding_size_);
  for (std::vector<float>* const embedding : {&answer.image, &answer.query, &answer.prompt}) {
    embedding->resize(size);
    std::memcpy(embedding->data(), at, size * sizeof(float));
    at += size * sizeof(float);
  }
  if (payload.scored != 0) answer.aesthetic = payload.aesthetic;
  answer.image_file.assign(at, payload.file_size);
  return answer;
}

void ImageCache::add(const RequestKey& key, const ImageAnswer& answer) {
  const PayloadHeader payload{.a = key.a,
                              .b = key.b,
                              .aesthetic = answer.aesthetic.value_or(0),
                              .embedding_size = static_cast<std::uint32_t>(embedding_size_),
                              .file_size = static_cast<std::uint32_t>(answer.image_file.size()),
                              .scored = answer.aesthetic.has_value(),
                              .zero = 0};
  std::string bytes(sizeof(RecordHeader), '\0');
  bytes.append(reinterpret_cast<const char*>(&payload), sizeof payload);
  for (const std::vector<float>* const embedding : {&answer.image, &answer.query, &answer.prompt}) {
    require(embedding->size() == static_cast<std::size_t>(embedding_size_), "ImageCache::add: an embedding has size {}",
            embedding->size());
    bytes.append(reinterpret_cast<const char*>(embedding->data()), embedding->size() * sizeof(float));
  }
  bytes += answer.image_file;
  const std::size_t size = bytes.size() - sizeof(RecordHeader);
  const RecordHeader header{kMagic, size, hash_bytes(std::string_view(bytes).substr(sizeof(RecordHeader)))};
  std::memcpy(bytes.data(), &header, sizeof header);
  for (std::size_t done = 0; done < bytes.size();) {
    const ssize_t count =
        ::pwrite(descriptor_, bytes.data() + done, bytes.size() - done, static_cast<off_t>(end_ + done));
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0) {
      const int problem = errno;
      if (::ftruncate(descriptor_, static_cast<off_t>(end_)) != 0) warn("cannot shorten {}", path_.string());
      fail("cannot write the image cache {}: {}", path_.string(), std::strerror(problem));
    }
    done += static_cast<std::size_t>(count);
  }
  places_[key] = {end_ + sizeof header, size};
  end_ += bytes.size();
}

void ImageCache::sync() { ::fdatasync(descriptor_); }

}  // namespace unfurl::train
