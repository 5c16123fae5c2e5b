#include "core/product.h"

#include <fmt/core.h>

#include <set>

#include "core/device.h"

namespace unfurl {
namespace {
thread_local std::set<std::vector<Index>>* seen = nullptr;
}

ProductTuning::ProductTuning() { seen = new std::set<std::vector<Index>>; }
ProductTuning::~ProductTuning() { delete std::exchange(seen, nullptr); }

bool ProductTuning::wants(const std::vector<Index>& shape) { return seen != nullptr && seen->insert(shape).second; }

ProductChoices product_choices() {
  ProductChoices out;
#if defined(UNFURL_CUDA)
  try {
    out.library = fmt::format("cuBLASLt {} on {}", kernels::cublaslt_version(), properties_of(Device::cuda).name);
  } catch (const std::exception&) {  // it is not here, and so made no choice
    return out;
  }
  for (const kernels::MatmulChoice& choice : kernels::matmul_choices()) {
    out.choices.emplace_back(choice.shape, choice.algorithm);
  }
#endif
  return out;
}

bool set_product_choices(const ProductChoices& choices) {
  if (choices.library.empty() || choices.library != product_choices().library) return false;
#if defined(UNFURL_CUDA)
  std::vector<kernels::MatmulChoice> all;
  for (const auto& [shape, algorithm] : choices.choices) all.push_back({shape, algorithm});
  kernels::set_matmul_choices(all);
#endif
  return true;
}

}  // namespace unfurl
