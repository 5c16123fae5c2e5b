#include "kernels/cudnn.h"

#include <stdexcept>
#include <utility>

#include "kernels/shared_library.h"

namespace unfurl::kernels::cudnn {
namespace {

Library load(const std::string& name) {
  const SharedLibrary file("cuDNN", name, "install cuDNN 9, or add its folder to LD_LIBRARY_PATH");
  Library out{};
  file.find(out.version, "cudnnGetVersion");
  file.require_version(out.version(), kOldestVersion);
  file.find(out.error_string, "cudnnGetErrorString");
  file.find(out.last_error, "cudnnGetLastErrorString");
  file.find(out.create, "cudnnCreate");
  file.find(out.set_stream, "cudnnSetStream");
  file.find(out.create_descriptor, "cudnnBackendCreateDescriptor");
  file.find(out.destroy_descriptor, "cudnnBackendDestroyDescriptor");
  file.find(out.finalize, "cudnnBackendFinalize");
  file.find(out.set_attribute, "cudnnBackendSetAttribute");
  file.find(out.get_attribute, "cudnnBackendGetAttribute");
  file.find(out.execute, "cudnnBackendExecute");
  return out;
}

}  // namespace

const Library& Library::get() {
  static const Library library = load("libcudnn.so.9");
  return library;
}

std::string why_unusable(const std::string& name) {
  try {
    load(name);
    return "";
  } catch (const std::exception& error) {
    return error.what();
  }
}

void check(int status, const std::string& what) {
  if (status == 0) return;
  const Library& library = Library::get();
  char details[512] = "";
  library.last_error(details, sizeof details);
  std::string line = details;
  for (char& c : line) {
    if (c == '\n') c = ' ';
  }
  throw std::runtime_error("cuDNN: " + what + ": " + library.error_string(status) + (line.empty() ? "" : ": " + line));
}

Descriptor::Descriptor(Kind kind) {
  check(Library::get().create_descriptor(kind, &descriptor_), "making descriptor " + std::to_string(kind));
}

Descriptor::~Descriptor() {
  if (descriptor_ != nullptr) Library::get().destroy_descriptor(descriptor_);
}

Descriptor::Descriptor(Descriptor&& other) noexcept : descriptor_(std::exchange(other.descriptor_, nullptr)) {}

Descriptor& Descriptor::operator=(Descriptor&& other) noexcept {
  std::swap(descriptor_, other.descriptor_);
  return *this;
}

Descriptor& Descriptor::set(Attribute name, Type type, std::int64_t count, const void* values) {
  check(Library::get().set_attribute(descriptor_, name, type, count, values), "attribute " + std::to_string(name));
  return *this;
}

Descriptor& Descriptor::set(Attribute name, const std::vector<std::int64_t>& values) {
  return set(name, TYPE_INT64, static_cast<std::int64_t>(values.size()), values.data());
}

Descriptor& Descriptor::set(Attribute name, const Descriptor& value) {
  return set(name, TYPE_BACKEND_DESCRIPTOR, 1, &value.descriptor_);
}

Descriptor& Descriptor::finalize(const std::string& what) {
  check(Library::get().finalize(descriptor_), what);
  return *this;
}

std::int64_t Descriptor::read(Attribute name, Type type, std::int64_t room, void* values) const {
  std::int64_t count = 0;
  check(Library::get().get_attribute(descriptor_, name, type, room, &count, values),
        "reading attribute " + std::to_string(name));
  return count;
}

}  // namespace unfurl::kernels::cudnn
