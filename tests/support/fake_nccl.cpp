// A fake NCCL for tests: the functions that core/comm/nccl_library.h lists, between processes or threads of one
// machine, over files. Streams are ignored and memory is the process's own, as on Device::host_cuda: what is started is
// done by the next calls to ncclCommGetAsyncError. It is strict: calls that NCCL's documentation forbids are refused,
// and sizes that do not match are errors.
//
// Environment: FAKE_NCCL_FOLDER is where the files are, /tmp where it is not set; FAKE_NCCL_VERSION is what
// ncclGetVersion tells; FAKE_NCCL_HANG, _STOP and _ERROR are RANK:NUMBER of a piece of work, from 1, that never ends,
// whose call never returns, or that fails a little later.
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <fstream>
#include <functional>
#include <map>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "core/comm/nccl_library.h"

namespace unfurl::nccl {

struct OpaqueComm {
  std::string folder;
  int ranks = 0, rank = 0;
  std::map<std::string, int> sent, received;  // messages, by pair of ranks
  std::deque<std::function<int()>> waiting;   // for messages
  int works = 0;
  int error = kSuccess;
};

namespace {

constexpr int kSystemError = 2, kInternalError = 3, kInvalidArgument = 4, kInvalidUsage = 5, kRemoteError = 6;

/// What a thread has started since ncclGroupStart.
struct Group {
  int depth = 0;
  Comm comm = nullptr;
  std::vector<std::function<int(OpaqueComm&)>> sends, receives;
};
thread_local Group group;

bool is_told(const char* variable, const OpaqueComm& comm) {
  const char* const told = std::getenv(variable);
  return told != nullptr && told == std::to_string(comm.rank) + ":" + std::to_string(comm.works);
}

std::string pair_of(int from, int to) { return std::to_string(from) + "-" + std::to_string(to); }

int put(OpaqueComm& comm, int to, const void* data, std::size_t bytes) {
  const std::string pair = pair_of(comm.rank, to);
  const std::string path = comm.folder + "/" + pair + "-" + std::to_string(comm.sent[pair]++);
  {
    std::ofstream file(path + ".part", std::ios::binary);
    file.write(static_cast<const char*>(data), static_cast<std::streamsize>(bytes));
    if (!file.flush()) return kSystemError;
  }
  return std::rename((path + ".part").c_str(), path.c_str()) == 0 ? kSuccess : kSystemError;
}

/// kInProgress where it has not come. `use` gets what has.
int take(OpaqueComm& comm, int from, std::size_t bytes, const std::function<void(const char*)>& use) {
  const std::string pair = pair_of(from, comm.rank);
  const std::string path = comm.folder + "/" + pair + "-" + std::to_string(comm.received[pair]);
  std::ifstream file(path, std::ios::binary);
  if (!file) return kInProgress;
  const std::string text((std::istreambuf_iterator<char>(file)), {});
  if (text.size() != bytes) return kInternalError;
  ++comm.received[pair];
  ::unlink(path.c_str());
  use(text.data());
  return kSuccess;
}

/// Does what can be done.
int progress(OpaqueComm& comm) {
  while (comm.error == kSuccess && !comm.waiting.empty()) {
    const int result = comm.waiting.front()();
    if (result == kInProgress) return kInProgress;
    if (result == kSuccess) {
      comm.waiting.pop_front();
    } else {
      comm.error = result;
    }
  }
  return comm.error;
}

int launch() {
  Group work = std::exchange(group, {});
  if (work.comm == nullptr) return kSuccess;
  OpaqueComm& comm = *work.comm;
  ++comm.works;
  while (is_told("FAKE_NCCL_STOP", comm)) std::this_thread::sleep_for(std::chrono::seconds(1));
  if (is_told("FAKE_NCCL_HANG", comm)) {
    comm.waiting.push_back([] { return kInProgress; });
    return kInProgress;
  }
  if (is_told("FAKE_NCCL_ERROR", comm)) {
    comm.waiting.push_back([] { return kRemoteError; });
    return kInProgress;
  }
  for (const auto& send : work.sends) {
    if (const int result = send(comm); result != kSuccess) return result;
  }
  for (const auto& receive : work.receives) {
    comm.waiting.push_back([&comm, receive] { return receive(comm); });
  }
  return work.receives.empty() ? kSuccess : kInProgress;
}

/// Adds to the group; outside of one, at once.
int start(Comm comm, const std::function<void(Group&)>& add) {
  if (comm == nullptr || (group.comm != nullptr && group.comm != comm)) return kInvalidArgument;
  if (!comm->waiting.empty() || comm->error != kSuccess) return kInvalidUsage;  // not before it is asked how that went
  group.comm = comm;
  add(group);
  return group.depth > 0 ? kInProgress : launch();
}

void add_send(Group& to, int peer, const void* data, std::size_t bytes) {
  to.sends.push_back([=](OpaqueComm& comm) { return put(comm, peer, data, bytes); });
}

void add_receive(Group& to, int peer, void* data, std::size_t bytes) {
  to.receives.push_back([=](OpaqueComm& comm) {
    return take(comm, peer, bytes, [=](const char* text) { std::memcpy(data, text, bytes); });
  });
}

/// The root adds its right neighbour's first, and so on around: an order that is no tree's.
void add_reduce(Group& to, const OpaqueComm& comm, const float* from, float* out, std::size_t count, int root) {
  if (comm.rank != root) return add_send(to, root, from, count * sizeof(float));
  if (out != from) {
    to.receives.push_back([=](OpaqueComm&) {
      std::memmove(out, from, count * sizeof(float));
      return kSuccess;
    });
  }
  for (int step = 1; step < comm.ranks; ++step) {
    const int peer = (root + step) % comm.ranks;
    to.receives.push_back([=](OpaqueComm& own) {
      return take(own, peer, count * sizeof(float), [=](const char* text) {
        for (std::size_t i = 0; i < count; ++i) {
          float value = 0;
          std::memcpy(&value, text + i * sizeof value, sizeof value);
          out[i] += value;
        }
      });
    });
  }
}

std::size_t size_of(int type) { return type == kFloat32 ? 4 : 1; }

}  // namespace
}  // namespace unfurl::nccl

using namespace unfurl::nccl;  // NOLINT(google-build-using-namespace)

extern "C" {

int ncclGetVersion(int* version) {
  const char* const told = std::getenv("FAKE_NCCL_VERSION");
  *version = told != nullptr ? std::atoi(told) : 22809;
  return kSuccess;
}

const char* ncclGetErrorString(int result) {
  return result == kRemoteError ? "fake remote error" : result == kInvalidUsage ? "fake invalid usage" : "fake error";
}

const char* ncclGetLastError(Comm) { return ""; }

int ncclGetUniqueId(UniqueId* id) {
  const char* const folder = std::getenv("FAKE_NCCL_FOLDER");
  std::string path = std::string(folder != nullptr ? folder : "/tmp") + "/fake_nccl_XXXXXX";
  if (path.size() >= sizeof id->bytes || ::mkdtemp(path.data()) == nullptr) return kSystemError;
  std::memcpy(id->bytes, path.c_str(), path.size() + 1);
  return kSuccess;
}

int ncclCommInitRankConfig(Comm* comm, int ranks, UniqueId id, int rank, Config* config) {
  if (config->size != sizeof(Config) || config->magic != 0xcafebeef || config->blocking != 0) return kInvalidArgument;
  *comm = new OpaqueComm;
  (*comm)->folder = id.bytes;
  (*comm)->ranks = ranks;
  (*comm)->rank = rank;
  // All have come when each has a letter of every other.
  for (int peer = 0; peer < ranks; ++peer) {
    if (peer == rank) continue;
    if (const int result = put(**comm, peer, "", 0); result != kSuccess) return result;
    (*comm)->waiting.push_back([own = *comm, peer] { return take(*own, peer, 0, [](const char*) {}); });
  }
  return kInProgress;
}

int ncclCommGetAsyncError(Comm comm, int* error) {
  *error = progress(*comm);
  return kSuccess;
}

int ncclCommAbort(Comm comm) {
  delete comm;
  return kSuccess;
}

int ncclCommDestroy(Comm comm) {
  if (!comm->waiting.empty()) return kInvalidUsage;
  ::rmdir(comm->folder.c_str());  // by the last: it is empty then
  delete comm;
  return kSuccess;
}

int ncclGroupStart() {
  ++group.depth;
  return kSuccess;
}

int ncclGroupEnd() {
  if (group.depth == 0) return kInvalidUsage;
  return --group.depth > 0 ? kSuccess : launch();
}

int ncclSend(const void* from, std::size_t count, int type, int peer, Comm comm, void*) {
  return start(comm, [=](Group& to) { add_send(to, peer, from, count * size_of(type)); });
}

int ncclRecv(void* out, std::size_t count, int type, int peer, Comm comm, void*) {
  return start(comm, [=](Group& to) { add_receive(to, peer, out, count * size_of(type)); });
}

int ncclBroadcast(const void* from, void* out, std::size_t count, int type, int root, Comm comm, void*) {
  return start(comm, [=](Group& to) {
    if (comm->rank != root) return add_receive(to, root, out, count * size_of(type));
    for (int peer = 0; peer < comm->ranks; ++peer) {
      if (peer != root) add_send(to, peer, from, count * size_of(type));
    }
  });
}

int ncclReduce(const void* from, void* out, std::size_t count, int type, int operation, int root, Comm comm, void*) {
  if (type != kFloat32 || operation != kSum) return kInvalidArgument;
  return start(comm, [=](Group& to) {
    add_reduce(to, *comm, static_cast<const float*>(from), static_cast<float*>(out), count, root);
  });
}

int ncclReduceScatter(const void* from, void* out, std::size_t count, int type, int operation, Comm comm, void*) {
  if (type != kFloat32 || operation != kSum) return kInvalidArgument;
  return start(comm, [=](Group& to) {
    for (int root = 0; root < comm->ranks; ++root) {
      add_reduce(to, *comm, static_cast<const float*>(from) + count * static_cast<std::size_t>(root),
                 static_cast<float*>(out), count, root);
    }
  });
}

int ncclAllGather(const void* from, void* out, std::size_t count, int type, Comm comm, void*) {
  return start(comm, [=](Group& to) {
    const std::size_t bytes = count * size_of(type);
    const auto place = [=](int rank) { return static_cast<char*>(out) + bytes * static_cast<std::size_t>(rank); };
    if (place(comm->rank) != from) std::memmove(place(comm->rank), from, bytes);
    for (int peer = 0; peer < comm->ranks; ++peer) {
      if (peer == comm->rank) continue;
      add_send(to, peer, place(comm->rank), bytes);
      add_receive(to, peer, place(peer), bytes);
    }
  });
}

}  // extern "C"
