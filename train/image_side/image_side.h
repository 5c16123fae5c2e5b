// The image side: what turns prompts into images, and images and texts into embeddings. It is another program, or a
// server; train/image_side/protocol.h says what passes between us. Whatever it does wrong ends in a retry or in one
// line that names the request and the side, and no answer that it gave is asked for again.
#pragma once
#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

namespace unfurl::train {

struct ImageRequest {
  std::string id;             // for messages and for the caller; need not be unique
  std::string query, prompt;  // the image shows the prompt; the query is what it was made from
  std::uint64_t seed = 0;     // of the image's noise; below 2^63
};

struct ImageAnswer {
  std::string id;
  std::vector<float> image, query, prompt;  // embeddings: finite, embedding_size each, as the side gives them
  std::optional<double> aesthetic;          // where the side scores images
  std::string image_file;                   // where the side keeps images; else empty
  std::string refused = {};                 // why the side makes no such image, as a safety checker says; all else but
                                            // the id is empty then
};

/// What the side says of itself.
struct ImageSideHello {
  std::string name, version;
  bool simulated = false;  // no real generator is behind it: all that is derived from it must say so
  std::int64_t embedding_size = 0;
  bool operator==(const ImageSideHello&) const = default;
};

struct ImageSideConfig {
  std::string command = {};            // a program and its arguments, as a shell would split them (`atelier` is the one
                                       // beside this program); or
  std::string url = {};                // http://host:port/path
  int workers = 1;                     // processes, or connections
  int batch = 16;                      // requests sent at once
  double timeout_seconds = 120;        // without an answer to what was sent
  double start_timeout_seconds = 900;  // until it says hello: it may have to load a model
  int retries = 2;                     // of a request, and of a start
  double retry_seconds = 0.5;          // before the first retry; twice as long before each further one
  std::filesystem::path cache = {};    // folder of the answers; "": none are kept
};

struct RenderProgress {
  std::size_t done = 0, total = 0;  // requests
  std::size_t cached = 0;           // of them answered without asking the side
};

class ImageSide {
 public:
  /// Starts nothing yet. Throws UserError for a config that cannot be meant.
  explicit ImageSide(ImageSideConfig config);
  ~ImageSide();
  ImageSide(const ImageSide&) = delete;
  ImageSide& operator=(const ImageSide&) = delete;

  /// What the side says of itself; the first call starts it. Throws Error where it does not start.
  const ImageSideHello& hello();

  /// One answer a request, in the order of the requests. Equal requests (query, prompt and seed) are rendered once, and
  /// never again where there is a cache, which belongs to this side's name and version. Requests that fail are tried
  /// again, alone. What the side then still answers with an error, or with an answer of no use, is refused: up to a
  /// tenth of the requests may be. Where more are, or where one fails for good in another way, those that are out are
  /// waited for and kept, and Error says what happened. `progress` is called from one thread at a time, after each
  /// answer.
  std::vector<ImageAnswer> render(std::span<const ImageRequest> requests,
                                  const std::function<void(const RenderProgress&)>& progress = {});

 private:
  class Pool;
  std::unique_ptr<Pool> pool_;
};

}  // namespace unfurl::train
