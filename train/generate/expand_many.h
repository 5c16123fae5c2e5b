// Many queries at once: each thread expands queries of its own, with a session of its own.
#pragma once
#include <functional>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <vector>

#include "train/generate/expander.h"

namespace unfurl::train {

struct ExpandRequest {
  std::string query;
  ExpandSettings settings;
};

class ManyExpander {
 public:
  /// `open` gives a session of the same model each time; `sessions` are opened, at least one. The codec must outlive
  /// this.
  ManyExpander(const std::function<std::unique_ptr<LanguageModel>()>& open, const Codec& codec, int sessions);
  ~ManyExpander();

  /// One answer a request, in order: expand_or_return's, which depends on its request alone.
  std::vector<Expansions> expand(std::span<const ExpandRequest> requests);

 private:
  struct Worker;
  std::vector<std::unique_ptr<Worker>> workers_;
};

}  // namespace unfurl::train
