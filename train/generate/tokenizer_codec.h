// The tokenizer of train/data as generation asks for it.
#pragma once
#include <memory>

#include "train/data/tokenizer.h"
#include "train/generate/codec.h"

namespace unfurl::train {

class TokenizerCodec : public Codec {
 public:
  explicit TokenizerCodec(std::shared_ptr<const Tokenizer> tokenizer) : tokenizer_(std::move(tokenizer)) {}

  Index size() const override { return tokenizer_->vocab_size(); }
  std::int32_t eos() const override { return Tokenizer::kEnd; }
  bool is_control(std::int32_t piece) const override { return piece < tokenizer_->controls(); }
  std::string bytes(std::int32_t piece) const override { return tokenizer_->bytes(piece); }
  std::vector<std::int32_t> encode(std::string_view text) const override { return tokenizer_->encode(text); }
  Condition condition(std::string_view query, std::string_view prefix) const override;
  std::vector<std::string> prefixes() const override;

 private:
  std::shared_ptr<const Tokenizer> tokenizer_;
};

}  // namespace unfurl::train
