#include "core/comm/nccl_library.h"

#include <cstdlib>

#include "kernels/shared_library.h"

namespace unfurl::nccl {
namespace {

/// The oldest whose calls that do not block are trusted here.
constexpr std::size_t kOldestVersion = 22003;

Library load() {
  const kernels::SharedLibrary file(
      "NCCL", is_named() ? std::getenv("UNFURL_NCCL") : "libnccl.so.2",
      "install NCCL (NVIDIA's libnccl2, or Python's nvidia-nccl-cu13), or add its folder to LD_LIBRARY_PATH");
  Library out{};
  file.find(out.version, "ncclGetVersion");
  out.version(&out.number);
  file.require_version(static_cast<std::size_t>(out.number), kOldestVersion);
  file.find(out.error_string, "ncclGetErrorString");
  file.find(out.last_error, "ncclGetLastError");
  file.find(out.get_unique_id, "ncclGetUniqueId");
  file.find(out.init_rank, "ncclCommInitRankConfig");
  file.find(out.async_error, "ncclCommGetAsyncError");
  file.find(out.abort, "ncclCommAbort");
  file.find(out.destroy, "ncclCommDestroy");
  file.find(out.group_start, "ncclGroupStart");
  file.find(out.group_end, "ncclGroupEnd");
  file.find(out.send, "ncclSend");
  file.find(out.receive, "ncclRecv");
  file.find(out.broadcast, "ncclBroadcast");
  file.find(out.reduce, "ncclReduce");
  file.find(out.reduce_scatter, "ncclReduceScatter");
  file.find(out.all_gather, "ncclAllGather");
  return out;
}

}  // namespace

const Library& Library::get() {
  static const Library library = load();
  return library;
}

bool is_named() {
  const char* const name = std::getenv("UNFURL_NCCL");
  return name != nullptr && *name != '\0';
}

}  // namespace unfurl::nccl
