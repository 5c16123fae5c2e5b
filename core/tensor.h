// Tensor: storage, shape, element type, device. A handle: copies share the memory.
//
// A tensor is contiguous, or a column slice of a contiguous matrix: its last dimension is dense and one stride leads
// from row to row, where the rows are all leading dimensions taken together.
#pragma once
#include <memory>
#include <span>
#include <vector>

#include "core/allocator.h"
#include "core/shape.h"

namespace unfurl {

struct Variable;

class Tensor {
 public:
  /// An undefined tensor, which holds nothing.
  Tensor() = default;

  static Tensor empty(Shape shape, DType dtype, Device device = Device::cpu);
  static Tensor zeros(Shape shape, DType dtype, Device device = Device::cpu);
  template <class T>
  static Tensor from(const std::vector<T>& values, Shape shape, Device device = Device::cpu) {
    require(static_cast<Index>(values.size()) == shape.numel(), "Tensor::from: {} values for the shape {}",
            values.size(), shape);
    Tensor out = empty(shape, dtype_of<T>, device);
    out.write(values.data());
    return out;
  }
  /// Same shape, element type and device; contiguous.
  Tensor empty_like() const { return empty(shape_, dtype_, device()); }

  bool defined() const { return storage_ != nullptr; }
  const Shape& shape() const { return shape_; }
  int rank() const { return shape_.rank(); }
  Index size(int i) const { return shape_[i]; }
  Index numel() const { return shape_.numel(); }
  DType dtype() const { return dtype_; }
  Device device() const;

  /// All leading dimensions taken together, and the last.
  Index rows() const { return rank() == 0 ? 1 : cols() == 0 ? 0 : numel() / cols(); }
  Index cols() const { return rank() == 0 ? 1 : shape_[-1]; }
  /// Elements from row to row.
  Index row_stride() const { return row_stride_; }
  bool contiguous() const { return row_stride_ == cols() || rows() <= 1; }

  /// The elements; throws where T is not the tensor's type. Null where undefined, or on `meta`. Of a device that runs
  /// CUDA kernels, the address is for kernels: the host must not follow it.
  template <class T>
  T* data() const {
    if (!defined()) return nullptr;
    require(dtype_of<T> == dtype_, "Tensor::data: expected {}, got {}", name_of(dtype_of<T>), name_of(dtype_));
    return static_cast<T*>(bytes());
  }
  /// The same as a kernel's matrix; of null where undefined.
  template <class T>
  kernels::Matrix<T> matrix() const {
    return {data<T>(), row_stride_};
  }
  /// The elements in order, copied out. Waits for a device that runs CUDA kernels.
  template <class T>
  std::vector<T> values() const {
    const Tensor here = runs_cuda(device()) ? to(Device::cpu) : *this;
    std::vector<T> out;
    out.reserve(static_cast<std::size_t>(numel()));
    for (Index r = 0; r < rows(); ++r) {
      const T* row = here.data<T>() + r * here.row_stride_;
      out.insert(out.end(), row, row + cols());
    }
    return out;
  }
  /// The one element of a tensor of one, as double. Waits for a device that runs CUDA kernels.
  double item() const;
  /// The same elements on another device, contiguous, without any history; itself where it is there already. Waits for
  /// a device that runs CUDA kernels.
  Tensor to(Device device) const;
  /// Overwrites the elements from as many in host memory, dense; columns of a wider matrix too. When it returns they
  /// have been read.
  void write(const void* from) const;

  // Views: they share memory, and the gradient of a view is that view of the gradient.

  /// Columns [begin, end) of the last dimension.
  Tensor columns(Index begin, Index end) const;
  /// Another shape of as many elements. Contiguous tensors only.
  Tensor reshape(Shape shape) const;
  /// Elements [begin, begin + shape.numel()) of a contiguous tensor, as another shape. No gradient flows through it.
  Tensor span_of(Index begin, Shape shape) const;

  /// The same memory without any history.
  Tensor detach() const;

  /// Makes this a leaf whose gradient is added to `gradient` (same shape; of the accumulator type).
  void attach_gradient(const Tensor& gradient);
  /// The attached gradient, or undefined.
  Tensor gradient() const;
  bool needs_gradient() const;

 private:
  friend class Tape;
  friend class Backward;
  friend struct Handle;
  void* bytes() const;

  struct Storage;
  std::shared_ptr<Storage> storage_;
  std::shared_ptr<Variable> variable_;
  Index offset_ = 0;  // elements, from the start of the storage
  Index origin_ = 0;  // elements, where the variable starts in the storage
  Shape shape_;
  Index row_stride_ = 0;
  DType dtype_ = DType::f32;
};

/// What gradients are kept for: a tensor as it was made, whole. Views share it.
struct Variable {
  Shape shape;
  DType dtype = DType::f32;
  Device device = Device::cpu;
  bool needs_gradient = false;
  int producers = 0;  // operations on the tape that write it, or a slice of it
  Tensor attached;    // a leaf's gradient
};

}  // namespace unfurl
