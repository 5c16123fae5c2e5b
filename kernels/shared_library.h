// A library that is loaded at run time, so that the program starts where it is missing. What fails throws
// std::runtime_error with one line.
#pragma once
#include <cstddef>
#include <string>

namespace unfurl::kernels {

class SharedLibrary {
 public:
  /// `product` is what its makers call it, `file` what the loader looks for, `advice` what to do where it is missing:
  /// "cuDNN: libcudnn.so.9 cannot be loaded: ...; install cuDNN 9". Stays loaded to the end of the process.
  SharedLibrary(std::string product, std::string file, const std::string& advice);

  /// Throws "cuDNN: libcudnn.so.9 has no cudnnCreate".
  template <class Function>
  void find(Function*& function, const char* symbol) const {
    function = reinterpret_cast<Function*>(address(symbol));
  }

  /// Throws "cuDNN: libcudnn.so.9 is version 9.8.0; 9.10.2 or newer is needed". A version is 10000 major + 100 minor +
  /// patch.
  void require_version(std::size_t version, std::size_t oldest) const;

 private:
  void* address(const char* symbol) const;
  std::string product_, file_;
  void* handle_;
};

}  // namespace unfurl::kernels
