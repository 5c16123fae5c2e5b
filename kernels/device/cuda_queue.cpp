#include <cuda.h>
#include <cuda_runtime_api.h>

#include <cstring>
#include <stdexcept>
#include <utility>

#include "kernels/device/runtime.h"
#include "kernels/device/tile_map.h"

namespace unfurl::kernels {
namespace {

std::string mebibytes(std::size_t bytes) { return std::to_string(bytes >> 20) + " MiB"; }

void check(cudaError_t error, const char* what) {
  if (error == cudaSuccess) return;
  cudaGetLastError();  // or the next call would fail again with an error that is over
  throw std::runtime_error(std::string("cuda: ") + what + ": " + cudaGetErrorString(error));
}

cudaStream_t stream_of(void* stream) { return static_cast<cudaStream_t>(stream); }

std::string version(int number) { return std::to_string(number / 1000) + "." + std::to_string(number % 1000 / 10); }

/// Bytes a block: what an sm_80 has. Gaming GPUs of that age and newer have 99 KiB.
constexpr std::size_t kSharedNeeded = 163u << 10;

/// What `error`, the runtime's answer to the question for GPUs, means: of a driver that is not there it says that it is
/// too old.
std::string why_no_gpu(cudaError_t error) {
  int driver = 0;  // the newest CUDA that it knows
  if (cudaDriverGetVersion(&driver) != cudaSuccess) driver = 0;
  cudaGetLastError();
  if (driver == 0) return "no GPU can be used: there is no NVIDIA driver (libcuda.so.1) on this machine";
  if (error == cudaErrorInsufficientDriver) {
    return "no GPU can be used: the NVIDIA driver is for CUDA " + version(driver) +
           " and too old, this program needs " + version(CUDART_VERSION);
  }
  return std::string("no GPU can be used: ") + cudaGetErrorString(error);
}

}  // namespace

void throw_launch_error(int error, const char* file, int line) {
  const char* slash = std::strrchr(file, '/');
  cudaGetLastError();
  throw std::runtime_error("cuda: launch at " + std::string(slash != nullptr ? slash + 1 : file) + ":" +
                           std::to_string(line) + ": " + cudaGetErrorString(static_cast<cudaError_t>(error)));
}

CudaQueue::CudaQueue(int device) : device_(device) {
  int count = 0;
  const cudaError_t error = cudaGetDeviceCount(&count);
  if (error != cudaSuccess) {
    cudaGetLastError();
    throw std::runtime_error(why_no_gpu(error));
  }
  if (device < 0 || device >= count) {
    throw std::runtime_error("this process is number " + std::to_string(device + 1) + " of those that share " +
                             std::to_string(count) + (count == 1 ? " GPU" : " GPUs") +
                             ": start at most as many on a machine as it has GPUs");
  }
  const DeviceProperties found = properties(device);
  if (found.major < 8) {
    throw std::runtime_error(found.name + " has compute capability " + std::to_string(found.major) + "." +
                             std::to_string(found.minor) + ", the kernels need 8.0");
  }
  if (found.shared_per_block < kSharedNeeded) {
    throw std::runtime_error(found.name + " has " + std::to_string(found.shared_per_block >> 10) +
                             " KiB of shared memory a block, the kernels need " + std::to_string(kSharedNeeded >> 10) +
                             " (A100, H100, H200 and their like)");
  }
  shared_per_block_ = found.shared_per_block;
  check(cudaSetDevice(device), "choosing the device");
  if (!has_code_for_current_gpu()) {
    throw std::runtime_error("this program holds no code for " + found.name + ", of compute capability " +
                             std::to_string(found.major) + "." + std::to_string(found.minor) +
                             ": it was built for other GPUs (a bundle is for Hopper); build it with the preset cuda");
  }
  cudaStream_t stream = nullptr;
  check(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), "making a stream");
  stream_ = stream;
  // What is freed stays with the process: a training step asks for the same again.
  cudaMemPool_t pool = nullptr;
  check(cudaDeviceGetDefaultMemPool(&pool, device), "the memory pool");
  std::uint64_t keep = ~std::uint64_t{0};
  check(cudaMemPoolSetAttribute(pool, cudaMemPoolAttrReleaseThreshold, &keep), "the memory pool");
}

CudaQueue::~CudaQueue() {
  scratch_of_graphs_.push_back(scratch_);
  for (void* memory : scratch_of_graphs_) {
    if (memory != nullptr) cudaFreeAsync(memory, stream_of(stream_));
  }
  cudaStreamDestroy(stream_of(stream_));
}

int CudaQueue::device_count() {
  int count = 0;
  if (cudaGetDeviceCount(&count) == cudaSuccess) return count;
  cudaGetLastError();
  return 0;
}

void CudaQueue::use_in_this_thread() const { check(cudaSetDevice(device_), "choosing the device"); }

DeviceProperties CudaQueue::properties(int device) {
  cudaDeviceProp found;
  check(cudaGetDeviceProperties(&found, device), "reading the device's properties");
  DeviceProperties out;
  out.name = found.name;
  for (const char byte : found.uuid.bytes) {
    out.id += "0123456789abcdef"[static_cast<unsigned char>(byte) >> 4];
    out.id += "0123456789abcdef"[static_cast<unsigned char>(byte) & 15];
  }
  out.major = found.major;
  out.minor = found.minor;
  out.multiprocessors = found.multiProcessorCount;
  out.memory = found.totalGlobalMem;
  out.shared_per_block = found.sharedMemPerBlockOptin;
  return out;
}

std::size_t CudaQueue::free_memory() const {
  std::size_t free = 0, total = 0;
  use_in_this_thread();
  check(cudaMemGetInfo(&free, &total), "reading the free memory");
  return free;
}

void* CudaQueue::allocate(std::size_t bytes) const {
  void* memory = nullptr;
  const cudaError_t error = cudaMallocAsync(&memory, bytes, stream_of(stream_));
  if (error == cudaErrorMemoryAllocation) {
    cudaGetLastError();
    std::size_t free = 0, total = 0;
    cudaMemGetInfo(&free, &total);
    throw std::runtime_error("cuda: out of memory: " + mebibytes(bytes) + " asked, " + mebibytes(free) + " of " +
                             mebibytes(total) + " free on device " + std::to_string(device_));
  }
  check(error, "allocating memory");
  return memory;
}

void CudaQueue::free(void* memory) const {
  if (memory != nullptr) check(cudaFreeAsync(memory, stream_of(stream_)), "freeing memory");
}

void* CudaQueue::allocate_host(std::size_t bytes) {
  void* memory = nullptr;
  check(cudaHostAlloc(&memory, bytes, cudaHostAllocDefault), "allocating host memory");
  return memory;
}

void CudaQueue::free_host(void* memory) { check(cudaFreeHost(memory), "freeing host memory"); }

void CudaQueue::copy(void* to, const void* from, std::size_t bytes) const {
  if (bytes > 0) check(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDefault, stream_of(stream_)), "copying");
}

void CudaQueue::fill(void* memory, unsigned char value, std::size_t bytes) const {
  if (bytes > 0) check(cudaMemsetAsync(memory, value, bytes, stream_of(stream_)), "filling memory");
}

void* CudaQueue::scratch(std::size_t bytes) const {
  if (bytes > scratch_bytes_) {
    if (capturing_) {
      throw std::runtime_error("cuda: scratch memory grows while a graph is captured: run the work once before");
    }
    if (std::exchange(scratch_in_graph_, false)) {
      scratch_of_graphs_.push_back(std::exchange(scratch_, nullptr));
    } else {
      free(std::exchange(scratch_, nullptr));
    }
    scratch_bytes_ = 0;
    scratch_ = allocate(bytes);
    scratch_bytes_ = bytes;
  }
  scratch_in_graph_ = scratch_in_graph_ || capturing_;
  return scratch_;
}

void CudaQueue::synchronize() const { check(cudaStreamSynchronize(stream_of(stream_)), "waiting for the device"); }

CudaQueue::Event CudaQueue::record() const {
  cudaEvent_t made = nullptr;
  check(cudaEventCreate(&made), "making an event");
  Event event;
  event.event_ = std::shared_ptr<void>(made, [](void* old) { cudaEventDestroy(static_cast<cudaEvent_t>(old)); });
  check(cudaEventRecord(made, stream_of(stream_)), "recording an event");
  return event;
}

void CudaQueue::record(Event& event) const {
  if (event.event_ == nullptr) {
    cudaEvent_t made = nullptr;
    check(cudaEventCreateWithFlags(&made, cudaEventDisableTiming), "making an event");
    event.event_ = std::shared_ptr<void>(made, [](void* old) { cudaEventDestroy(static_cast<cudaEvent_t>(old)); });
  }
  // External: a node of the graph, whose launches record the event for who waits outside of it.
  check(cudaEventRecordWithFlags(static_cast<cudaEvent_t>(event.event_.get()), stream_of(stream_),
                                 capturing_ ? cudaEventRecordExternal : cudaEventRecordDefault),
        "recording an event");
}

void CudaQueue::Event::wait() const {
  if (event_ != nullptr) check(cudaEventSynchronize(static_cast<cudaEvent_t>(event_.get())), "waiting for the device");
}

void CudaQueue::wait(const Event& event) const {
  if (event.event_ == nullptr) return;
  check(cudaStreamWaitEvent(stream_of(stream_), static_cast<cudaEvent_t>(event.event_.get()), 0),
        "waiting for an event");
}

bool CudaQueue::Event::done() const {
  if (event_ == nullptr) return true;
  const cudaError_t state = cudaEventQuery(static_cast<cudaEvent_t>(event_.get()));
  if (state == cudaErrorNotReady) {
    cudaGetLastError();
    return false;
  }
  check(state, "asking for an event");
  return true;
}

double CudaQueue::seconds_between(const Event& before, const Event& after) {
  after.wait();
  float milliseconds = 0;
  check(cudaEventElapsedTime(&milliseconds, static_cast<cudaEvent_t>(before.event_.get()),
                             static_cast<cudaEvent_t>(after.event_.get())),
        "timing");
  return static_cast<double>(milliseconds) * 1e-3;
}

void CudaQueue::begin_capture() const {
  // Relaxed: the memory that the work asks for meanwhile comes by another stream, which is waited for.
  check(cudaStreamBeginCapture(stream_of(stream_), cudaStreamCaptureModeRelaxed), "capturing a graph");
  capturing_ = true;
}

CudaQueue::Graph CudaQueue::end_capture() const {
  capturing_ = false;
  cudaGraph_t captured = nullptr;
  check(cudaStreamEndCapture(stream_of(stream_), &captured), "capturing a graph");
  cudaGraphExec_t executable = nullptr;
  const cudaError_t error = cudaGraphInstantiate(&executable, captured, 0);
  cudaGraphDestroy(captured);
  check(error, "making a graph");
  Graph graph;
  graph.executable_ =
      std::shared_ptr<void>(executable, [](void* old) { cudaGraphExecDestroy(static_cast<cudaGraphExec_t>(old)); });
  return graph;
}

void CudaQueue::launch(const Graph& graph) const {
  if (graph.empty()) return;
  check(cudaGraphLaunch(static_cast<cudaGraphExec_t>(graph.executable_.get()), stream_of(stream_)),
        "launching a graph");
}

TileMap make_tile_map(const CudaQueue&, const bf16* data, Index rows, Index cols, Index stride, int tile_rows) {
  check_tile_map(data, rows, cols, stride, tile_rows);
  // From the driver that runs, not from one to link with.
  static const auto encode = [] {
    void* found = nullptr;
    cudaDriverEntryPointQueryResult result;
    check(cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &found, 12000, cudaEnableDefault, &result),
          "finding cuTensorMapEncodeTiled");
    if (result != cudaDriverEntryPointSuccess) {
      throw std::runtime_error("cuda: the driver has no cuTensorMapEncodeTiled: it is older than CUDA 12");
    }
    return reinterpret_cast<decltype(&cuTensorMapEncodeTiled)>(found);
  }();
  TileMap map{};
  static_assert(sizeof map == sizeof(CUtensorMap) && alignof(TileMap) >= alignof(CUtensorMap));
  const cuuint64_t size[] = {static_cast<cuuint64_t>(cols), static_cast<cuuint64_t>(rows)};
  const cuuint64_t strides[] = {static_cast<cuuint64_t>(stride) * sizeof(bf16)};
  const cuuint32_t box[] = {kTileColumns, static_cast<cuuint32_t>(tile_rows)};
  const cuuint32_t every[] = {1, 1};
  const CUresult result =
      encode(reinterpret_cast<CUtensorMap*>(&map), CU_TENSOR_MAP_DATA_TYPE_BFLOAT16, 2, const_cast<bf16*>(data), size,
             strides, box, every, CU_TENSOR_MAP_INTERLEAVE_NONE, CU_TENSOR_MAP_SWIZZLE_128B,
             CU_TENSOR_MAP_L2_PROMOTION_L2_256B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
  if (result != CUDA_SUCCESS) {
    throw std::runtime_error("cuda: cuTensorMapEncodeTiled fails with " + std::to_string(static_cast<int>(result)));
  }
  return map;
}

}  // namespace unfurl::kernels
