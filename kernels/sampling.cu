// A block a row. The probability masses are integers, multiples of 2^-44 of the greatest, so that sums do not depend on
// their order and the ends of prefixes are exact. The order of falling probability is never sorted: a histogram over
// the distance to the greatest logit says in which bucket a prefix ends; a crowded bucket is cut into 256 again, by
// ever finer digits of (distance, id); the tokens of the last bucket are ranked by comparing all with all.
#include "kernels/sampling.h"

#include "kernels/device/reduce.h"
#include "kernels/device/vector.h"

namespace unfurl::kernels {
namespace {

using Mass = unsigned long long;

constexpr float kLog2E = 1.4426950408889634f;
constexpr double kUnit = 0x1p44;
constexpr int kBuckets = 256;
constexpr int kCopies = 8;    // of a histogram: lanes that differ here do not get into each other's way
constexpr int kRanked = 256;  // tokens at most that are ranked by comparison
constexpr int kLevels = 10;   // three of the scaled distance, four of its bits, three of the id

template <class T>
struct Sample {
  std::int32_t* tokens;
  float* log_probability;
  Matrix<const T> logits;
  const float* uniforms;
  const Sampling* config_at;  // null: config
  Sampling config;
  int cols;
};

struct Prefix {
  Mass mass;
  int count;
  int token;  // its last
};

struct Bucket {
  Mass mass;
  int count;
};

struct Scratch {
  BlockScratch top, sum;
  // A histogram: the low and the high words of the masses.
  unsigned low[kBuckets][kCopies], high[kBuckets][kCopies], counts[kBuckets][kCopies];
  Bucket first[kBuckets], finer[kBuckets];  // summed up, of the first level and of another
  unsigned keys[kRanked];
  int ids[kRanked];
  Mass masses[kRanked];
  int members, enough;
  int digits[kLevels];  // of the bucket looked into
  Prefix before;        // that bucket
  Prefix found;
};

/// A token that may be drawn.
struct Token {
  float distance;  // greatest logit - logit, not negative
  float scaled;    // times 1 / temperature
  int id;

  /// Of 256; in order of falling probability, then id, by all digits one after the other. The first level has steps of
  /// 1/8 in the logarithm, each next one is 256 times as fine; equal fractions are told apart by the bits.
  UNFURL_DEVICE int digit(int level) const {
    if (level < 3) {
      if (scaled >= 31.875f) return level == 0 ? 255 : 0;
      float steps = scaled * 8;
      for (int l = 0; l < level; ++l) steps = (steps - floorf(steps)) * 256;
      return static_cast<int>(steps);
    }
    const unsigned word = level < 7 ? __float_as_uint(distance) : static_cast<unsigned>(id) << 8;
    const int byte = level < 7 ? level - 3 : level - 7;
    return static_cast<int>(word >> (24 - 8 * byte)) & 255;
  }
  UNFURL_DEVICE bool matches(const int* digits, int levels) const {
    for (int l = 0; l < levels; ++l) {
      if (digit(l) != digits[l]) return false;
    }
    return true;
  }
};

/// Calls body(token, mass, probability / the greatest) for the tokens of this thread that have any mass.
template <class T, class Body>
UNFURL_DEVICE void for_each_token(const T* x, float top, float scale, int cols, const Body& body) {
  for (int i = static_cast<int>(threadIdx.x); i < cols; i += static_cast<int>(blockDim.x)) {
    const float distance = top - as_float(x[i]);
    if (!(distance < INFINITY)) continue;  // nor NaN
    const Token token{distance, distance * scale, i};
    const float probability = ptx::ex2(-kLog2E * token.scaled);
    const Mass mass = static_cast<Mass>(static_cast<double>(probability) * kUnit);
    if (mass > 0) body(token, mass, probability);
  }
}

UNFURL_DEVICE void clear_histogram(Scratch& s) {
  for (int i = static_cast<int>(threadIdx.x); i < kBuckets * kCopies; i += static_cast<int>(blockDim.x)) {
    s.low[i / kCopies][i % kCopies] = s.high[i / kCopies][i % kCopies] = s.counts[i / kCopies][i % kCopies] = 0;
  }
  __syncthreads();
}

UNFURL_DEVICE void count_token(Scratch& s, int bucket, Mass mass) {
  const int copy = static_cast<int>(threadIdx.x) % kCopies;
  const unsigned low = static_cast<unsigned>(mass);
  const unsigned old = atomicAdd(&s.low[bucket][copy], low);
  const unsigned high = static_cast<unsigned>(mass >> 32) + (old + low < old ? 1u : 0u);
  if (high != 0) atomicAdd(&s.high[bucket][copy], high);
  atomicAdd(&s.counts[bucket][copy], 1u);
}

/// After all have counted.
UNFURL_DEVICE void sum_histogram(Scratch& s, Bucket* sums) {
  __syncthreads();
  for (int b = static_cast<int>(threadIdx.x); b < kBuckets; b += static_cast<int>(blockDim.x)) {
    Bucket sum{0, 0};
    for (int i = 0; i < kCopies; ++i) {
      const int copy = (i + b) % kCopies;  // not all from one bank
      sum.mass += (static_cast<Mass>(s.high[b][copy]) << 32) + s.low[b][copy];
      sum.count += static_cast<int>(s.counts[b][copy]);
    }
    sums[b] = sum;
  }
  __syncthreads();
}

/// The first warp: the bucket in which the prefix of `count` tokens or of `mass` ends, which it must; what lies before
/// is added to s.before, and the bucket becomes digit `level`. Eight buckets a lane.
UNFURL_DEVICE void walk(Scratch& s, const Bucket* buckets, int level, int count, Mass mass) {
  constexpr int kEach = kBuckets / 32;
  if (threadIdx.x < 32) {
    const int lane = static_cast<int>(threadIdx.x);
    Bucket mine{0, 0};
    for (int i = 0; i < kEach; ++i) {
      mine.mass += buckets[lane * kEach + i].mass;
      mine.count += buckets[lane * kEach + i].count;
    }
    Bucket upto = mine;
#pragma unroll
    for (int distance = 1; distance < 32; distance *= 2) {
      const Mass more = ptx::shuffle_up(upto.mass, static_cast<unsigned>(distance));
      const int others = ptx::shuffle_up(upto.count, static_cast<unsigned>(distance));
      if (lane >= distance) {
        upto.mass += more;
        upto.count += others;
      }
    }
    Prefix before = s.before;
    __syncwarp();
    const bool ends = before.count + upto.count >= count || before.mass + upto.mass >= mass;
    const int chosen = __ffs(static_cast<int>(ptx::ballot(ends))) - 1;
    if (lane == chosen) {
      before.mass += upto.mass - mine.mass;
      before.count += upto.count - mine.count;
      int b = lane * kEach;
      while (before.count + buckets[b].count < count && before.mass + buckets[b].mass < mass) {
        before.mass += buckets[b].mass;
        before.count += buckets[b].count;
        ++b;
      }
      s.before = before;
      s.digits[level] = b;
      s.members = buckets[b].count;
    }
  }
  __syncthreads();
}

/// The shortest prefix that has `count` tokens or at least `mass`, of which there are as many and as much.
template <class T>
UNFURL_DEVICE Prefix find(Scratch& s, const T* x, float top, float scale, int cols, int count, Mass mass) {
  if (threadIdx.x == 0) s.before = {0, 0, -1};
  __syncthreads();
  walk(s, s.first, 0, count, mass);
  int levels = 1;
  for (; s.members > kRanked && levels < kLevels; ++levels) {
    clear_histogram(s);
    for_each_token(x, top, scale, cols, [&](const Token& token, Mass m, float) {
      if (token.matches(s.digits, levels)) count_token(s, token.digit(levels), m);
    });
    sum_histogram(s, s.finer);
    walk(s, s.finer, levels, count, mass);
  }
  const int members = s.members;
  __syncthreads();
  if (threadIdx.x == 0) s.members = 0;
  __syncthreads();
  for_each_token(x, top, scale, cols, [&](const Token& token, Mass m, float) {
    if (!token.matches(s.digits, levels)) return;
    const int at = atomicAdd(&s.members, 1);  // in any order
    s.keys[at] = __float_as_uint(token.distance);
    s.ids[at] = token.id;
    s.masses[at] = m;
  });
  __syncthreads();
  for (int i = static_cast<int>(threadIdx.x); i < members; i += static_cast<int>(blockDim.x)) {
    Prefix before = s.before;
    for (int j = 0; j < members; ++j) {
      if (s.keys[j] < s.keys[i] || (s.keys[j] == s.keys[i] && s.ids[j] < s.ids[i])) {
        before.mass += s.masses[j];
        ++before.count;
      }
    }
    // One of them: the prefix reaches its end with this token, and not before.
    const bool ends = before.count + 1 >= count || before.mass + s.masses[i] >= mass;
    if (ends && before.count < count && before.mass < mass) {
      s.found = {before.mass + s.masses[i], before.count + 1, s.ids[i]};
    }
  }
  __syncthreads();
  return s.found;  // which nobody writes before the barriers of the next search
}

/// The least mass that is at least, or more than, this part of `all`, and possible.
UNFURL_DEVICE Mass part_of(Mass all, float part, bool more) {
  const double exact = static_cast<double>(part) * static_cast<double>(all), whole = floor(exact);
  const Mass mass = static_cast<Mass>(whole) + (more || whole < exact ? 1 : 0);
  return mass < 1 ? 1 : mass < all ? mass : all;
}

template <class T, int kThreads>
__global__ void __launch_bounds__(kThreads, 1) sample_kernel(Sample<T> a) {
  UNFURL_SHARED(Scratch, shared, [1]);
  Scratch& s = shared[0];
  const Index row = blockIdx.x;
  const T* x = a.logits.row(row);
  const Sampling config = a.config_at != nullptr ? *a.config_at : a.config;
  const int thread = static_cast<int>(threadIdx.x);

  float top = -INFINITY;
  for (int i = thread; i < a.cols; i += kThreads) top = fmaxf(top, as_float(x[i]));
  top = block_max(top, s.top);
  if (top == -INFINITY) {  // the whole block
    if (thread == 0) {
      a.tokens[row] = -1;
      if (a.log_probability != nullptr) a.log_probability[row] = top;
    }
    return;
  }
  const float scale = 1.0f / config.temperature;
  int token;
  if (!(config.temperature > 0) || !(scale < INFINITY) || !(top < INFINITY)) {
    if (thread == 0) s.members = a.cols;
    __syncthreads();
    for (int i = thread; i < a.cols; i += kThreads) {
      if (as_float(x[i]) == top) {
        atomicMin(&s.members, i);
        break;
      }
    }
    __syncthreads();
    token = s.members;
  } else {
    clear_histogram(s);
    if (thread == 0) s.enough = 0;
    __syncthreads();
    for_each_token(x, top, scale, a.cols, [&](const Token& t, Mass mass, float probability) {
      count_token(s, t.digit(0), mass);
      if (config.min_p > 0 && probability >= config.min_p) atomicAdd(&s.enough, 1);
    });
    sum_histogram(s, s.first);
    Prefix kept{0, 0, -1};
    for (int b = 0; b < kBuckets; ++b) {
      kept.mass += s.first[b].mass;
      kept.count += s.first[b].count;
    }
    const Mass all = kept.mass;
    if (config.top_k > 0 && config.top_k < kept.count) {
      kept = find(s, x, top, scale, a.cols, static_cast<int>(config.top_k), all + 1);
    }
    if (config.top_p < 1) {
      kept = find(s, x, top, scale, a.cols, kept.count, part_of(kept.mass, config.top_p, false));
    }
    if (config.min_p > 0 && s.enough < kept.count) {
      kept = find(s, x, top, scale, a.cols, s.enough < 1 ? 1 : s.enough, all + 1);
    }
    token = find(s, x, top, scale, a.cols, kept.count, part_of(kept.mass, a.uniforms[row], true)).token;
  }
  if (thread == 0) a.tokens[row] = token;
  if (a.log_probability == nullptr) return;  // the whole block
  float sum = 0;
  for (int i = thread; i < a.cols; i += kThreads) {
    const float distance = top - as_float(x[i]);
    if (distance < INFINITY) sum += ptx::ex2(-kLog2E * distance);
  }
  sum = block_sum(sum, s.sum);
  if (thread == 0) a.log_probability[row] = as_float(x[token]) - top - logf(sum);
}

template <class T>
void run(const DeviceQueue& queue, const Sample<T>& a, Index rows) {
  const dim3 grid(static_cast<unsigned>(rows));
  if (a.cols <= 4096) {
    launch(queue, sample_kernel<T, 128>, grid, dim3(128), 0, a);
  } else {
    launch(queue, sample_kernel<T, 1024>, grid, dim3(1024), 0, a);
  }
}

}  // namespace

template <class Queue, class T>
void sample(const Queue& queue, std::int32_t* tokens, Accumulator<T>* log_probability, Matrix<const T> logits,
            const float* uniforms, const Sampling& config, Index rows, Index cols) {
  run<T>(queue, {tokens, log_probability, logits, uniforms, nullptr, config, static_cast<int>(cols)}, rows);
}

template <class Queue, class T>
void sample_by(const Queue& queue, std::int32_t* tokens, Accumulator<T>* log_probability, Matrix<const T> logits,
               const float* uniforms, const Sampling* config, Index rows, Index cols) {
  run<T>(queue, {tokens, log_probability, logits, uniforms, config, {}, static_cast<int>(cols)}, rows);
}

#define UNFURL_INSTANTIATE(T)                                                                                        \
  template void sample(const DeviceQueue&, std::int32_t*, float*, Matrix<const T>, const float*, const Sampling&,    \
                       Index, Index);                                                                                \
  template void sample_by(const DeviceQueue&, std::int32_t*, float*, Matrix<const T>, const float*, const Sampling*, \
                          Index, Index);
UNFURL_INSTANTIATE(float)
UNFURL_INSTANTIATE(bf16)
#undef UNFURL_INSTANTIATE

}  // namespace unfurl::kernels
