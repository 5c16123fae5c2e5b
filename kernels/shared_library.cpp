#include "kernels/shared_library.h"

#include <dlfcn.h>

#include <stdexcept>
#include <utility>

namespace unfurl::kernels {
namespace {

std::string version_name(std::size_t version) {
  return std::to_string(version / 10000) + "." + std::to_string(version / 100 % 100) + "." +
         std::to_string(version % 100);
}

}  // namespace

SharedLibrary::SharedLibrary(std::string product, std::string file, const std::string& advice)
    : product_(std::move(product)), file_(std::move(file)), handle_(dlopen(file_.c_str(), RTLD_NOW | RTLD_LOCAL)) {
  if (handle_ == nullptr) {
    throw std::runtime_error(product_ + ": " + file_ + " cannot be loaded: " + dlerror() + "; " + advice);
  }
}

void* SharedLibrary::address(const char* symbol) const {
  void* const found = dlsym(handle_, symbol);
  if (found == nullptr) throw std::runtime_error(product_ + ": " + file_ + " has no " + symbol);
  return found;
}

void SharedLibrary::require_version(std::size_t version, std::size_t oldest) const {
  if (version >= oldest) return;
  throw std::runtime_error(product_ + ": " + file_ + " is version " + version_name(version) + "; " +
                           version_name(oldest) + " or newer is needed");
}

}  // namespace unfurl::kernels
