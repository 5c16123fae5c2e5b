#include "train/trainer/evaluate.h"

#include <algorithm>
#include <cmath>
#include <map>

#include "train/corpus/ngrams.h"
#include "train/trainer/inputs.h"

namespace unfurl::train {
namespace {

constexpr const char* kCopyType = "copy";  // as corpus/copy_pairs.h writes them
constexpr double kBitsPerNat = 1.4426950408889634;

/// The pair of an example, by its index over all sources.
std::pair<const Shard*, Index> locate(const std::vector<Source>& sources, std::int64_t example) {
  for (const Source& source : sources) {
    if (example < source.shard->size()) return {source.shard.get(), example};
    example -= source.shard->size();
  }
  fail("evaluate: there is no example {}", example);
}

/// The totals of one pair, from the likelihoods of its targets (nats), the end token's last.
EvalTotals pair_totals(const Tokenizer& tokenizer, const Shard& shard, Index i, const std::int32_t* targets,
                       const float* losses, Index count) {
  const std::string_view query = shard.query(i), prompt = shard.prompt(i);
  EvalTotals out;
  out.pairs = 1;
  out.targets = count;
  out.truncated = count > 0 && targets[count - 1] == Tokenizer::kEnd ? 0 : 1;
  out.bytes = static_cast<Index>(prompt.size());
  const bool opening = prompt.starts_with(query);
  // A piece that reaches beyond the query's end is not forced. A text's first piece has a space that is no text.
  Index covered = -1;
  bool forced = opening;
  for (Index t = 0; t < count; ++t) {
    const double bits = static_cast<double>(losses[t]) * kBitsPerNat;
    covered += static_cast<Index>(tokenizer.bytes(targets[t]).size());
    forced = forced && covered <= static_cast<Index>(query.size()) && targets[t] != Tokenizer::kEnd;
    out.bits += bits;
    if (!forced) out.bits_forced += bits;
  }
  if (opening) {
    out.opening = 1;
    out.bits_after = out.bits_forced;
    out.bytes_after = static_cast<Index>(prompt.size() - query.size());
  }
  return out;
}

/// Calls visit(example, totals) for every pair of the batches.
template <class Visit>
void each_pair(const Decoder& decoder, const Tokenizer& tokenizer, const std::vector<Source>& sources,
               const FixedBatches& batches, const Visit& visit) {
  for (Index b = 0; b < batches.size(); ++b) {
    const Batch batch = batches.batch(b);
    if (batch.targets.empty()) continue;
    Tensor losses;
    decoder.loss(model_inputs(batch, 1, DType::f32, Device::cpu), {}, {.row_losses = &losses});
    std::size_t target = 0;
    for (Index d = 0; d < batch.documents; ++d) {
      const std::size_t first = target;
      const std::int32_t end = batch.cu_seqlens[static_cast<std::size_t>(d) + 1];
      while (target < batch.target_rows.size() && batch.target_rows[target] < end) ++target;
      const std::int64_t example = batch.examples[static_cast<std::size_t>(d)];
      const auto [shard, i] = locate(sources, example);
      visit(*shard, i,
            pair_totals(tokenizer, *shard, i, batch.targets.data() + first, losses.data<float>() + first,
                        static_cast<Index>(target - first)));
    }
  }
}

}  // namespace

double EvalTotals::loss() const { return targets > 0 ? bits / kBitsPerNat / static_cast<double>(targets) : 0; }
double EvalTotals::perplexity() const { return std::exp(loss()); }

void EvalTotals::add(const EvalTotals& other) {
  pairs += other.pairs;
  opening += other.opening;
  targets += other.targets;
  truncated += other.truncated;
  bits += other.bits;
  bits_forced += other.bits_forced;
  bits_after += other.bits_after;
  bytes += other.bytes;
  bytes_after += other.bytes_after;
}

EvalResult evaluate(const Decoder& decoder, const Tokenizer& tokenizer, const std::vector<Source>& sources,
                    const std::vector<Source>& training, const EvalSettings& settings) {
  SeenNgrams seen(static_cast<std::size_t>(settings.ngram));
  for (const Source& source : training) {
    for (Index i = 0; i < source.shard->size(); ++i) seen.add(source.shard->prompt(i));
  }
  EvalResult out;
  std::map<std::string, EvalTotals, std::less<>> types;
  const FixedBatches batches(sources, settings.loader, FixedBatches::Form::conditional, settings.max_pairs);
  each_pair(decoder, tokenizer, sources, batches, [&](const Shard& shard, Index i, const EvalTotals& totals) {
    types[std::string(shard.type(i))].add(totals);
    if (shard.type(i) == kCopyType) return;
    out.all.add(totals);
    if (totals.opening > 0) out.opening.add(totals);
    if (seen.share(shard.prompt(i)) < settings.seen_share) out.unseen.add(totals);
  });
  for (auto& [name, totals] : types) out.types.push_back({name.empty() ? "(none)" : name, totals});
  if (settings.unconditional) {
    out.has_unconditional = true;
    const FixedBatches alone(sources, settings.loader, FixedBatches::Form::unconditional, settings.max_pairs);
    each_pair(decoder, tokenizer, sources, alone, [&](const Shard& shard, Index i, const EvalTotals& totals) {
      if (shard.type(i) != kCopyType) out.unconditional.add(totals);
    });
  }
  return out;
}

}  // namespace unfurl::train
