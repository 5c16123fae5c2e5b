// matmul on a GPU: cuBLASLt with float sums. The library is loaded when the first product is to be computed, so that
// the binary starts without it.
//
// cuBLASLt stores by columns: a matrix of ours, [rows, cols] with a stride, is its [cols, rows] with that leading
// dimension. So it computes c^T = op(b)^T op(a)^T: b is its first operand, a its second, and nothing is copied.
#include <cublasLt.h>
#include <cuda_runtime_api.h>

#include <algorithm>
#include <cstring>
#include <map>
#include <mutex>
#include <stdexcept>

#include "kernels/matmul.h"
#include "kernels/matmul_choices.h"
#include "kernels/matmul_few_rows.h"
#include "kernels/shared_library.h"

namespace unfurl::kernels {
namespace {

#define UNFURL_TEXT_OF(number) #number
#define UNFURL_TEXT(macro) UNFURL_TEXT_OF(macro)
constexpr const char* kLibrary = "libcublasLt.so." UNFURL_TEXT(CUBLAS_VER_MAJOR);  // scripts/gpu_check.sh looks for it

constexpr std::size_t kWorkspace = std::size_t{32} << 20;  // bytes, what NVIDIA suggests for Hopper

/// The functions of the library that are used here.
struct Library {
  decltype(&cublasLtCreate) create;
  decltype(&cublasLtGetVersion) version;
  decltype(&cublasLtGetStatusString) status_string;
  decltype(&cublasLtMatmul) matmul;
  decltype(&cublasLtMatmulDescCreate) operation_create;
  decltype(&cublasLtMatmulDescSetAttribute) operation_set;
  decltype(&cublasLtMatmulDescDestroy) operation_destroy;
  decltype(&cublasLtMatrixLayoutCreate) layout_create;
  decltype(&cublasLtMatrixLayoutDestroy) layout_destroy;
  decltype(&cublasLtMatmulPreferenceCreate) preference_create;
  decltype(&cublasLtMatmulPreferenceSetAttribute) preference_set;
  decltype(&cublasLtMatmulPreferenceDestroy) preference_destroy;
  decltype(&cublasLtMatmulAlgoGetHeuristic) heuristic;

  static const Library& get() {
    static const Library library = load();
    return library;
  }

 private:
  static Library load() {
    const SharedLibrary file("cuBLASLt", kLibrary,
                             "install it (it comes with the CUDA toolkit), or add its folder to LD_LIBRARY_PATH");
    Library out{};
    file.find(out.create, "cublasLtCreate");
    file.find(out.version, "cublasLtGetVersion");
    file.find(out.status_string, "cublasLtGetStatusString");
    file.find(out.matmul, "cublasLtMatmul");
    file.find(out.operation_create, "cublasLtMatmulDescCreate");
    file.find(out.operation_set, "cublasLtMatmulDescSetAttribute");
    file.find(out.operation_destroy, "cublasLtMatmulDescDestroy");
    file.find(out.layout_create, "cublasLtMatrixLayoutCreate");
    file.find(out.layout_destroy, "cublasLtMatrixLayoutDestroy");
    file.find(out.preference_create, "cublasLtMatmulPreferenceCreate");
    file.find(out.preference_set, "cublasLtMatmulPreferenceSetAttribute");
    file.find(out.preference_destroy, "cublasLtMatmulPreferenceDestroy");
    file.find(out.heuristic, "cublasLtMatmulAlgoGetHeuristic");
    return out;
  }
};

void check(cublasStatus_t status, const char* what, const std::string& shape) {
  if (status == CUBLAS_STATUS_SUCCESS) return;
  throw std::runtime_error(std::string("cuda: ") + what + " for the product " + shape + ": " +
                           Library::get().status_string(status));
}

/// The library's handle on the current device.
cublasLtHandle_t handle_of(int device) {
  static std::mutex mutex;
  static std::map<int, cublasLtHandle_t> handles;
  const std::lock_guard lock(mutex);
  cublasLtHandle_t& handle = handles[device];
  if (handle == nullptr) {
    if (cudaSetDevice(device) != cudaSuccess) throw std::runtime_error("cuda: the device cannot be chosen");
    const cublasStatus_t status = Library::get().create(&handle);
    if (status != CUBLAS_STATUS_SUCCESS) {
      throw std::runtime_error(std::string("cuda: cuBLASLt does not start: ") + Library::get().status_string(status));
    }
  }
  return handle;
}

template <class T>
constexpr cudaDataType_t kType = sizeof(T) == 4 ? CUDA_R_32F : CUDA_R_16BF;
template <class T>
constexpr const char* kTypeName = sizeof(T) == 4 ? "f32" : "bf16";

/// One product, described to the library.
class Product {
 public:
  template <class T, class C>
  Product(Matrix<C> c, Matrix<const T> a, bool transpose_a, Matrix<const T> b, bool transpose_b, Index m, Index n,
          Index k, bool accumulate)
      : Product(a.data, b.data, c.data, accumulate ? 1.0f : 0.0f) {  // what follows may throw: it is whole by now
    const auto number = [](Index value) { return std::to_string(value); };
    shape_ = number(m) + "x" + number(n) + "x" + number(k) + (transpose_a ? " t" : " n") +
             (transpose_b ? " t " : " n ") + number(a.stride) + " " + number(b.stride) + " " + number(c.stride) + " " +
             kTypeName<T> + " " + kTypeName<C> + (accumulate ? " accumulate " : " overwrite ") +
             number(std::min({alignment(a.data), alignment(b.data), alignment(c.data)}));
    const Library& library = Library::get();
    check(library.operation_create(&operation_, CUBLAS_COMPUTE_32F, CUDA_R_32F), "cublasLtMatmulDescCreate", shape_);
    set(CUBLASLT_MATMUL_DESC_TRANSA, transpose_b ? CUBLAS_OP_T : CUBLAS_OP_N);
    set(CUBLASLT_MATMUL_DESC_TRANSB, transpose_a ? CUBLAS_OP_T : CUBLAS_OP_N);
    layout(first_, kType<T>, transpose_b ? k : n, transpose_b ? n : k, b.stride);
    layout(second_, kType<T>, transpose_a ? m : k, transpose_a ? k : m, a.stride);
    layout(out_, kType<C>, n, m, c.stride);
  }
  ~Product() {
    const Library& library = Library::get();
    if (out_ != nullptr) library.layout_destroy(out_);
    if (second_ != nullptr) library.layout_destroy(second_);
    if (first_ != nullptr) library.layout_destroy(first_);
    if (operation_ != nullptr) library.operation_destroy(operation_);
  }
  Product(const Product&) = delete;
  Product& operator=(const Product&) = delete;

  const std::string& shape() const { return shape_; }

  /// The library's suggestions, best first; at least one.
  std::vector<cublasLtMatmulAlgo_t> suggestions(const CudaQueue& queue, int most) const {
    const Library& library = Library::get();
    cublasLtMatmulPreference_t preference = nullptr;
    check(library.preference_create(&preference), "cublasLtMatmulPreferenceCreate", shape_);
    const auto limit = [&](cublasLtMatmulPreferenceAttributes_t attribute, auto value) {
      library.preference_set(preference, attribute, &value, sizeof value);
    };
    limit(CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, std::uint64_t{kWorkspace});
    limit(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, alignment(b_));
    limit(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, alignment(a_));
    limit(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, alignment(c_));
    limit(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, alignment(c_));
    std::vector<cublasLtMatmulHeuristicResult_t> results(static_cast<std::size_t>(most));
    int found = 0;
    const cublasStatus_t status = library.heuristic(handle_of(queue.device()), operation_, first_, second_, out_, out_,
                                                    preference, most, results.data(), &found);
    library.preference_destroy(preference);
    check(found == 0 && status == CUBLAS_STATUS_SUCCESS ? CUBLAS_STATUS_NOT_SUPPORTED : status,
          "cublasLtMatmulAlgoGetHeuristic", shape_);
    std::vector<cublasLtMatmulAlgo_t> out;
    for (int i = 0; i < found; ++i) {
      if (results[static_cast<std::size_t>(i)].state == CUBLAS_STATUS_SUCCESS) {
        out.push_back(results[static_cast<std::size_t>(i)].algo);
      }
    }
    if (out.empty()) check(CUBLAS_STATUS_NOT_SUPPORTED, "cublasLtMatmulAlgoGetHeuristic", shape_);
    return out;
  }

  void run(const CudaQueue& queue, const cublasLtMatmulAlgo_t& algorithm) const {
    const float one = 1;
    void* workspace = queue.scratch(kWorkspace);
    check(Library::get().matmul(handle_of(queue.device()), operation_, &one, b_, first_, a_, second_, &beta_, c_, out_,
                                c_, out_, &algorithm, workspace, kWorkspace, static_cast<cudaStream_t>(queue.stream())),
          "cublasLtMatmul", shape_);
  }

 private:
  Product(const void* a, const void* b, void* c, float beta) : a_(a), b_(b), c_(c), beta_(beta) {}
  template <class Value>
  void set(cublasLtMatmulDescAttributes_t attribute, Value value) {
    check(Library::get().operation_set(operation_, attribute, &value, sizeof value), "cublasLtMatmulDescSetAttribute",
          shape_);
  }
  void layout(cublasLtMatrixLayout_t& out, cudaDataType_t type, Index rows, Index cols, Index stride) {
    check(Library::get().layout_create(&out, type, static_cast<std::uint64_t>(rows), static_cast<std::uint64_t>(cols),
                                       stride),
          "cublasLtMatrixLayoutCreate", shape_);
  }
  /// Up to 16 bytes: no algorithm wants more.
  static std::uint32_t alignment(const void* data) {
    const auto address = reinterpret_cast<std::uintptr_t>(data);
    return static_cast<std::uint32_t>(std::min<std::uintptr_t>(16, address & (~address + 1)));
  }

  const void *a_, *b_;
  void* c_;
  float beta_;
  std::string shape_;
  cublasLtMatmulDesc_t operation_ = nullptr;
  cublasLtMatrixLayout_t first_ = nullptr, second_ = nullptr, out_ = nullptr;
};

struct Choices {
  std::mutex mutex;
  std::map<std::string, cublasLtMatmulAlgo_t> chosen, suggested;

  static Choices& get() {
    static Choices choices;
    return choices;
  }
};

cublasLtMatmulAlgo_t algorithm_of(const CudaQueue& queue, const Product& product) {
  Choices& choices = Choices::get();
  const std::lock_guard lock(choices.mutex);
  if (const auto at = choices.chosen.find(product.shape()); at != choices.chosen.end()) return at->second;
  if (const auto at = choices.suggested.find(product.shape()); at != choices.suggested.end()) return at->second;
  return choices.suggested[product.shape()] = product.suggestions(queue, 1)[0];
}

/// The products that cuBLASLt has nothing to do for.
template <class C>
bool trivial(const CudaQueue& queue, Matrix<C> c, Index m, Index n, Index k, bool accumulate) {
  if (m <= 0 || n <= 0) return true;
  if (k > 0) return false;
  for (Index i = 0; !accumulate && i < m; ++i) {
    queue.fill(c.row(i), 0, static_cast<std::size_t>(n) * sizeof(C));
  }
  return true;
}

}  // namespace

template <class Queue, class T, class C>
void matmul(const Queue& queue, Matrix<C> c, Matrix<const T> a, bool transpose_a, Matrix<const T> b, bool transpose_b,
            Index m, Index n, Index k, bool accumulate) {
  if (trivial(queue, c, m, n, k, accumulate)) return;
  if (m <= kFewRows && !transpose_a && transpose_b) return matmul_few_rows(queue, c, a, b, m, n, k, accumulate);
  const Product product(c, a, transpose_a, b, transpose_b, m, n, k, accumulate);
  product.run(queue, algorithm_of(queue, product));
}

template <class T, class C>
double choose_matmul(const CudaQueue& queue, Matrix<C> c, Matrix<const T> a, bool transpose_a, Matrix<const T> b,
                     bool transpose_b, Index m, Index n, Index k, bool accumulate, int candidates, int repetitions) {
  if (m <= 0 || n <= 0 || k <= 0) return 0;
  const Product product(c, a, transpose_a, b, transpose_b, m, n, k, accumulate);
  double best = -1;
  cublasLtMatmulAlgo_t choice{};
  const std::vector<cublasLtMatmulAlgo_t> suggestions = product.suggestions(queue, candidates);
  for (const cublasLtMatmulAlgo_t& algorithm : suggestions) {
    try {
      product.run(queue, algorithm);
    } catch (const std::runtime_error&) {  // it cannot do what it was suggested for: another one will
      if (&algorithm == &suggestions.back() && best < 0) throw;
      continue;
    }
    std::vector<double> seconds;
    for (int i = 0; i < repetitions; ++i) {
      const CudaQueue::Event before = queue.record();
      product.run(queue, algorithm);
      const CudaQueue::Event after = queue.record();
      after.wait();
      seconds.push_back(CudaQueue::seconds_between(before, after));
    }
    std::nth_element(seconds.begin(), seconds.begin() + repetitions / 2, seconds.end());
    const double median = seconds[static_cast<std::size_t>(repetitions / 2)];
    if (best < 0 || median < best) best = median, choice = algorithm;
  }
  Choices& choices = Choices::get();
  const std::lock_guard lock(choices.mutex);
  choices.chosen[product.shape()] = choice;
  return best;
}

std::vector<MatmulChoice> matmul_choices() {
  Choices& choices = Choices::get();
  const std::lock_guard lock(choices.mutex);
  std::vector<MatmulChoice> out;
  for (const auto& [shape, algorithm] : choices.chosen) {
    std::string text;
    unsigned char bytes[sizeof algorithm];
    std::memcpy(bytes, &algorithm, sizeof algorithm);
    for (const unsigned char byte : bytes) {
      text += "0123456789abcdef"[byte >> 4];
      text += "0123456789abcdef"[byte & 15];
    }
    out.push_back({shape, text});
  }
  return out;
}

void set_matmul_choices(const std::vector<MatmulChoice>& all) {
  std::map<std::string, cublasLtMatmulAlgo_t> chosen;
  for (const MatmulChoice& choice : all) {
    const std::string& text = choice.algorithm;
    unsigned char bytes[sizeof(cublasLtMatmulAlgo_t)];
    if (text.size() != 2 * sizeof bytes || text.find_first_not_of("0123456789abcdef") != std::string::npos) {
      throw std::runtime_error("cuda: the algorithm for the product " + choice.shape + " is not one: " + text);
    }
    const auto digit = [&](std::size_t i) {
      return static_cast<unsigned>(text[i] <= '9' ? text[i] - '0' : text[i] - 'a' + 10);
    };
    for (std::size_t i = 0; i < sizeof bytes; ++i) {
      bytes[i] = static_cast<unsigned char>(digit(2 * i) << 4 | digit(2 * i + 1));
    }
    std::memcpy(&chosen[choice.shape], bytes, sizeof bytes);
  }
  Choices& choices = Choices::get();
  const std::lock_guard lock(choices.mutex);
  choices.chosen = std::move(chosen);
}

std::size_t cublaslt_version() { return Library::get().version(); }

#define UNFURL_INSTANTIATE(T, C)                                                                                       \
  template void matmul(const CudaQueue&, Matrix<C>, Matrix<const T>, bool, Matrix<const T>, bool, Index, Index, Index, \
                       bool);                                                                                          \
  template double choose_matmul(const CudaQueue&, Matrix<C>, Matrix<const T>, bool, Matrix<const T>, bool, Index,      \
                                Index, Index, bool, int, int);
UNFURL_INSTANTIATE(float, float)
UNFURL_INSTANTIATE(bf16, bf16)
UNFURL_INSTANTIATE(bf16, float)
#undef UNFURL_INSTANTIATE

}  // namespace unfurl::kernels
