#include "train/corpus/invert.h"

#include <algorithm>
#include <cmath>

#include "kernels/matmul.h"

namespace unfurl::train {
namespace {

constexpr Index kMarks = 2;  // tokens for begin and end

double dot(const float* a, const float* b, Index size) {
  double sum = 0;
  for (Index i = 0; i < size; ++i) sum += static_cast<double>(a[i]) * b[i];
  return sum;
}

/// The prompt that grows: how near it is, without its vector. With x the sum of the parts' unit vectors, similarity is
/// x.image / |x|.
struct Sum {
  double along = 0, squares = 1;  // x.image, x.x

  double similarity() const { return along / std::sqrt(std::max(squares, 1e-12)); }
  /// With one more unit vector f, given f.image and f.x.
  Sum with(double f_along, double f_dot) const { return {along + f_along, squares + 2 * f_dot + 1}; }
};

class Image {
 public:
  Image(const FlavorLists& lists, std::string_view caption_text, std::span<const float> image,
        std::span<const float> caption, const InvertRules& rules)
      : lists_(lists),
        image_(image),
        caption_(caption),
        rules_(rules),
        caption_tokens_(estimated_clip_tokens(caption_text)) {}

  Sum start() const { return {dot(caption_.data(), image_.data(), lists_.size), 1}; }

  bool fits(Index tokens, Index flavor) const { return tokens + cost(flavor) <= rules_.max_tokens; }
  Index caption_tokens() const { return caption_tokens_; }
  Index cost(Index flavor) const {  // a comma and the words
    return 1 + estimated_clip_tokens(lists_.texts[static_cast<std::size_t>(flavor)]) - kMarks;
  }

  /// The flavors in order, until one does not fit.
  InvertedForm in_order(const std::vector<Index>& flavors) const {
    InvertedForm form;
    Index tokens = caption_tokens_;
    std::vector<double> x(caption_.begin(), caption_.end());
    for (const Index flavor : flavors) {
      if (!fits(tokens, flavor)) break;
      tokens += cost(flavor);
      form.flavors.push_back(flavor);
      for (Index i = 0; i < lists_.size; ++i) x[static_cast<std::size_t>(i)] += lists_.row(flavor)[i];
    }
    Sum sum{0, 0};
    for (std::size_t i = 0; i < x.size(); ++i) {
      sum.along += x[i] * image_[i];
      sum.squares += x[i] * x[i];
    }
    form.similarity = sum.similarity();
    return form;
  }

  InvertedForm chain(kernels::ThreadPool& pool, const std::vector<RankedFlavor>& candidates) const {
    const kernels::CpuQueue queue(pool);
    const Index count = static_cast<Index>(candidates.size()), size = lists_.size;
    std::vector<float> rows(static_cast<std::size_t>(count * size)), with_last(candidates.size());
    for (Index j = 0; j < count; ++j) {
      std::copy_n(lists_.row(candidates[static_cast<std::size_t>(j)].flavor), size, rows.data() + j * size);
    }
    // The candidates' dot products with the prompt so far grow by those with the part that was appended last.
    std::vector<double> with_sum(candidates.size(), 0.0), along(candidates.size());
    for (Index j = 0; j < count; ++j) {
      along[static_cast<std::size_t>(j)] = dot(rows.data() + j * size, image_.data(), size);
    }
    const auto append = [&](const float* part) {
      kernels::matmul(queue, kernels::Matrix<float>{with_last.data(), count}, kernels::Matrix<const float>{part, size},
                      false, kernels::Matrix<const float>{rows.data(), size}, true, 1, count, size, false);
      for (std::size_t j = 0; j < with_sum.size(); ++j) with_sum[j] += with_last[j];
    };

    InvertedForm form;
    Sum sum = start();
    Index tokens = caption_tokens_;
    std::vector<bool> used(candidates.size(), false);
    const float* last = caption_.data();
    while (static_cast<Index>(form.flavors.size()) < std::min(rules_.most, count)) {
      append(last);
      std::size_t best = candidates.size();
      double nearest = 0;
      for (std::size_t j = 0; j < candidates.size(); ++j) {
        if (used[j]) continue;
        const double similarity = sum.with(along[j], with_sum[j]).similarity();
        if (best == candidates.size() || similarity > nearest) best = j, nearest = similarity;
      }
      const Index flavor = candidates[best].flavor;
      const bool free = static_cast<Index>(form.flavors.size()) < rules_.unconditional;
      if ((!free && nearest <= sum.similarity()) || !fits(tokens, flavor)) break;
      sum = sum.with(along[best], with_sum[best]);
      tokens += cost(flavor);
      used[best] = true;
      form.flavors.push_back(flavor);
      last = rows.data() + static_cast<Index>(best) * size;
    }
    // As the other forms are measured, so that equal prompts are equally near.
    form.similarity = in_order(form.flavors).similarity;
    return form;
  }

 private:
  const FlavorLists& lists_;
  std::span<const float> image_, caption_;
  const InvertRules& rules_;
  Index caption_tokens_;
};

/// The best flavors of all lists, each text once.
std::vector<RankedFlavor> merged(const FlavorLists& lists, const Ranking& ranking, std::size_t at, Index keep) {
  std::vector<RankedFlavor> all;
  for (std::size_t l = 0; l < kFlavorLists.size(); ++l) {
    if (ranking.lists[l].empty()) continue;
    for (RankedFlavor flavor : ranking.lists[l][at]) {
      flavor.flavor += static_cast<std::int32_t>(lists.begins[l]);
      all.push_back(flavor);
    }
  }
  std::ranges::sort(all, ranks_before);
  // A text of two lists is there twice, with embeddings that may differ: the nearer one stays.
  std::vector<RankedFlavor> once;
  std::vector<bool> taken(lists.texts.size(), false);
  for (const RankedFlavor& flavor : all) {
    const auto place = static_cast<std::size_t>(lists.same[static_cast<std::size_t>(flavor.flavor)]);
    if (taken[place]) continue;
    taken[place] = true;
    once.push_back(flavor);
    if (static_cast<Index>(once.size()) == keep) break;
  }
  return once;
}

}  // namespace

Index estimated_clip_tokens(std::string_view text) {
  constexpr Index kLetters = 8;
  Index tokens = kMarks, letters = 0;
  const auto end_word = [&] {
    tokens += (letters + kLetters - 1) / kLetters;
    letters = 0;
  };
  for (const char c : text) {
    const bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c & 0x80) != 0;
    if (letter) {
      ++letters;
      continue;
    }
    end_word();
    if (c != ' ' && c != '\t') ++tokens;
  }
  end_word();
  return tokens;
}

Ranking rank_flavors(kernels::ThreadPool& pool, const FlavorLists& lists, const float* images, Index count,
                     const InvertRules& rules) {
  Ranking ranking;
  for (std::size_t l = 0; l < kFlavorLists.size(); ++l) {
    const Index flavors = lists.begins[l + 1] - lists.begins[l];
    if (flavors == 0) continue;
    ranking.lists[l] = top_flavors(pool, images, count, lists.row(lists.begins[l]), flavors, lists.size,
                                   std::max(rules.keep, rules.fast));
  }
  return ranking;
}

Inversion invert(kernels::ThreadPool& pool, const FlavorLists& lists, const Ranking& ranking, std::size_t at,
                 std::string_view caption_text, std::span<const float> image, std::span<const float> caption,
                 const InvertRules& rules) {
  const Image work(lists, caption_text, image, caption, rules);
  const std::vector<RankedFlavor> all = merged(lists, ranking, at, std::max(rules.keep, rules.fast));
  std::vector<Index> fast, classic;
  for (std::size_t i = 0; i < all.size() && static_cast<Index>(i) < rules.fast; ++i) fast.push_back(all[i].flavor);
  const auto take = [&](std::size_t list, Index count) {
    if (ranking.lists[list].empty()) return;
    const std::vector<RankedFlavor>& best = ranking.lists[list][at];
    for (std::size_t i = 0; i < best.size() && count > 0; ++i) {
      const Index flavor = lists.begins[list] + best[i].flavor;
      // What another part says is not said again.
      const bool said = std::ranges::any_of(classic, [&](Index other) {
        return lists.same[static_cast<std::size_t>(other)] == lists.same[static_cast<std::size_t>(flavor)];
      });
      if (said) continue;
      classic.push_back(flavor);
      --count;
    }
  };
  for (std::size_t list = 1; list < kFlavorLists.size(); ++list) take(list, 1);
  take(0, rules.classic);
  std::vector<RankedFlavor> candidates(
      all.begin(), all.begin() + static_cast<std::ptrdiff_t>(
                                     std::min<std::size_t>(all.size(), static_cast<std::size_t>(rules.keep))));
  return {work.in_order({}), work.in_order(fast), work.in_order(classic), work.chain(pool, candidates)};
}

std::size_t best_form(const Inversion& inversion) {
  std::size_t best = 0;
  for (std::size_t i = 1; i < inversion.size(); ++i) {
    if (inversion[i].similarity > inversion[best].similarity) best = i;
  }
  return best;
}

std::string prompt_of(std::string_view caption, const InvertedForm& form, const FlavorLists& lists) {
  std::string prompt(caption);
  for (const Index flavor : form.flavors) prompt += ", " + lists.texts[static_cast<std::size_t>(flavor)];
  return prompt;
}

}  // namespace unfurl::train
