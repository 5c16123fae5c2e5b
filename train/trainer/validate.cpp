#include "train/trainer/validate.h"

#include "train/trainer/inputs.h"

namespace unfurl::train {
namespace {

/// The bytes of the prompt of an example, by its index over all sources.
std::size_t prompt_bytes(const std::vector<Source>& sources, std::int64_t example) {
  for (const Source& source : sources) {
    if (example < source.shard->size()) return source.shard->prompt(example).size();
    example -= source.shard->size();
  }
  return 0;
}

}  // namespace

Validation validate(const Decoder& decoder, const FixedBatches& batches, const std::vector<Source>& sources,
                    Index max_tokens, DataParallel& ranks) {
  Validation out;
  const Allocator::GraphMemoryScope memory(Allocator::of(decoder.embedding().device()));
  // Every rank has a place for each micro-batch; whose it is goes round.
  const Index rounds = (batches.size() + ranks.ranks() - 1) / ranks.ranks();
  std::vector<double> losses(static_cast<std::size_t>(rounds * ranks.ranks()), 0);
  std::size_t bytes = 0;
  Index tokens = 0;
  for (Index i = 0; i < batches.size() && (max_tokens == 0 || tokens < max_tokens); ++i) {
    const Batch batch = batches.batch(i);
    check_batch(batch, decoder.config());
    const Tensor& like = decoder.embedding();
    const Index rank = i % ranks.ranks(), place = rank * rounds + i / ranks.ranks();
    if (rank == ranks.rank() && !batch.targets.empty()) {
      losses[static_cast<std::size_t>(place)] =
          decoder.loss(model_inputs(batch, 1, like.dtype(), like.device())).item();
    }
    out.targets += static_cast<Index>(batch.targets.size());
    tokens += batch.tokens;
    for (const std::int64_t example : batch.examples) bytes += prompt_bytes(sources, example);
  }
  ranks.gather("losses of the validation", losses.data(), static_cast<Index>(losses.size()));
  double loss = 0;
  for (Index i = 0; i < batches.size(); ++i) {
    loss += losses[static_cast<std::size_t>(i % ranks.ranks() * rounds + i / ranks.ranks())];
  }
  if (out.targets > 0) out.loss = loss / static_cast<double>(out.targets);
  if (bytes > 0) out.bits_per_byte = loss / 0.6931471805599453 / static_cast<double>(bytes);
  return out;
}

}  // namespace unfurl::train
