#include "kernels/sampling.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstddef>
#include <limits>
#include <type_traits>
#include <utility>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/sampling.cpp"
#include "hwy/foreach_target.h"
// Highway's order: foreach_target.h before highway.h.
#include "hwy/contrib/math/math-inl.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace unfurl::kernels::HWY_NAMESPACE {
namespace {
namespace hn = hwy::HWY_NAMESPACE;

/// gap[i] = top - x[i] and mass[i] = exp(-gap[i] * scale), with padding up to whole vectors allowed behind all three.
/// What is not a number, or -infinity, gets an infinite gap and mass 0.
template <class T>
void masses(const T* x, T top, T scale, T* gap, T* mass, Index cols) {
  const hn::ScalableTag<T> d;
  const auto lanes = static_cast<Index>(hn::Lanes(d));
  const auto infinity = hn::Set(d, std::numeric_limits<T>::infinity());
  const auto highest = hn::Set(d, top), factor = hn::Set(d, -scale), zero = hn::Zero(d);
  for (Index i = 0; i < cols; i += lanes) {
    auto distance = hn::Sub(highest, hn::Load(d, x + i));
    distance = hn::IfThenElse(hn::Lt(distance, infinity), distance, infinity);
    // Adding 0 turns -0 into 0: the order of the gaps is read from their bits.
    hn::Store(hn::Add(distance, zero), d, gap + i);
    hn::Store(hn::Exp(d, hn::Mul(distance, factor)), d, mass + i);
  }
}

/// The greatest of x (NaN left out), -infinity where there is none.
template <class T>
T greatest(const T* x, Index cols) {
  const hn::ScalableTag<T> d;
  const auto lanes = static_cast<Index>(hn::Lanes(d));
  auto top = hn::Set(d, -std::numeric_limits<T>::infinity());
  for (Index i = 0; i < cols; i += lanes) {
    const auto v = hn::Load(d, x + i);
    top = hn::IfThenElse(hn::Gt(v, top), v, top);
  }
  return hn::GetLane(hn::MaxOfLanes(d, top));
}

void masses_f32(const float* x, float top, float scale, float* gap, float* mass, Index cols) {
  masses(x, top, scale, gap, mass, cols);
}
void masses_f64(const double* x, double top, double scale, double* gap, double* mass, Index cols) {
  masses(x, top, scale, gap, mass, cols);
}
float greatest_f32(const float* x, Index cols) { return greatest(x, cols); }
double greatest_f64(const double* x, Index cols) { return greatest(x, cols); }

}  // namespace
}  // namespace unfurl::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace unfurl::kernels {
namespace {
HWY_EXPORT(masses_f32);
HWY_EXPORT(masses_f64);
HWY_EXPORT(greatest_f32);
HWY_EXPORT(greatest_f64);

void masses(const float* x, float top, float scale, float* gap, float* mass, Index cols) {
  HWY_DYNAMIC_DISPATCH(masses_f32)(x, top, scale, gap, mass, cols);
}
void masses(const double* x, double top, double scale, double* gap, double* mass, Index cols) {
  HWY_DYNAMIC_DISPATCH(masses_f64)(x, top, scale, gap, mass, cols);
}
float greatest(const float* x, Index cols) { return HWY_DYNAMIC_DISPATCH(greatest_f32)(x, cols); }
double greatest(const double* x, Index cols) { return HWY_DYNAMIC_DISPATCH(greatest_f64)(x, cols); }

constexpr double kNoLimit = std::numeric_limits<double>::infinity();

/// A prefix of the row's tokens in order of falling probability: its last token, how many it has, their summed mass.
struct Prefix {
  std::int32_t token = -1;
  Index count = 0;
  double mass = 0;
};

/// The row's order of falling probability (rising gap, ties by id), which is never sorted as a whole: a histogram over
/// the leading bits of the gap says in which bucket a prefix ends, and only that bucket is looked into, bit group by
/// bit group, down to a few tokens that are sorted.
template <class T>
class Order {
 public:
  static constexpr int kBits = 11;
  static constexpr Index kBuckets = Index{1} << kBits;

  struct Bucket {
    double mass;
    std::int64_t count;
  };

  /// buckets: [2 * kBuckets].  ids: [cols]. Both are scratch, kept by the caller for the life of this.
  Order(const T* gap, const T* mass, Index cols, Bucket* buckets, std::int32_t* ids)
      : gap_(gap), mass_(mass), cols_(cols), first_(buckets), second_(buckets + kBuckets), ids_(ids) {
    std::fill_n(first_, kBuckets, Bucket{});
    for (Index i = 0; i < cols; ++i) {
      Bucket& bucket = first_[digit(static_cast<std::int32_t>(i), kTop)];
      bucket.mass += static_cast<double>(mass[i]);
      ++bucket.count;
    }
  }

  /// The shortest prefix that has `count` tokens or at least `mass`; never beyond the tokens of mass above 0.
  Prefix find(Index count, double mass) const {
    Prefix prefix;
    Index bucket = walk(first_, prefix, count, mass);
    Index members = 0;
    for (std::int32_t i = 0; i < cols_; ++i) {
      if (digit(i, kTop) == bucket) ids_[members++] = i;
    }
    for (int shift = kTop; members > 32 && shift > 0;) {
      shift = std::max(shift - kBits, 0);
      std::fill_n(second_, kBuckets, Bucket{});
      for (Index i = 0; i < members; ++i) {
        Bucket& into = second_[digit(ids_[i], shift)];
        into.mass += static_cast<double>(mass_[ids_[i]]);
        ++into.count;
      }
      bucket = walk(second_, prefix, count, mass);
      const auto elsewhere = [&](std::int32_t id) { return digit(id, shift) != bucket; };
      members = std::remove_if(ids_, ids_ + members, elsewhere) - ids_;
      // The bits above `shift` are now equal; those that a last, shorter step reads twice are too.
    }
    if (members <= 32) {
      std::sort(ids_, ids_ + members,
                [&](std::int32_t a, std::int32_t b) { return gap_[a] < gap_[b] || (gap_[a] == gap_[b] && a < b); });
    }
    for (Index i = 0; i < members && mass_[ids_[i]] > 0; ++i) {
      prefix.token = ids_[i];
      ++prefix.count;
      prefix.mass += static_cast<double>(mass_[ids_[i]]);
      if (prefix.count >= count || prefix.mass >= mass) break;
    }
    return prefix;
  }

 private:
  using Bits = std::conditional_t<sizeof(T) == 4, std::uint32_t, std::uint64_t>;
  // A gap is not negative: its bits below the sign rise with it.
  static constexpr int kTop = static_cast<int>(sizeof(T)) * 8 - 1 - kBits;

  Index digit(std::int32_t id, int shift) const {
    return static_cast<Index>(std::bit_cast<Bits>(gap_[id]) >> shift) & (kBuckets - 1);
  }

  /// The bucket in which the prefix ends; those before it are added to the prefix. The last bucket of any mass where
  /// the prefix does not end (rounding).
  static Index walk(const Bucket* buckets, Prefix& prefix, Index count, double mass) {
    Index last = -1;
    Prefix before = prefix;
    for (Index i = 0; i < kBuckets; ++i) {
      if (!(buckets[i].mass > 0)) continue;
      if (last >= 0) {
        before.count += buckets[last].count;
        before.mass += buckets[last].mass;
      }
      last = i;
      if (before.count + buckets[i].count >= count || before.mass + buckets[i].mass >= mass) break;
    }
    prefix = before;
    return last;
  }

  const T* gap_;
  const T* mass_;
  Index cols_;
  Bucket* first_;
  Bucket* second_;
  std::int32_t* ids_;
};

/// What one row needs besides its result, for rows of `cols` rounded up to whole vectors of any length.
template <class T>
struct Scratch {
  static constexpr Index padded(Index cols) { return (cols + 63) / 64 * 64; }
  static std::size_t bytes(Index cols) {
    return static_cast<std::size_t>(padded(cols)) * (3 * sizeof(T) + sizeof(std::int32_t)) +
           2 * Order<T>::kBuckets * sizeof(typename Order<T>::Bucket);
  }

  T *logits, *gap, *mass;
  typename Order<T>::Bucket* buckets;
  std::int32_t* ids;

  explicit Scratch(Index cols) {
    auto* at = static_cast<std::byte*>(thread_scratch(bytes(cols)));
    const auto take = [&](std::size_t size) { return std::exchange(at, at + size); };
    const auto row = static_cast<std::size_t>(padded(cols));
    buckets = reinterpret_cast<typename Order<T>::Bucket*>(take(2 * Order<T>::kBuckets * sizeof(*buckets)));
    logits = reinterpret_cast<T*>(take(row * sizeof(T)));
    gap = reinterpret_cast<T*>(take(row * sizeof(T)));
    mass = reinterpret_cast<T*>(take(row * sizeof(T)));
    ids = reinterpret_cast<std::int32_t*>(take(row * sizeof(std::int32_t)));
  }
};

/// The token drawn from a row, of which s.gap and s.mass are filled.
template <class T>
std::int32_t draw(const Scratch<T>& s, float uniform, const Sampling& config, Index cols) {
  const Order<T> order(s.gap, s.mass, cols, s.buckets, s.ids);
  Prefix kept = order.find(config.top_k > 0 ? config.top_k : cols, kNoLimit);
  if (config.top_p < 1) kept = order.find(kept.count, static_cast<double>(config.top_p) * kept.mass);
  if (config.min_p > 0) {
    // The greatest mass is exp(0) = 1.
    const auto enough =
        std::count_if(s.mass, s.mass + cols, [&](T mass) { return mass >= static_cast<T>(config.min_p); });
    if (enough < kept.count) kept = order.find(std::max<Index>(enough, 1), kNoLimit);
  }
  // "Exceeds u" is "at least the next greater number".
  const double target = static_cast<double>(uniform) * kept.mass;
  return order.find(kept.count, std::nextafter(target, kNoLimit)).token;
}

template <class T>
void sample_row(std::int32_t& token, T* log_probability, const T* logits, float uniform, const Sampling& config,
                Index cols) {
  const Scratch<T> s(cols);
  std::copy(logits, logits + cols, s.logits);
  std::fill(s.logits + cols, s.logits + Scratch<T>::padded(cols), -std::numeric_limits<T>::infinity());
  const Index padded = Scratch<T>::padded(cols);

  const T top = greatest(s.logits, padded);
  const T scale = T(1) / static_cast<T>(config.temperature);
  if (top == -std::numeric_limits<T>::infinity()) {
    token = -1;
    if (log_probability != nullptr) *log_probability = top;
    return;
  }
  if (!(config.temperature > 0) || !std::isfinite(scale) || !std::isfinite(top)) {
    token = static_cast<std::int32_t>(std::find(logits, logits + cols, top) - logits);
  } else {
    masses(s.logits, top, scale, s.gap, s.mass, padded);
    token = draw(s, uniform, config, cols);
  }
  if (log_probability == nullptr) return;
  masses(s.logits, top, T(1), s.gap, s.mass, padded);
  double sum = 0;
  for (Index i = 0; i < cols; ++i) sum += static_cast<double>(s.mass[i]);
  *log_probability = static_cast<T>(static_cast<double>(logits[token]) - static_cast<double>(top) - std::log(sum));
}

}  // namespace

template <class Queue, class T>
void sample(const Queue& queue, std::int32_t* tokens, Accumulator<T>* log_probability, Matrix<const T> logits,
            const float* uniforms, const Sampling& config, Index rows, Index cols) {
  queue.pool().parallel_for(rows, [&](Index r) {
    sample_row<T>(tokens[r], log_probability != nullptr ? log_probability + r : nullptr, logits.row(r), uniforms[r],
                  config, cols);
  });
}

template <class Queue, class T>
void sample_by(const Queue& queue, std::int32_t* tokens, Accumulator<T>* log_probability, Matrix<const T> logits,
               const float* uniforms, const Sampling* config, Index rows, Index cols) {
  sample<Queue, T>(queue, tokens, log_probability, logits, uniforms, *config, rows, cols);
}

#define UNFURL_INSTANTIATE(T)                                                                                        \
  template void sample(const CpuQueue&, std::int32_t*, T*, Matrix<const T>, const float*, const Sampling&, Index,    \
                       Index);                                                                                       \
  template void sample_by(const CpuQueue&, std::int32_t*, T*, Matrix<const T>, const float*, const Sampling*, Index, \
                          Index);
UNFURL_INSTANTIATE(float)
UNFURL_INSTANTIATE(double)
#undef UNFURL_INSTANTIATE

}  // namespace unfurl::kernels
#endif
