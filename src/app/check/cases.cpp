// SPDX-License-Identifier: Apache-2.0
#include "app/check/cases.hpp"

#include <algorithm>
#include <iterator>

#include <fmt/format.h>

#include "app/check/tolerance.hpp"
#include "trainer/random.hpp"

namespace syncbn::app::check {
namespace {

// These shapes [N, C, S] have odd sizes, so that vectors and blocks of every length have tails.
constexpr Shape small_shapes[] = {{13, 1, 49}, {29, 3, 1},  {11, 3, 25}, {9, 31, 9},
                                  {8, 64, 16}, {7, 127, 5}, {6, 19, 79}, {12, 2048, 1}};
constexpr Shape large_shape = {9, 64, 196};

constexpr double all_ratios[] = {0, 1, 1e2, 1e3, 1e4, 1e6};
constexpr double few_ratios[] = {0, 1e2, 1e4, 1e6};

struct Fusion {
  Activation activation;
  bool residual;
};
constexpr Fusion all_fusions[] = {
    {Activation::none, false},           {Activation::relu, true},
    {Activation::relu, false},           {Activation::none, true},
    {Activation::leaky_relu(0.1), true}, {Activation::leaky_relu(0.3), false}};

std::span<const double> ratios(const Selection& selection) {
  return selection.quick ? std::span<const double>(few_ratios) : all_ratios;
}

bool can_recover(const Fusion& fusion) {
  return !fusion.residual && fusion.activation.negative_slope > 0;
}

class Enumeration {
 public:
  explicit Enumeration(const Selection& selection) : selection_(selection) {}

  void add(DType dtype, Layout layout, const Shape& shape, std::span<const double> mean_over_std) {
    for (const double ratio : mean_over_std) {
      if (ratio > largest_mean_over_std(dtype)) {
        continue;
      }
      for (int i = 0; i < (selection_.quick ? 1 : 2); ++i) {
        const Fusion& fusion = all_fusions[draw(std::size(all_fusions))];
        const Memory apart_or_recovered =
            can_recover(fusion) && draw(4) != 0 ? Memory::recovered : Memory::apart;
        cases_.push_back({.device = selection_.device,
                          .dtype = dtype,
                          .layout = layout,
                          .shape = shape,
                          .mean_over_std = ratio,
                          .activation = fusion.activation,
                          .residual = fusion.residual,
                          .weighted = draw(3) == 0,
                          .memory = draw(4) == 0 ? Memory::in_place : apart_or_recovered,
                          .scope = draw(3) == 0 ? GradientScope::local : GradientScope::group,
                          .sharding = static_cast<Sharding>(draw(4)),
                          .channel_blocks = draw(5) < 2 ? 3 : 1,
                          .reproducibility = selection_.exact ? Reproducibility::exact
                                                              : Reproducibility::rank_consistent});
        if (selection_.device != DeviceKind::cpu) {
          cases_.back().channel_blocks = 1;
          cases_.back().replayed = selection_.graphs && draw(3) == 0;
        }
      }
    }
  }

  std::vector<Case> take() { return std::move(cases_); }

 private:
  /// Draws one of 0 .. choices - 1, the same on all ranks and in every run.
  std::size_t draw(std::size_t choices) {
    return static_cast<std::size_t>(static_cast<double>(choices) * random_.uniform(drawn_++));
  }

  const Selection& selection_;
  std::vector<Case> cases_;
  trainer::Random random_{{0}};
  std::uint64_t drawn_ = 0;
};

std::string shards_text(const Case& one, int ranks) {
  std::vector<std::int64_t> sizes;
  for (int rank = 0; rank < ranks; ++rank) {
    sizes.push_back(shard_of(one.sharding, one.shape.n, rank, ranks).size());
  }
  return fmt::format("{}", fmt::join(sizes, "+"));
}

std::string_view memory_text(Memory memory) {
  switch (memory) {
    case Memory::in_place:
      return ", in place";
    case Memory::recovered:
      return ", x recovered";
    case Memory::apart:
      break;
  }
  return "";
}

std::string activation_text(Activation activation) {
  if (activation == Activation::none) {
    return "";
  }
  return activation == Activation::relu ? ", relu"
                                        : fmt::format(", leaky relu {}", activation.negative_slope);
}

}  // namespace

int steps_of(const Case& one) {
  return one.replayed ? 3 : 2;
}

bool sums_on_device(const Case& one) {
  return one.device != DeviceKind::cpu && one.reproducibility != Reproducibility::exact;
}

Shard shard_of(Sharding sharding, std::int64_t samples, int rank, int ranks) {
  const auto cut = [&](std::int64_t part, std::int64_t whole) { return samples * part / whole; };
  const std::int64_t r = rank;
  const std::int64_t p = ranks;
  if (p > 1) {
    switch (sharding) {
      case Sharding::even:
        break;
      case Sharding::growing: {
        const std::int64_t whole = p * (p + 1) / 2;
        return {cut(r * (r + 1) / 2, whole), cut((r + 1) * (r + 2) / 2, whole)};
      }
      case Sharding::first_empty: {
        return {cut(std::max<std::int64_t>(r - 1, 0), p - 1), cut(r, p - 1)};
      }
      case Sharding::last_alone: {
        return {0, r == p - 1 ? samples : 0};
      }
    }
  }
  return {cut(r, p), cut(r + 1, p)};
}

std::string describe(const Case& one, int ranks) {
  return fmt::format("{} {}x{}x{} {}, |mean|/std {:.0e}{}{}{}{}{}{}, shards {}",
                     to_string(one.dtype), one.shape.n, one.shape.c, one.shape.s,
                     to_string(one.layout), one.mean_over_std, activation_text(one.activation),
                     one.residual ? ", residual" : "", one.weighted ? ", weighted" : "",
                     memory_text(one.memory), one.channel_blocks > 1 ? ", in blocks" : "",
                     one.replayed ? ", replayed" : "", shards_text(one, ranks));
}

double largest_mean_over_std(DType dtype) {
  const double spacing = 2 * precision_of(dtype).element;  // distance of values near 1
  double largest = 0;
  for (const double ratio : all_ratios) {
    if (ratio * spacing <= 1) {
      largest = ratio;
    }
  }
  return largest;
}

std::vector<Case> make_cases(const Selection& selection) {
  constexpr double large_ratios[] = {0, 1e4};
  Enumeration cases(selection);
  for (const DType dtype : selection.dtypes) {
    for (const Layout layout : selection.layouts) {
      for (const Shape& shape : small_shapes) {
        cases.add(dtype, layout, shape, ratios(selection));
      }
      cases.add(dtype, layout, large_shape, large_ratios);
    }
  }
  return cases.take();
}

}  // namespace syncbn::app::check
