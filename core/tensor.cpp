#include "core/tensor.h"

#include <cstring>

#include "core/copy.h"
#include "core/device.h"

namespace unfurl {

struct Tensor::Storage {
  Storage(std::size_t bytes, Device on) : device(on), memory(Allocator::of(on).allocate(bytes)) {}
  ~Storage() { Allocator::of(device).free(memory); }
  Storage(const Storage&) = delete;
  Storage& operator=(const Storage&) = delete;
  Device device;
  void* memory;
};

Tensor Tensor::empty(Shape shape, DType dtype, Device device) {
  Tensor out;
  out.storage_ = std::make_shared<Storage>(static_cast<std::size_t>(shape.numel() * size_of(dtype)), device);
  out.variable_ = std::make_shared<Variable>();
  out.variable_->shape = shape;
  out.variable_->dtype = dtype;
  out.variable_->device = device;
  out.shape_ = shape;
  out.dtype_ = dtype;
  out.row_stride_ = out.cols();
  return out;
}

Tensor Tensor::zeros(Shape shape, DType dtype, Device device) {
  Tensor out = empty(shape, dtype, device);
  void* const memory = out.bytes();
  const auto bytes = static_cast<std::size_t>(out.numel() * size_of(dtype));
  if (device == Device::cpu) std::memset(memory, 0, bytes);
  if (runs_cuda(device)) on_device(device, [&](const auto& queue) { queue.fill(memory, 0, bytes); });
  return out;
}

Device Tensor::device() const {
  require(defined(), "Tensor::device: the tensor is undefined");
  return storage_->device;
}

void* Tensor::bytes() const {
  if (!defined() || storage_->device == Device::meta) return nullptr;
  return static_cast<std::byte*>(storage_->memory) + offset_ * size_of(dtype_);
}

double Tensor::item() const {
  require(numel() == 1, "Tensor::item: expected one element, got {}", shape_);
  if (device() == Device::meta) return 0;
  if (runs_cuda(device())) return to(Device::cpu).item();
  if (dtype_ == DType::f64) return *data<double>();
  if (dtype_ == DType::bf16) return to_float(*data<bf16>());
  if (dtype_ == DType::i32) return *data<std::int32_t>();
  return *data<float>();
}

Tensor Tensor::to(Device target) const {
  if (device() == target) return *this;
  Tensor out = empty(shape_, dtype_, target);
  copy_into(out, *this);
  return out;
}

void Tensor::write(const void* from) const {
  if (device() == Device::meta || numel() == 0) return;
  const std::size_t row_bytes = static_cast<std::size_t>(cols() * size_of(dtype_));
  if (device() == Device::cpu) {
    for (Index r = 0; r < rows(); ++r) {
      std::memcpy(static_cast<std::byte*>(bytes()) + r * row_stride_ * size_of(dtype_),
                  static_cast<const std::byte*>(from) + static_cast<std::size_t>(r) * row_bytes, row_bytes);
    }
  } else if (contiguous()) {
    on_device(device(), [&](const auto& queue) {
      queue.copy(bytes(), from, static_cast<std::size_t>(rows()) * row_bytes);
      queue.synchronize();
    });
  } else {
    const Tensor whole = empty(shape_, dtype_, device());
    whole.write(from);
    copy_into(*this, whole);
  }
}

Tensor Tensor::columns(Index begin, Index end) const {
  require(rank() > 0 && 0 <= begin && begin <= end && end <= cols(), "Tensor::columns: no columns [{}, {}) in {}",
          begin, end, shape_);
  Tensor out = *this;
  out.offset_ += begin;
  out.shape_ = shape_.with_last(end - begin);
  return out;
}

Tensor Tensor::reshape(Shape shape) const {
  require(contiguous(), "Tensor::reshape: the tensor {} is a slice", shape_);
  require(shape.numel() == numel(), "Tensor::reshape: {} elements do not fit {}", numel(), shape);
  Tensor out = *this;
  out.shape_ = shape;
  out.row_stride_ = out.cols();
  return out;
}

Tensor Tensor::span_of(Index begin, Shape shape) const {
  require(contiguous() && begin >= 0 && begin + shape.numel() <= numel(), "Tensor::span_of: no {} at {} in {}", shape,
          begin, shape_);
  Tensor out = *this;
  out.offset_ += begin;
  out.shape_ = shape;
  out.row_stride_ = out.cols();
  return out.detach();
}

Tensor Tensor::detach() const {
  require(contiguous(), "Tensor::detach: the tensor {} is a slice", shape_);
  Tensor out = *this;
  out.origin_ = offset_;
  out.variable_ = std::make_shared<Variable>();
  out.variable_->shape = shape_;
  out.variable_->dtype = dtype_;
  out.variable_->device = device();
  return out;
}

void Tensor::attach_gradient(const Tensor& gradient) {
  require(defined() && variable_->shape == shape_, "attach_gradient: only a whole tensor is a leaf");
  require(gradient.shape() == shape_ && gradient.contiguous() && gradient.dtype() == accumulator(dtype_),
          "attach_gradient: expected a contiguous {} {}, got {} {}", name_of(accumulator(dtype_)), shape_,
          name_of(gradient.dtype()), gradient.shape());
  variable_->attached = gradient;
  variable_->needs_gradient = true;
}

Tensor Tensor::gradient() const { return defined() ? variable_->attached : Tensor(); }

bool Tensor::needs_gradient() const { return defined() && variable_->needs_gradient; }

}  // namespace unfurl
