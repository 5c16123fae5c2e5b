// Small kernels with one bug each, which must be found: planted_bugs.cmake says by what, and what the report says.
//
// usage: planted_bugs NAME in_order|reversed|random     runs one; prints what the engine reports, or how many results
//                                                       are wrong, or "nothing found"; sanitizers print their own
#include <cstdio>
#include <cstring>
#include <exception>
#include <memory>

#include "kernels/device/vector.h"
#include "kernels/host/engine.h"
#include "tests/kernels/host/planted_hopper_bugs.cuh"
#if defined(__has_feature)
#if __has_feature(memory_sanitizer)
#include <sanitizer/msan_interface.h>
#define UNFURL_CHECK_INITIALISED(memory, bytes) __msan_check_mem_is_initialized(memory, bytes)
#endif
#endif
#if !defined(UNFURL_CHECK_INITIALISED)
#define UNFURL_CHECK_INITIALISED(memory, bytes) static_cast<void>(memory)
#endif

namespace unfurl::kernels {
namespace {

__global__ void divergent_barrier(float* out, const float* in) {
  UNFURL_SHARED(float, buffer, [kThreads]);
  const unsigned t = threadIdx.x;
  buffer[t] = in[t];
  if (t < 128) {  // NOLINT(bugprone-branch-clone): two barriers
    __syncthreads();
  } else {
    __syncthreads();
  }
  out[t] = buffer[255 - t];
}

__global__ void skipped_barrier(float* out, const float* in) {
  UNFURL_SHARED(float, buffer, [kThreads]);
  const unsigned t = threadIdx.x;
  buffer[t] = in[t];
  if (t != 7) __syncthreads();
  out[t] = buffer[255 - t];
}

__global__ void return_before_barrier(float* out, const float* in) {
  UNFURL_SHARED(float, buffer, [kThreads]);
  const unsigned t = threadIdx.x;
  if (t < 56) return;
  buffer[t] = in[t];
  __syncthreads();
  out[t] = buffer[311 - t];
}

__global__ void returned_lane_in_mask(float* out, const float* in) {
  const unsigned t = threadIdx.x;
  if (t % 32 == 0) return;
  out[t] = __shfl_xor_sync(0xffffffffu, in[t], 1);
}

__global__ void returned_lane_in_syncwarp(float* out, const float* in) {
  const unsigned t = threadIdx.x;
  if (t == 0) return;
  __syncwarp();
  out[t] = in[t];
}

__global__ void return_before_syncwarp(float* out, const float* in) {
  const unsigned t = threadIdx.x;
  if (t == 31) return;
  __syncwarp();
  out[t] = in[t];
}

__global__ void divergent_shuffle(float* out, const float* in) {
  const unsigned t = threadIdx.x;
  if (t % 2 == 1) {
    out[t] = __shfl_xor_sync(0xffffffffu, in[t], 2);
  } else {
    out[t] = __shfl_xor_sync(0xffffffffu, in[t], 4);
  }
}

__global__ void lane_outside_its_mask(float* out, const float* in) {
  const unsigned t = threadIdx.x;
  out[t] = __shfl_xor_sync(0x0000ffffu, in[t], 1);
}

__global__ void shuffle_from_outside_the_mask(float* out, const float* in) {
  const unsigned t = threadIdx.x;
  out[t] = t % 32 < 16 ? __shfl_down_sync(0x0000ffffu, in[t], 8) : 0.0f;
}

__global__ void deadlock(float* out, const float* in) {
  const unsigned t = threadIdx.x;
  out[t] = in[t];
  if (t == 0) {
    __syncwarp();
  } else {
    __syncthreads();
  }
}

__global__ void missing_barrier(float* out, const float* in) {
  UNFURL_SHARED(float, buffer, [kThreads]);
  const unsigned t = threadIdx.x;
  buffer[t] = in[t];
  out[t] = buffer[255 - t];
}

// Reads what the thread before wrote: right where threads run in order.
__global__ void missing_barrier_forward(float* out, const float* in) {
  UNFURL_SHARED(float, buffer, [kThreads]);
  const unsigned t = threadIdx.x;
  buffer[t] = in[t];
  out[t] = t > 0 ? buffer[t - 1] : in[255];
}

// The next round's writes may come before this round's reads.
__global__ void missing_second_barrier(float* out, const float* in) {
  UNFURL_SHARED(float, buffer, [kThreads]);
  const unsigned t = threadIdx.x;
  float sum = 0;
  for (int round = 1; round <= 4; ++round) {
    buffer[t] = in[t] * static_cast<float>(round);
    __syncthreads();
    sum += buffer[(t + 32) % kThreads];
  }
  out[t] = sum;
}

__global__ void missing_syncwarp(float* out, const float* in) {
  UNFURL_SHARED(float, buffer, [kThreads]);
  const unsigned t = threadIdx.x;
  buffer[t] = in[t];
  out[t] = buffer[t ^ 1];
}

__global__ void race_between_blocks(float* out, const float* in) {
  const unsigned t = threadIdx.x;
  out[t] = out[t] + in[t];
}

UNFURL_DEVICE void copy_all(float* buffer, const float* in) {
  const unsigned t = threadIdx.x;
  if (t < kThreads / 4) ptx::copy_async16(ptx::shared_address(buffer + 4 * t), in + 4 * t);
  ptx::commit_copies();
}

struct Buffer {
  float values[kThreads];
};

__global__ void copy_never_waited_for(float* out, const float* in) {
  UNFURL_DYNAMIC_SHARED(Buffer, buffer);
  copy_all(buffer.values, in);
  out[threadIdx.x] = in[threadIdx.x];
}

__global__ void copy_read_before_the_wait(float* out, const float* in) {
  UNFURL_DYNAMIC_SHARED(Buffer, buffer);
  copy_all(buffer.values, in);
  __syncthreads();
  out[threadIdx.x] = buffer.values[threadIdx.x];
  ptx::wait_copies<0>();
}

__global__ void copy_read_without_barrier(float* out, const float* in) {
  UNFURL_DYNAMIC_SHARED(Buffer, buffer);
  copy_all(buffer.values, in);
  ptx::wait_copies<0>();
  out[threadIdx.x] = buffer.values[threadIdx.x];
}

// Waits for the wrong group: with two stages in flight, this tile's may still be under way.
__global__ void copy_waits_for_the_wrong_group(float* out, const float* in) {
  UNFURL_DYNAMIC_SHARED(Buffer, buffer);
  copy_all(buffer.values, in);
  ptx::commit_copies();
  ptx::wait_copies<2>();
  __syncthreads();
  out[threadIdx.x] = buffer.values[threadIdx.x];
  ptx::wait_copies<0>();
}

// A stage is filled again while others still read it: with two tiles there would be nothing to see.
__global__ void double_buffer_without_second_barrier(float* out, const float* in) {
  UNFURL_SHARED(float, stages, [2][kThreads]);
  const unsigned t = threadIdx.x;
  float sum = 0;
  stages[0][t] = in[t];
  for (int tile = 0; tile < 5; ++tile) {
    __syncthreads();
    sum += stages[tile % 2][255 - t];
    stages[(tile + 1) % 2][t] = in[t] + static_cast<float>(tile);
    if (tile % 2 == 0) stages[tile % 2][t] = 0;
  }
  out[t] = sum;
}

__global__ void past_static_array(float* out, const float* in) {
  UNFURL_SHARED(float, buffer, [kThreads]);
  const unsigned t = threadIdx.x;
  float* const values = buffer;
  values[t + 1] = in[t];
  __syncthreads();
  out[t] = t > 0 ? buffer[t] : in[255];
}

__global__ void past_dynamic_array(float* out, const float* in) {
  UNFURL_DYNAMIC_SHARED(Buffer, buffer);
  const unsigned t = threadIdx.x;
  float* const values = buffer.values;
  values[t == 255 ? 258 : t] = in[t];
  __syncthreads();
  out[t] = t == 255 ? in[t] : buffer.values[t];
}

__global__ void before_static_array(float* out, const float* in) {
  UNFURL_SHARED(float, other, [kThreads]);
  UNFURL_SHARED(float, buffer, [kThreads]);
  const unsigned t = threadIdx.x;
  other[t] = in[t];
  float* const values = buffer;
  values[static_cast<int>(t) - 1] = in[t];
  __syncthreads();
  out[t] = t < 255 ? buffer[t] : other[0];
}

__global__ void far_past_array(float* out, const float* in) {
  UNFURL_SHARED(float, buffer, [kThreads]);
  const unsigned t = threadIdx.x;
  float* const values = buffer;
  values[t == 17 ? 40000 : t] = in[t];
  __syncthreads();
  out[t] = buffer[t];
}

__global__ void far_before_array(float* out, const float* in) {
  UNFURL_SHARED(float, buffer, [kThreads]);
  const unsigned t = threadIdx.x;
  buffer[t] = in[t];
  const float* const values = buffer;
  __syncthreads();
  out[t] = t == 17 ? values[-1000] : buffer[t];
}

__global__ void through_a_null_pointer(float* out, const float* in) {
  const unsigned t = threadIdx.x;
  const float* const none = in[t] < 1e9f ? nullptr : in;
  out[t] = none[0];
}

// Needs more stack the larger the input is.
float deep(const float* in, int depth) {
  volatile float frame[1000];
  for (float& value : const_cast<float(&)[1000]>(frame)) value = *in;
  return depth == 0 ? frame[7] : deep(in, depth - 1) + frame[depth];
}

__global__ void stack_overflow(float* out, const float* in) {
  const unsigned t = threadIdx.x;
  out[t] = deep(in, t == 200 ? 900 : 1);
}

__global__ void past_array_in_struct(float* out, const float* in) {
  struct Pair {
    float first[kThreads], second[kThreads];
  };
  UNFURL_SHARED(Pair, pair, [1]);
  const unsigned t = threadIdx.x;
  pair[0].second[t] = in[t];
  __syncthreads();
  pair[0].first[t + 1] = 1;
  __syncthreads();
  out[t] = t > 0 ? pair[0].second[t] : in[0];
}

__global__ void past_global_array(float* out, const float* in) {
  const unsigned t = threadIdx.x;
  out[t] = in[t + 1];
}

__global__ void misaligned_vector(float* out, const float* in) {
  const unsigned t = threadIdx.x;
  float values[4];
  load_vector(in + (t < 60 ? t + 1 : 0)).to_floats(values);
  out[t] = values[0];
}

__global__ void misaligned_copy(float* out, const float* in) {
  UNFURL_DYNAMIC_SHARED(Buffer, buffer);
  const unsigned t = threadIdx.x;
  if (t < 4) ptx::copy_async16(ptx::shared_address(buffer.values + 4 * t), in + t);
  ptx::commit_copies();
  ptx::wait_copies<0>();
  __syncthreads();
  out[t] = buffer.values[t % 16];
}

__global__ void matrix_outside_shared_memory(float* out, const float* in) {
  UNFURL_DYNAMIC_SHARED(Buffer, buffer);
  const unsigned t = threadIdx.x;
  buffer.values[t] = in[t];
  __syncthreads();
  std::uint32_t fragment[4];
  ptx::load_matrices(fragment, ptx::shared_address(buffer.values) + 16 * (t % 32 == 31 ? 64 : t % 32));
  out[t] = __uint_as_float(fragment[0]);
}

struct TooMuch {
  float values[2 * kThreads];
};

__global__ void too_little_dynamic_memory(float* out, const float* in) {
  UNFURL_DYNAMIC_SHARED(TooMuch, buffer);
  buffer.values[threadIdx.x] = in[threadIdx.x];
  out[threadIdx.x] = buffer.values[threadIdx.x];
}

__global__ void uninitialised(float* out, const float* in) {
  UNFURL_SHARED(float, buffer, [kThreads + 1]);
  const unsigned t = threadIdx.x;
  buffer[t] = in[t];
  __syncthreads();
  out[t] = buffer[t] + (t == 255 ? 0.0f * buffer[t + 1] : 0.0f);
}

__global__ void uninitialised_counter(float* out, const float* in) {
  UNFURL_SHARED(int, count, [1]);
  const unsigned t = threadIdx.x;
  if (in[t] > 0) atomicAdd(&count[0], 1);
  __syncthreads();
  out[t] = static_cast<float>(count[0]);
}

// The maximum swallows the NaN.
__global__ void uninitialised_under_a_maximum(float* out, const float* in) {
  UNFURL_SHARED(float, buffer, [kThreads + 1]);
  const unsigned t = threadIdx.x;
  buffer[t] = in[t];
  __syncthreads();
  out[t] = fmaxf(buffer[t], buffer[t + 1]);
}

// As above, and the value goes through the engine.
__global__ void uninitialised_in_a_shuffle(float* out, const float* in) {
  UNFURL_SHARED(float, buffer, [kThreads + 1]);
  const unsigned t = threadIdx.x;
  buffer[t] = in[t];
  __syncthreads();
  out[t] = fmaxf(in[t], __shfl_xor_sync(0xffffffffu, buffer[t + 1], 1));
}

__global__ void uninitialised_vote(float* out, const float* in) {
  UNFURL_SHARED(float, buffer, [kThreads + 1]);
  const unsigned t = threadIdx.x;
  buffer[t] = in[t];
  __syncthreads();
  out[t] = in[t] + (__all_sync(0xffffffffu, buffer[t + 1] > 1000.0f) != 0 ? 1.0f : 0.0f);
}

__global__ void shift_too_far(float* out, const float* in) {
  const unsigned t = threadIdx.x;
  out[t] = static_cast<float>(1 << (t + (in[t] < 1e9f ? 32u : 0u)));
}

using Kernel = void (*)(float*, const float*);
using Expected = float (*)(const float* in, int t);

float same(const float* in, int t) { return in[t]; }
float turned(const float* in, int t) { return in[255 - t]; }
float before(const float* in, int t) { return in[(t + 255) % 256]; }

struct Planted {
  const char* name;
  Kernel kernel;
  Expected expected;  // null: anything
  unsigned blocks = 1;
  std::size_t shared_bytes = sizeof(Buffer);
};

#define UNFURL_BUG(kernel, ...) \
  { #kernel, kernel, __VA_ARGS__ }
const Planted kPlanted[] = {
    UNFURL_BUG(divergent_barrier, turned),
    UNFURL_BUG(skipped_barrier, turned),
    UNFURL_BUG(return_before_barrier, nullptr),
    UNFURL_BUG(returned_lane_in_mask, nullptr),
    UNFURL_BUG(returned_lane_in_syncwarp, nullptr),
    UNFURL_BUG(return_before_syncwarp, nullptr),
    UNFURL_BUG(divergent_shuffle, nullptr),
    UNFURL_BUG(lane_outside_its_mask, nullptr),
    UNFURL_BUG(shuffle_from_outside_the_mask, nullptr),
    UNFURL_BUG(deadlock, nullptr),
    UNFURL_BUG(missing_barrier, turned),
    UNFURL_BUG(missing_barrier_forward, before),
    UNFURL_BUG(missing_second_barrier, [](const float* in, int t) { return 10 * in[(t + 32) % 256]; }),
    UNFURL_BUG(missing_syncwarp, [](const float* in, int t) { return in[t ^ 1]; }),
    UNFURL_BUG(
        race_between_blocks, [](const float* in, int t) { return 2 * in[t] - 1; }, 2),
    UNFURL_BUG(copy_never_waited_for, same),
    UNFURL_BUG(copy_read_before_the_wait, same),
    UNFURL_BUG(copy_read_without_barrier, same),
    UNFURL_BUG(copy_waits_for_the_wrong_group, same),
    UNFURL_BUG(double_buffer_without_second_barrier,
               [](const float* in, int t) { return 5 * in[255 - t] + 0 + 1 + 2 + 3; }),
    UNFURL_BUG(past_static_array, before),
    UNFURL_BUG(past_dynamic_array, same),
    UNFURL_BUG(before_static_array, nullptr),
    UNFURL_BUG(far_past_array, same, 1, 0),
    UNFURL_BUG(far_before_array, same, 1, 0),
    UNFURL_BUG(through_a_null_pointer, nullptr),
    UNFURL_BUG(stack_overflow, nullptr),
    UNFURL_BUG(past_array_in_struct, nullptr),
    UNFURL_BUG(past_global_array, nullptr),
    UNFURL_BUG(misaligned_vector, nullptr),
    UNFURL_BUG(misaligned_copy, nullptr),
    UNFURL_BUG(matrix_outside_shared_memory, nullptr),
    UNFURL_BUG(too_little_dynamic_memory, same),
    UNFURL_BUG(uninitialised, same),
    UNFURL_BUG(uninitialised_counter,
               [](const float* in, int) {
                 int count = 0;
                 for (int i = 0; i < kThreads; ++i) count += in[i] > 0 ? 1 : 0;
                 return static_cast<float>(count);
               }),
    UNFURL_BUG(uninitialised_under_a_maximum, nullptr),
    UNFURL_BUG(uninitialised_in_a_shuffle, nullptr),
    UNFURL_BUG(uninitialised_vote, nullptr),
    UNFURL_BUG(shift_too_far, nullptr),
    UNFURL_BUG(mbarrier_not_initialised, same, 1, sizeof(Tile)),
    UNFURL_BUG(mbarrier_overwritten, same, 1, sizeof(Tile)),
    UNFURL_BUG(too_many_arrivals, same, 1, sizeof(Tile)),
    UNFURL_BUG(expects_too_many_bytes, same, 1, sizeof(Tile)),
    UNFURL_BUG(tile_read_before_the_wait, same, 1, sizeof(Tile)),
    UNFURL_BUG(tile_never_waited_for, same, 1, sizeof(Tile)),
    UNFURL_BUG(product_read_before_the_wait, same, 1, sizeof(Tile)),
    UNFURL_BUG(product_operand_overwritten, same, 1, sizeof(Tile)),
    UNFURL_BUG(named_barrier_for_too_many, same),
};

int run(const Planted& planted) {
  const std::unique_ptr<float[]> in(new float[kThreads]), out(new float[kThreads]);  // 16-byte aligned
  for (int i = 0; i < kThreads; ++i) {
    in[i] = static_cast<float>(i * 37 % 101) - 50;
    out[i] = -1;
  }
  try {
    const HostCudaQueue queue;
    launch(queue, planted.kernel, dim3(planted.blocks), dim3(kThreads), planted.shared_bytes, out.get(), in.get());
  } catch (const std::exception& exception) {
    std::printf("engine: %s\n", exception.what());
    return 3;
  }
  UNFURL_CHECK_INITIALISED(out.get(), kThreads * sizeof(float));
  int wrong = 0;
  for (int i = 0; planted.expected != nullptr && i < kThreads; ++i) {
    if (!(out[i] == planted.expected(in.get(), i))) ++wrong;
  }
  if (wrong > 0) std::printf("wrong: %d of %d results\n", wrong, kThreads);
  return wrong > 0 ? 4 : 0;
}

}  // namespace
}  // namespace unfurl::kernels

int main(int argc, char** argv) {
  using namespace unfurl::kernels;
  if (argc != 3) {
    std::printf("usage: planted_bugs NAME in_order|reversed|random\n");
    return 2;
  }
  host::Settings settings;
  if (std::strcmp(argv[2], "reversed") == 0) settings.order = host::Order::reversed;
  if (std::strcmp(argv[2], "random") == 0) settings.order = host::Order::random;
  const host::SettingsScope scope(settings);
  for (const Planted& planted : kPlanted) {
    if (std::strcmp(argv[1], planted.name) != 0) continue;
    const int code = run(planted);
    if (code == 0) std::printf("nothing found\n");
    return code;
  }
  std::printf("no bug is called %s\n", argv[1]);
  return 2;
}
