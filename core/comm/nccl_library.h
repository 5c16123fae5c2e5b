// NCCL's C interface, as far as it is used here. The library is loaded when it is first asked for, so that the program
// is built without its header and starts without it.
//
// Names, numbers and layouts are those of nccl.h as NVIDIA publishes it (github.com/NVIDIA/nccl, src/nccl.h.in; NCCL
// user guide, "NCCL API"), of NCCL 2.20 and newer.
#pragma once
#include <climits>
#include <cstddef>
#include <string>

namespace unfurl::nccl {

/// ncclResult_t.
constexpr int kSuccess = 0, kInProgress = 7;
constexpr bool is_error(int result) { return result != kSuccess && result != kInProgress; }
/// ncclDataType_t.
constexpr int kUint8 = 1, kFloat32 = 7;
/// ncclRedOp_t.
constexpr int kSum = 0;

/// ncclUniqueId.
struct UniqueId {
  char bytes[128];
};

/// ncclConfig_t as in 2.14, where it came from: newer libraries read as much of it as there was in its version.
struct Config {
  std::size_t size = sizeof(Config);
  unsigned magic = 0xcafebeef;
  unsigned version = 21400;
  int blocking = 0;         // calls return at once, and how they went is asked for
  int undefined = INT_MIN;  // padding
};

/// ncclComm_t.
using Comm = struct OpaqueComm*;

/// The library's functions.
struct Library {
  int number;  // of the version: 22809 is 2.28.9
  int (*version)(int* version);
  const char* (*error_string)(int result);
  const char* (*last_error)(Comm comm);
  int (*get_unique_id)(UniqueId* id);
  int (*init_rank)(Comm* comm, int ranks, UniqueId id, int rank, Config* config);
  int (*async_error)(Comm comm, int* error);
  int (*abort)(Comm comm);
  int (*destroy)(Comm comm);
  int (*group_start)();
  int (*group_end)();
  int (*send)(const void* from, std::size_t count, int type, int peer, Comm comm, void* stream);
  int (*receive)(void* to, std::size_t count, int type, int peer, Comm comm, void* stream);
  int (*broadcast)(const void* from, void* to, std::size_t count, int type, int root, Comm comm, void* stream);
  int (*reduce)(const void* from, void* to, std::size_t count, int type, int operation, int root, Comm comm,
                void* stream);
  int (*reduce_scatter)(const void* from, void* to, std::size_t count_of_each, int type, int operation, Comm comm,
                        void* stream);
  int (*all_gather)(const void* from, void* to, std::size_t count_of_each, int type, Comm comm, void* stream);

  /// libnccl.so.2, or the file that the environment variable UNFURL_NCCL names. Throws std::runtime_error with one line
  /// where it is missing, too old or none.
  static const Library& get();
};

/// Whether the environment names the library's file.
bool is_named();

}  // namespace unfurl::nccl
