#include "train/data/shard.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <unordered_map>

#include "core/error.h"
#include "core/json.h"
#include "kernels/thread_pool.h"
#include "train/corpus/prefix.h"

namespace unfurl::train {
namespace {

static_assert(std::endian::native == std::endian::little);

constexpr std::array<char, 8> kMagic = {'U', 'N', 'F', 'S', 'H', 'A', 'R', 'D'};
constexpr std::uint64_t kVersion = 2;
constexpr Index kTokenFields = 2, kTextFields = 5;
constexpr Index kTextsPerTask = 64;
constexpr std::uint64_t kSimulated = 1;  // of the header's flags: a pair is simulated

struct Header {
  std::array<char, 8> magic = kMagic;
  std::uint64_t version = kVersion;
  std::uint64_t fingerprint = 0;
  std::uint64_t hash = 0;  // of the header with 0 here, then of the rest
  std::uint64_t examples = 0, tokens = 0, text = 0;
  std::uint64_t flags = 0;
};
static_assert(sizeof(Header) == 64);

template <class T>
std::string_view raw(const std::vector<T>& values) {
  return {reinterpret_cast<const char*>(values.data()), values.size() * sizeof(T)};
}

std::uint64_t header_hash(Header header) {
  header.hash = 0;
  return hash_bytes({reinterpret_cast<const char*>(&header), sizeof header});
}

std::string extras(const Pair& pair) {
  if (pair.content.empty() && pair.flavors.empty() && pair.source.empty() && !pair.simulated) return {};
  Json json = Json::Object{{"source", pair.source}};
  for (const auto& [name, list] : {std::pair{"content", &pair.content}, std::pair{"flavors", &pair.flavors}}) {
    Json words = Json::array();
    for (const std::string& word : *list) words.push_back(word);
    json[name] = std::move(words);
  }
  if (pair.simulated) json["simulated"] = true;
  return json.dump();
}

}  // namespace

std::uint64_t write_shard(const std::filesystem::path& path, const Tokenizer& tokenizer, std::span<const Pair> all,
                          std::span<const std::int64_t> pairs) {
  const auto count = static_cast<Index>(pairs.size());
  const auto pair = [&](Index i) -> const Pair& {
    const std::int64_t at = pairs[static_cast<std::size_t>(i)];
    require(at >= 0 && at < static_cast<std::int64_t>(all.size()), "write_shard: there is no pair {}", at);
    return all[static_cast<std::size_t>(at)];
  };
  // Many pairs have the same prompt: each text is encoded once.
  std::unordered_map<std::string_view, std::size_t> place;
  std::vector<std::string_view> texts;
  std::vector<std::size_t> text_of;  // of query, prompt, query, prompt, ...
  for (Index i = 0; i < count; ++i) {
    for (const std::string* text : {&pair(i).query, &pair(i).prompt}) {
      const auto [entry, added] = place.try_emplace(*text, texts.size());
      if (added) texts.push_back(*text);
      text_of.push_back(entry->second);
    }
  }
  std::vector<std::vector<std::int32_t>> encoded(texts.size());
  const auto text_count = static_cast<Index>(texts.size());
  kernels::ThreadPool::global().parallel_for((text_count + kTextsPerTask - 1) / kTextsPerTask, [&](Index task) {
    for (Index i = task * kTextsPerTask; i < std::min(text_count, (task + 1) * kTextsPerTask); ++i) {
      encoded[static_cast<std::size_t>(i)] = tokenizer.encode(texts[static_cast<std::size_t>(i)]);
    }
  });

  std::vector<std::uint64_t> token_ends, text_ends;
  std::vector<std::int32_t> tokens, prefixes;
  std::string text;
  Header header;
  for (const std::size_t at : text_of) {
    tokens.insert(tokens.end(), encoded[at].begin(), encoded[at].end());
    token_ends.push_back(tokens.size());
  }
  for (Index i = 0; i < count; ++i) {
    const Pair& p = pair(i);
    if (p.simulated) header.flags |= kSimulated;
    prefixes.push_back(p.prefix.empty() ? -1 : tokenizer.prefix_id(p.prefix));
    for (const std::string& field : {p.query, p.prompt, p.id, p.type, extras(p)}) {
      text += field;
      text_ends.push_back(text.size());
    }
  }
  header.fingerprint = tokenizer.fingerprint();
  header.examples = pairs.size();
  header.tokens = tokens.size();
  header.text = text.size();
  header.hash = header_hash(header);
  const std::array<std::string_view, 5> sections = {raw(token_ends), raw(text_ends), raw(tokens), raw(prefixes), text};
  for (const std::string_view section : sections) header.hash = hash_bytes(section, header.hash);

  FileWriter file(path);
  file.write(&header, sizeof header);
  for (const std::string_view section : sections) file.write(section);
  file.commit();
  return header.hash;
}

Shard::Shard(const std::filesystem::path& path, const Tokenizer& tokenizer) : path_(path), file_(path) {
  const std::string name = path.string();
  const std::string_view all = file_.text();
  if (all.size() < kMagic.size() || all.substr(0, kMagic.size()) != std::string_view(kMagic.data(), kMagic.size())) {
    user_error("{}: not a token shard (`unfurl train` writes them from pairs)", name);
  }
  Header header;
  if (all.size() < sizeof header) user_error("{}: the token shard is cut short; delete it to have it made again", name);
  std::memcpy(&header, all.data(), sizeof header);
  if (header.version != kVersion) {
    user_error("{}: a token shard of version {}, this program reads version {}; delete it to have it made again", name,
               header.version, kVersion);
  }
  // No count can pass the file's size, so that what follows does not overflow.
  const std::uint64_t most = all.size();
  std::array<std::string_view, 5> sections;
  bool whole = header.examples <= most && header.tokens <= most && header.text <= most;
  if (whole) {
    const std::array<std::uint64_t, 5> sizes = {
        header.examples * kTokenFields * sizeof(std::uint64_t), header.examples * kTextFields * sizeof(std::uint64_t),
        header.tokens * sizeof(std::int32_t), header.examples * sizeof(std::int32_t), header.text};
    std::string_view rest = all.substr(sizeof header);
    for (std::size_t i = 0; i < sizes.size() && whole; ++i) {
      whole = sizes[i] <= rest.size();
      sections[i] = rest.substr(0, sizes[i]);
      if (whole) rest.remove_prefix(sizes[i]);
    }
    whole = whole && rest.empty();
  }
  if (!whole) user_error("{}: the token shard is cut short or damaged; delete it to have it made again", name);
  std::uint64_t hash = header_hash(header);
  for (const std::string_view section : sections) hash = hash_bytes(section, hash);
  if (hash != header.hash) {
    user_error("{}: the token shard is damaged, its checksum does not fit; delete it to have it made again", name);
  }
  if (header.fingerprint != tokenizer.fingerprint()) {
    user_error("{}: the token shard was made with another tokenizer; delete it to have it made again", name);
  }

  examples_ = static_cast<Index>(header.examples);
  tokens_ = static_cast<Index>(header.tokens);
  content_hash_ = header.hash;
  simulated_ = (header.flags & kSimulated) != 0;
  token_ends_ = reinterpret_cast<const std::uint64_t*>(sections[0].data());
  text_ends_ = reinterpret_cast<const std::uint64_t*>(sections[1].data());
  token_data_ = reinterpret_cast<const std::int32_t*>(sections[2].data());
  prefixes_ = reinterpret_cast<const std::int32_t*>(sections[3].data());
  text_data_ = sections[4].data();
  const auto ascend = [](const std::uint64_t* ends, Index count, std::uint64_t last) {
    return count == 0 ? last == 0 : std::is_sorted(ends, ends + count) && ends[count - 1] == last;
  };
  const auto in_vocabulary = [&](std::int32_t id) { return id >= 0 && id < tokenizer.vocab_size(); };
  const auto is_prefix_piece = [](std::int32_t id) {
    return id == -1 || (id >= Tokenizer::kFirstPrefix && id < Tokenizer::kModeR);
  };
  if (!ascend(token_ends_, kTokenFields * examples_, header.tokens) ||
      !ascend(text_ends_, kTextFields * examples_, header.text) ||
      !std::all_of(token_data_, token_data_ + tokens_, in_vocabulary) ||
      !std::all_of(prefixes_, prefixes_ + examples_, is_prefix_piece)) {
    user_error("{}: the token shard is damaged; delete it to have it made again", name);
  }
}

std::span<const std::int32_t> Shard::token_range(Index example, Index field) const {
  require(example >= 0 && example < examples_, "shard: there is no example {}, there are {}", example, examples_);
  const Index at = kTokenFields * example + field;
  const std::uint64_t begin = at == 0 ? 0 : token_ends_[at - 1];
  return {token_data_ + begin, token_ends_[at] - begin};
}

std::string_view Shard::text_range(Index example, Index field) const {
  require(example >= 0 && example < examples_, "shard: there is no example {}, there are {}", example, examples_);
  const Index at = kTextFields * example + field;
  const std::uint64_t begin = at == 0 ? 0 : text_ends_[at - 1];
  return {text_data_ + begin, text_ends_[at] - begin};
}

std::int32_t Shard::prefix(Index i) const {
  require(i >= 0 && i < examples_, "shard: there is no example {}, there are {}", i, examples_);
  return prefixes_[i];
}

std::span<const std::int32_t> Shard::query_tokens(Index i) const { return token_range(i, 0); }
std::span<const std::int32_t> Shard::prompt_tokens(Index i) const { return token_range(i, 1); }
std::string_view Shard::query(Index i) const { return text_range(i, 0); }
std::string_view Shard::prompt(Index i) const { return text_range(i, 1); }
std::string_view Shard::id(Index i) const { return text_range(i, 2); }
std::string_view Shard::type(Index i) const { return text_range(i, 3); }

Pair Shard::pair(Index i) const {
  Pair out;
  out.query = query(i);
  out.prompt = prompt(i);
  out.id = id(i);
  out.type = type(i);
  if (prefix(i) >= 0) out.prefix = kPrefixes[static_cast<std::size_t>(prefix(i) - Tokenizer::kFirstPrefix)].name;
  if (const std::string_view json = text_range(i, 4); !json.empty()) {
    const Json parsed = Json::parse(json);
    out.source = parsed.at("source").as_string();
    out.simulated = parsed.find("simulated") != nullptr;
    for (const Json& word : parsed.at("content").as_array()) out.content.push_back(word.as_string());
    for (const Json& word : parsed.at("flavors").as_array()) out.flavors.push_back(word.as_string());
  }
  return out;
}

}  // namespace unfurl::train
