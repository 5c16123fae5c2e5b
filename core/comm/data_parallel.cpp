#include "core/comm/data_parallel.h"

#include "core/copy.h"

namespace unfurl {
namespace {

constexpr ParameterGroup kTrained[] = {ParameterGroup::decayed, ParameterGroup::undecayed};

}  // namespace

DataParallel::DataParallel(Communicator& communicator, Parameters& parameters, bool sharded)
    : communicator_(communicator), parameters_(parameters), sharded_(sharded) {
  for (const ParameterGroup group : kTrained) {
    const Tensor& gradients = parameters.gradients(group);
    if (gradients.defined()) device_ = gradients.device();
  }
}

void DataParallel::connect(const NcclOptions& options) {
  if (ranks() == 1 || !NcclCommunicator::is_for(device_)) return;
  nccl_ = std::make_unique<NcclCommunicator>(communicator_, device_, options);
}

std::string DataParallel::description() const {
  return communicator_.description() + (nccl_ ? ", " + nccl_->description() : "");
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

OptimizerShare DataParallel::share() const {
  if (!sharded_ || ranks() == 1) return {};
  return {rank(), ranks(), [this](double* sums, const Shards& shards) {
            all_gather("norm of the gradients", sums, sizeof(double), shards).wait();
          }};
}

void DataParallel::reduce_gradients() {
  if (ranks() == 1) return;
  std::vector<Work> works;
  for (const ParameterGroup group : kTrained) {
    const Tensor& gradients = parameters_.gradients(group);
    if (!gradients.defined()) continue;
    const Shards shards{gradients.numel(), ranks(), rank()};
    works.push_back(reduce_scatter("sum of the gradients", gradients.data<float>(), shards));
    if (!sharded_) {
      works.push_back(all_gather("sum of the gradients", gradients.data<float>(), sizeof(float), shards));
    }
  }
  for (const Work& work : works) work.wait();
}

void DataParallel::gather(const char* what, const Tensor& flat) {
  void* const data = flat.dtype() == DType::bf16 ? static_cast<void*>(flat.data<bf16>()) : flat.data<float>();
  all_gather(what, data, static_cast<std::size_t>(size_of(flat.dtype())), {flat.numel(), ranks(), rank()}).wait();
}

void DataParallel::gather_values() {
  if (ranks() == 1 || !sharded_) return;
  for (const ParameterGroup group : kTrained) {
    const Tensor &values = parameters_.values(group), &gradients = parameters_.gradients(group);
    if (!values.defined()) continue;
    gather("updated weights", values);
    const Range own = Shards{gradients.numel(), ranks(), rank()}.own();
    fill(gradients.span_of(0, {own.begin}), 0);
    fill(gradients.span_of(own.end, {gradients.numel() - own.end}), 0);
  }
}

void DataParallel::gather_masters() {
  if (ranks() == 1 || !sharded_) return;
  for (const ParameterGroup group : kTrained) {
    const Tensor& masters = parameters_.masters(group);
    if (masters.defined() && masters.dtype() != parameters_.values(group).dtype()) gather("weights", masters);
  }
  if (nccl_) nccl_->finish();
}

void DataParallel::gather(const char* what, double* numbers, Index count) {
  if (ranks() == 1) return;
  if (nccl_) nccl_->check();
  communicator_.all_gather(what, numbers, sizeof(double), {count, ranks(), rank(), count / ranks()}).wait();
}

}  // namespace unfurl
