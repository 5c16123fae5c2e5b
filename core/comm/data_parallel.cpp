#include "core/comm/data_parallel.h"

#include <algorithm>
#include <utility>

#include "core/copy.h"
#include "core/trace.h"

namespace unfurl {
namespace {

constexpr ParameterGroup kTrained[] = {ParameterGroup::decayed, ParameterGroup::undecayed};

void wait_for(std::vector<Work>& works) {
  for (const Work& work : works) work.wait();
  works.clear();
}

}  // namespace

Index bucket_blocks_for(Index trained, int ranks) {
  constexpr Index kMiB = (Index{1} << 20) / (Index{sizeof(float)} * kernels::kNormBlock);  // in blocks
  const Index all = kernels::norm_blocks(trained), most = kMiB * std::max(16, 4 * ranks), many = std::max(64, ranks);
  const auto rounded = [](Index blocks, Index to) { return (blocks + to - 1) / to * to; };
  const Index blocks = std::max({std::min((all + 7) / 8, most), (all + 63) / 64, Index{1}});
  return blocks > many ? rounded(blocks, many)
         : blocks > 64 ? rounded(blocks, 64)
         : blocks > 8  ? rounded(blocks, 8)
                       : blocks;
}

DataParallel::DataParallel(Communicator& communicator, Parameters& parameters, bool sharded, Index bucket_blocks)
    : communicator_(communicator),
      parameters_(parameters),
      sharded_(sharded),
      bucket_(kernels::kNormBlock * (bucket_blocks > 0
                                         ? bucket_blocks
                                         : bucket_blocks_for(parameters.count(ParameterGroup::decayed) +
                                                                 parameters.count(ParameterGroup::undecayed),
                                                             communicator.size()))),
      queue_(parameters, bucket_) {
  for (const ParameterGroup group : kTrained) {
    const Tensor& gradients = parameters.gradients(group);
    if (gradients.defined()) device_ = gradients.device();
  }
  if (sharded && ranks() > 1) {
    parameters.share_masters({buckets(ParameterGroup::decayed), buckets(ParameterGroup::undecayed)});
  }
}

void DataParallel::connect(const NcclOptions& options) {
  if (ranks() == 1 || !NcclCommunicator::is_for(device_)) return;
  nccl_ = std::make_unique<NcclCommunicator>(communicator_, device_, options);
}

std::string DataParallel::description() const {
  return communicator_.description() + (nccl_ ? ", " + nccl_->description() : "");
}

DataParallel::~DataParallel() {
  try {  // the memory of what was started is given back next
    wait_for(sums_);
    wait_for(values_);
  } catch (const std::exception&) {  // this rank fails with something else already
  }
}

Work DataParallel::reduce_scatter(const char* what, float* data, const Shards& shards) const {
  if (nccl_) return nccl_->reduce_scatter(what, data, shards);
  require(device_ != Device::cuda, "ranks on GPUs are not connected");
  return communicator_.reduce_scatter(what, data, shards);
}

Work DataParallel::all_gather(const char* what, void* data, std::size_t element_bytes, const Shards& shards) const {
  if (nccl_) return nccl_->all_gather(what, data, element_bytes, shards);
  require(device_ != Device::cuda, "ranks on GPUs are not connected");
  return communicator_.all_gather(what, data, element_bytes, shards);
}

Buckets DataParallel::buckets(ParameterGroup group) const {
  const Tensor& gradients = parameters_.gradients(group);
  return {gradients.defined() ? gradients.numel() : 0, bucket_, ranks(), rank()};
}

OptimizerShare DataParallel::share() {
  if (!sharded_ || ranks() == 1) return {};
  OptimizerShare out{rank(), ranks(), bucket_, {}, {}};
  out.gather_sums = [this](double* sums, const Buckets& gradients) { gather_sums(sums, gradients); };
  out.updated = [this](ParameterGroup group, Index bucket) {
    const Buckets whole = buckets(group);
    const Range part = whole.of(bucket);
    values_.push_back(
        gather("updated weights", parameters_.values(group).span_of(part.begin, {part.size()}), whole.shards(bucket)));
  };
  return out;
}

/// Ranks share sums of blocks as they share the blocks.
void DataParallel::gather_sums(double* sums, const Buckets& gradients) const {
  std::vector<Work> works;
  for (Index bucket = 0; bucket < gradients.size(); ++bucket) {
    Shards shards = gradients.shards(bucket);
    shards.count = kernels::norm_blocks(shards.count);
    shards.block = 1;
    double* const first = sums + gradients.of(bucket).begin / kernels::kNormBlock;
    works.push_back(all_gather("norm of the gradients", first, sizeof(double), shards));
  }
  wait_for(works);
}

void DataParallel::reduce(const BucketQueue::Bucket& bucket, const SumOfSlots& sum) {
  const TraceScope trace("bucket of gradients");
  const Tensor own = sum(bucket.group, bucket.range);
  if (own.device() == Device::meta) return;
  const Shards shards = buckets(bucket.group).shards(bucket.number);
  sums_.push_back(reduce_scatter("sum of the gradients", own.data<float>(), shards));
  if (!sharded_) sums_.push_back(all_gather("sum of the gradients", own.data<float>(), sizeof(float), shards));
}

void DataParallel::reduce_during(Tape& tape, SumOfSlots sum) {
  if (ranks() == 1) return;
  queue_.watch(tape, [this, sum = std::move(sum)](const BucketQueue::Bucket& bucket) { reduce(bucket, sum); });
}

void DataParallel::marked_backward(Tape& tape, const Tensor& root) {
  if (!marks()) return tape.backward(root);
  std::size_t next = 0;
  const auto mark = [&](const BucketQueue::Bucket&) { nccl_->mark(next++); };
  queue_.watch(tape, mark);
  tape.backward(root);
  queue_.finish(mark);
}

void DataParallel::reduce_marked(const SumOfSlots& sum) {
  if (!marks()) return;
  for (std::size_t number = 0; number < queue_.all().size(); ++number) {
    nccl_->behind(number, [&] { reduce(queue_.all()[number], sum); });
  }
  marked_ = true;
}

void DataParallel::reduce_gradients(const SumOfSlots& sum) {
  if (ranks() == 1) return;
  if (!std::exchange(marked_, false)) {
    queue_.finish([&](const BucketQueue::Bucket& bucket) { reduce(bucket, sum); });
  }
  wait_for(sums_);
}

Work DataParallel::gather(const char* what, const Tensor& part, const Shards& shards) const {
  if (part.device() == Device::meta) return {};
  void* const data = part.dtype() == DType::bf16 ? static_cast<void*>(part.data<bf16>()) : part.data<float>();
  return all_gather(what, data, static_cast<std::size_t>(size_of(part.dtype())), shards);
}

void DataParallel::gather_values() {
  if (ranks() == 1 || !sharded_) return;
  const bool skipped = values_.empty();  // the update, on every rank
  for (const ParameterGroup group : kTrained) {
    const Tensor& gradients = parameters_.gradients(group);
    if (!gradients.defined()) continue;
    // While the values are on their way.
    Index at = 0;
    const auto clear_until = [&](Index end) {
      if (end > at) fill(gradients.span_of(at, {end - at}), 0);
    };
    for (const Range& own : buckets(group).own()) {
      clear_until(own.begin);
      at = own.end;
    }
    clear_until(gradients.numel());
  }
  if (!skipped) wait_for(values_);
}

std::unique_ptr<WholeMasters> DataParallel::gather_masters() {
  if (!parameters_.shares_masters()) return nullptr;
  std::unique_ptr<WholeMasters> out = rank() == 0 ? std::make_unique<WholeMasters>(parameters_) : nullptr;
  const MemoryName memory("master weights");
  for (const ParameterGroup group : kTrained) {
    const Tensor& masters = parameters_.masters(group);
    if (!masters.defined()) continue;
    const Buckets whole = buckets(group);
    const Tensor memory_of_one = Tensor::empty({whole.of(0).size()}, DType::f32, masters.device());
    Index at = 0;
    for (Index bucket = 0; bucket < whole.size(); ++bucket) {
      const Range all = whole.of(bucket), own = whole.own(bucket);
      const Tensor part = memory_of_one.span_of(0, {all.size()});
      if (own.size() > 0) {
        copy_into(part.span_of(own.begin - all.begin, {own.size()}), masters.span_of(at, {own.size()}));
      }
      at += own.size();
      gather("weights", part, whole.shards(bucket)).wait();
      if (out) copy_into(out->of(group).span_of(all.begin, {all.size()}), part);
    }
  }
  if (nccl_) nccl_->finish();
  return out;
}

void DataParallel::gather(const char* what, double* numbers, Index count) {
  if (ranks() == 1) return;
  if (nccl_) nccl_->check();
  communicator_.all_gather(what, numbers, sizeof(double), {count, ranks(), rank(), count / ranks()}).wait();
}

}  // namespace unfurl
