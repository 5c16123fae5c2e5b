#include "train/data/tokenizer.h"

#include <sentencepiece_processor.h>
#include <sentencepiece_trainer.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cstring>
#include <exception>
#include <numeric>
#include <optional>
#include <thread>
#include <unordered_map>

#include "core/error.h"
#include "core/files.h"
#include "kernels/thread_pool.h"
#include "train/corpus/prefix.h"
#include "train/corpus/text.h"
#include "train/data/segment.h"

namespace unfurl::train {
namespace {

constexpr std::string_view kBlank = "\u2581";     // how the library writes a space
constexpr std::string_view kReserved = "\u2585";  // its trainer skips lines with this character
constexpr int kTrainerThreads = 4;                // the sums of the unigram trainer depend on their number
constexpr std::uint32_t kPurposeLines = 0x544F4B4C;

// The seal: protobuf field 200 (the first of the model's extension range), 16 bytes: a mark and the hash of the model.
constexpr std::array<char, 11> kSealOpening = {'\xC2', '\x0C', '\x10', 'u', 'n', 'f', 'u', 'r', 'l', '0', '1'};
constexpr std::size_t kSealSize = kSealOpening.size() + sizeof(std::uint64_t);

std::string sentinel(int number) { return fmt::format("<extra_id_{}>", number); }

/// The control pieces by id.
std::vector<std::string> control_pieces(int sentinels = 0) {
  std::vector<std::string> pieces = {"<pad>", "<unk>", "<bos>", "<eos>", "<sep>"};
  for (const Prefix& prefix : kPrefixes) pieces.push_back(fmt::format("<{}>", prefix.name));
  for (const char* mode : {"[R]", "[S]", "[X]"}) pieces.emplace_back(mode);
  for (int i = 0; i < sentinels; ++i) pieces.push_back(sentinel(i));
  return pieces;
}

/// The lines as the trainer sees them: opened by a space as encode does it, without characters that it treats in ways
/// of its own or that are to be spelt in bytes anyway.
class Lines : public sentencepiece::SentenceIterator {
 public:
  Lines(std::span<const std::string_view> lines, const std::vector<std::size_t>& chosen)
      : lines_(lines), chosen_(chosen) {
    prepare();
  }
  bool done() const override { return at_ == chosen_.size(); }
  void Next() override {
    ++at_;
    prepare();
  }
  const std::string& value() const override { return line_; }
  sentencepiece::util::Status status() const override { return {}; }

 private:
  void prepare() {
    if (done()) return;
    const std::string_view text = lines_[chosen_[at_]];
    line_.assign(1, ' ');
    for (std::size_t i = 0; i < text.size();) {
      const bool special = text.substr(i, 3) == kBlank || text.substr(i, 3) == kReserved;
      const auto c = static_cast<unsigned char>(text[i]);
      line_ += special || c < 0x20 || c == 0x7F ? ' ' : text[i];
      i += special ? 3 : 1;
    }
  }

  std::span<const std::string_view> lines_;
  const std::vector<std::size_t>& chosen_;
  std::size_t at_ = 0;
  std::string line_;
};

/// All lines, or `most` of them by lowest random number, in their order.
std::vector<std::size_t> choose_lines(std::size_t count, std::int64_t most, std::uint64_t seed) {
  std::vector<std::size_t> chosen(count);
  std::iota(chosen.begin(), chosen.end(), std::size_t{0});
  if (most <= 0 || static_cast<std::size_t>(most) >= count) return chosen;
  std::vector<std::pair<std::uint64_t, std::size_t>> keys(count);
  for (std::size_t i = 0; i < count; ++i) {
    const auto bits = philox({seed, kPurposeLines, 0}, i);
    keys[i] = {std::uint64_t{bits[0]} << 32 | bits[1], i};
  }
  std::sort(keys.begin(), keys.end());
  chosen.resize(static_cast<std::size_t>(most));
  for (std::size_t i = 0; i < chosen.size(); ++i) chosen[i] = keys[i].second;
  std::sort(chosen.begin(), chosen.end());
  return chosen;
}

/// The number behind `before` in the library's message.
std::optional<int> number_after(std::string_view message, std::string_view before) {
  const auto at = message.find(before);
  if (at == std::string_view::npos) return {};
  int value = 0;
  const char* begin = message.data() + at + before.size();
  const auto [end, error] = std::from_chars(begin, message.data() + message.size(), value);
  if (error != std::errc{}) return {};
  return value;
}

[[noreturn]] void training_failed(const TokenizerConfig& config, std::string message) {
  std::replace(message.begin(), message.end(), '\n', ' ');
  if (const auto most = number_after(message, "set it to a value <= ")) {
    user_error(
        "tokenizer: a vocabulary of {} pieces is too large for this text: {} is the greatest possible; set "
        "tokenizer.vocab_size (--vocab-size)",
        config.vocab_size, *most);
  }
  if (message.find("smaller than required_chars") != std::string::npos) {
    user_error(
        "tokenizer: a vocabulary of {} pieces is too small for the characters of this text: raise vocab_size or lower "
        "character_coverage",
        config.vocab_size);
  }
  fail("tokenizer: training failed: {}", message);
}

void check(const TokenizerConfig& config) {
  if (config.sentinels < 0 || config.sentinels > 1000) {
    user_error("tokenizer: sentinels must be in [0, 1000], got {}", config.sentinels);
  }
  const int least = Tokenizer::kControls + config.sentinels + (config.byte_fallback ? 256 : 0) + 1;
  if (config.vocab_size < least || config.vocab_size > 1'000'000) {
    user_error("tokenizer: vocab_size must be in [{}, 1000000], got {}", least, config.vocab_size);
  }
  if (!(config.character_coverage >= 0.9 && config.character_coverage <= 1)) {
    user_error("tokenizer: character_coverage must be in [0.9, 1], got {}", config.character_coverage);
  }
  if (config.max_lines < 0) user_error("tokenizer: max_lines must not be negative, got {}", config.max_lines);
}

/// Bytes that make no character are replaced, each by U+FFFD.
std::string repaired(std::string text) {
  if (valid_utf8(text)) return text;
  std::string out;
  for (std::size_t at = 0; at < text.size();) {
    std::size_t size = 1;
    const std::string_view rest = std::string_view(text).substr(at);
    while (size <= 4 && size <= rest.size() && !valid_utf8(rest.substr(0, size))) ++size;
    if (size <= 4 && size <= rest.size()) {
      out += rest.substr(0, size);
      at += size;
    } else {
      out += "\uFFFD";
      ++at;
    }
  }
  return out;
}

}  // namespace

struct Tokenizer::State {
  sentencepiece::SentencePieceProcessor processor;
  std::vector<std::string> pieces, bytes;       // by id
  std::array<std::int32_t, 256> byte_ids = {};  // kUnknown without byte fallback
  Segmenter segmenter;
  TokenizerConfig::Model model = TokenizerConfig::Model::bpe;
  bool byte_fallback = false;
  int all_controls = kControls;  // with the sentinels
  std::uint64_t fingerprint = 0;

  void read_pieces(const std::filesystem::path& path);
  template <class Encode>
  std::vector<std::int32_t> encode(std::string_view text, const Encode& encode_part) const;
};

void Tokenizer::train(const TokenizerConfig& config, std::span<const std::string_view> lines,
                      const std::filesystem::path& out) {
  check(config);
  bool blank = true;
  for (std::size_t i = 0; i < lines.size(); ++i) {
    if (!valid_utf8(lines[i])) user_error("tokenizer: text {} of the training texts is not valid UTF-8", i + 1);
    blank = blank && trim(lines[i]).empty();
  }
  if (blank) user_error("tokenizer: there is no text to train on");

  const std::vector<std::string> controls = control_pieces(config.sentinels);
  std::string symbols;
  for (std::size_t i = kSeparator; i < controls.size(); ++i) {
    if (!symbols.empty()) symbols += ',';
    symbols += controls[i];
  }
  const std::unordered_map<std::string, std::string> arguments = {
      {"model_type", config.model == TokenizerConfig::Model::bpe ? "bpe" : "unigram"},
      {"vocab_size", std::to_string(config.vocab_size)},
      {"byte_fallback", config.byte_fallback ? "true" : "false"},
      {"split_digits", config.split_digits ? "true" : "false"},
      {"character_coverage", fmt::format("{}", config.character_coverage)},
      {"normalization_rule_name", "identity"},
      {"remove_extra_whitespaces", "false"},
      {"add_dummy_prefix", "false"},
      {"pad_id", "0"},
      {"unk_id", "1"},
      {"bos_id", "2"},
      {"eos_id", "3"},
      {"pad_piece", controls[kPad]},
      {"unk_piece", controls[kUnknown]},
      {"bos_piece", controls[kBegin]},
      {"eos_piece", controls[kEnd]},
      {"control_symbols", symbols},
      {"max_sentence_length", std::to_string(1 << 30)},
      {"num_threads", std::to_string(kTrainerThreads)},
      {"minloglevel", "3"},
  };
  const std::vector<std::size_t> chosen = choose_lines(lines.size(), config.max_lines, config.seed);

  // In a thread of its own, because the trainer's threads inherit the cores of the one that starts them.
  std::string model, failure;
  std::exception_ptr thrown;
  std::thread trainer([&] {
    try {
      kernels::ThreadPool::unpin_this_thread();
      Lines iterator(lines, chosen);
      const auto status = sentencepiece::SentencePieceTrainer::Train(arguments, &iterator, &model);
      if (!status.ok()) failure = status.ToString();
    } catch (...) {
      thrown = std::current_exception();
    }
  });
  trainer.join();
  if (thrown) std::rethrow_exception(thrown);
  if (!failure.empty()) training_failed(config, failure);

  const std::uint64_t hash = hash_bytes(model);
  model.append(kSealOpening.data(), kSealOpening.size());
  model.append(reinterpret_cast<const char*>(&hash), sizeof hash);
  write_file(out, model);
}

Tokenizer::Tokenizer(const std::filesystem::path& path) : state_(std::make_unique<State>()) {
  const MappedFile file(path);
  const std::string_view all = file.text();
  if (all.size() < kSealSize || all.substr(all.size() - kSealSize, kSealOpening.size()) !=
                                    std::string_view(kSealOpening.data(), kSealOpening.size())) {
    user_error(
        "{}: not a tokenizer of this program, or cut short: it lacks the pieces for prefixes, separator and modes "
        "(`unfurl tokenizer train` makes one)",
        path.string());
  }
  const std::string_view model = all.substr(0, all.size() - kSealSize);
  std::uint64_t hash = 0;
  std::memcpy(&hash, all.data() + all.size() - sizeof hash, sizeof hash);
  if (hash != hash_bytes(model)) user_error("{}: the tokenizer is damaged: its checksum does not fit", path.string());
  const auto status = state_->processor.LoadFromSerializedProto({model.data(), model.size()});
  if (!status.ok()) user_error("{}: not a tokenizer: {}", path.string(), status.ToString());
  state_->fingerprint = hash_bytes(all);
  state_->read_pieces(path);
}

Tokenizer::~Tokenizer() = default;

void Tokenizer::State::read_pieces(const std::filesystem::path& path) {
  const int size = processor.GetPieceSize();
  const std::vector<std::string> controls = control_pieces();
  for (std::size_t i = 0; i < controls.size(); ++i) {
    const int id = static_cast<int>(i);
    const bool special = id < size && (id == kUnknown ? processor.IsUnknown(id) : processor.IsControl(id));
    if (!special || processor.IdToPiece(id) != controls[i]) {
      user_error("{}: the tokenizer lacks the piece {} at {} (`unfurl tokenizer train` makes one that has it)",
                 path.string(), controls[i], id);
    }
  }
  while (all_controls < size && processor.IsControl(all_controls) &&
         processor.IdToPiece(all_controls) == sentinel(all_controls - kControls)) {
    ++all_controls;
  }
  byte_ids.fill(kUnknown);
  pieces.resize(static_cast<std::size_t>(size));
  bytes.resize(pieces.size());
  bool merges = true;  // BPE's scores are 0, -1, -2, ... in the order of learning; unigram's are log-probabilities
  float last = 1;
  for (int id = 0; id < size; ++id) {
    const auto i = static_cast<std::size_t>(id);
    pieces[i] = processor.IdToPiece(id);
    if (id < all_controls) continue;
    if (processor.IsByte(id)) {
      unsigned value = 0;
      std::from_chars(pieces[i].data() + 3, pieces[i].data() + pieces[i].size() - 1, value, 16);
      bytes[i] = static_cast<char>(value);
      byte_ids[value & 0xFF] = id;
      byte_fallback = true;
      continue;
    }
    for (std::string_view rest = pieces[i]; !rest.empty();) {
      const bool blank = rest.starts_with(kBlank);
      bytes[i] += blank ? ' ' : rest[0];
      rest.remove_prefix(blank ? kBlank.size() : 1);
    }
    const float score = processor.GetScore(id);
    merges = merges && (last == 1 ? score == 0 : score == last - 1);
    last = score;
    segmenter.add(bytes[i], id, score);
  }
  model = merges ? TokenizerConfig::Model::bpe : TokenizerConfig::Model::unigram;
}

template <class Encode>
std::vector<std::int32_t> Tokenizer::State::encode(std::string_view text, const Encode& encode_part) const {
  if (!valid_utf8(text)) user_error("tokenizer: the text is not valid UTF-8");
  std::vector<std::int32_t> ids;
  if (text.empty()) return ids;
  // The library takes this character for a space, so it is spelt in bytes here.
  std::string part = " ";
  for (std::size_t begin = 0;;) {
    const std::size_t end = std::min(text.find(kBlank, begin), text.size());
    part += text.substr(begin, end - begin);
    if (!part.empty()) encode_part(part, ids);
    if (end == text.size()) return ids;
    for (const char byte : kBlank) ids.push_back(byte_ids[static_cast<unsigned char>(byte)]);
    part.clear();
    begin = end + kBlank.size();
  }
}

std::vector<std::int32_t> Tokenizer::encode(std::string_view text) const {
  return state_->encode(text, [&](const std::string& part, std::vector<std::int32_t>& ids) {
    std::vector<int> found;
    const auto status = state_->processor.Encode(part, &found);
    require(status.ok(), "tokenizer: {}", status.ToString());
    ids.insert(ids.end(), found.begin(), found.end());
  });
}

std::vector<std::int32_t> Tokenizer::encode_sampled(std::string_view text, double alpha, const PhiloxKey& key,
                                                    std::uint64_t index) const {
  require(alpha >= 0 && alpha <= 1, "encode_sampled: alpha must be in [0, 1], got {}", alpha);
  if (alpha == 0) return encode(text);
  Draws draws(key, index);
  std::vector<std::int32_t> ids = state_->encode(text, [&](const std::string& part, std::vector<std::int32_t>& out) {
    if (state_->model == TokenizerConfig::Model::bpe) {
      state_->segmenter.merge(part, alpha, draws, out);
    } else {
      state_->segmenter.sample(part, (1 - alpha) / alpha, draws, out);
    }
  });
  for (std::int32_t& id : ids) {
    if (id < 0) id = state_->byte_ids[static_cast<std::size_t>(-1 - id)];
  }
  return ids;
}

std::string Tokenizer::decode(std::span<const std::int32_t> ids) const {
  std::string text;
  for (const std::int32_t id : ids) text += bytes(id);
  if (text.starts_with(' ')) text.erase(0, 1);
  return repaired(std::move(text));
}

const std::string& Tokenizer::piece(std::int32_t id) const {
  require(id >= 0 && id < vocab_size(), "tokenizer: there is no piece {}, there are {}", id, vocab_size());
  return state_->pieces[static_cast<std::size_t>(id)];
}

const std::string& Tokenizer::bytes(std::int32_t id) const {
  require(id >= 0 && id < vocab_size(), "tokenizer: there is no piece {}, there are {}", id, vocab_size());
  return state_->bytes[static_cast<std::size_t>(id)];
}

std::int32_t Tokenizer::prefix_id(std::string_view name) const {
  return kFirstPrefix + static_cast<std::int32_t>(require_prefix(name));
}

std::int32_t Tokenizer::vocab_size() const { return static_cast<std::int32_t>(state_->pieces.size()); }
std::int32_t Tokenizer::first_learnt() const { return controls() + (state_->byte_fallback ? 256 : 0); }
std::int32_t Tokenizer::controls() const { return state_->all_controls; }
TokenizerConfig::Model Tokenizer::model() const { return state_->model; }
bool Tokenizer::byte_fallback() const { return state_->byte_fallback; }
std::uint64_t Tokenizer::fingerprint() const { return state_->fingerprint; }

}  // namespace unfurl::train
