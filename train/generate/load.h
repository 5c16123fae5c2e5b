// A trained model with its tokenizer, ready to generate.
#pragma once
#include <filesystem>
#include <functional>
#include <memory>
#include <string>

#include "train/generate/codec.h"
#include "train/generate/language_model.h"

namespace unfurl::train {

struct LoadedModel {
  std::shared_ptr<LanguageModel> model;
  std::unique_ptr<Codec> codec;
  std::string name;               // of the run
  bool without_prefixes = false;  // it never saw one in training
  bool with_prefixes = false;     // its own training had prefixes
};

/// Makes a model from a run folder (its best checkpoint, else its last) or a checkpoint folder. Throws UserError where
/// there is none at `path` or it does not fit its tokenizer, Error where it is damaged.
using Loader = std::function<LoadedModel(const std::filesystem::path& path)>;

}  // namespace unfurl::train
