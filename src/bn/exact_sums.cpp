// SPDX-License-Identifier: Apache-2.0
#include "bn/exact_sums.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

namespace syncbn::bn {
namespace {

using kernels::FixedPointSum;

// Standard deviations of the history that a forward's window holds, and largest gradients of the
// last step that a backward's does, as powers of 2.
constexpr int deviations = 8;
constexpr int gradients = 6;
// A product of dz and x - mean is rarely as large as both factors' largest.
constexpr int deviations_of_products = 4;
// How much wider than the largest gradient a window may be.
constexpr int widest = 16;

int in_range(int window) {
  return std::clamp(window, kernels::least_window, kernels::most_window);
}

std::size_t at(std::int64_t c) {
  return static_cast<std::size_t>(c);
}

/// Windows of the largest terms, for channels to be taken again.
void fit_windows(ExactWorkspace& exact, const ChannelRange& channels) {
  for (std::size_t c = at(channels.begin); c < at(channels.end); ++c) {
    if (exact.again[c] == 0) {
      continue;
    }
    // One more than the exponent: room for a term that is rounded up, or otherwise than magnitudes.
    const auto fit = [](int exponent) {
      return exponent == ExactWorkspace::unknown ? 0 : in_range(exponent + 1);
    };
    exact.first_window[c] = fit(exact.first_exponent[c]);
    exact.second_window[c] = fit(exact.second_exponent[c]);
    exact.known[c] = 1;
    if (exact.second_exponent[c] >= kernels::most_window) {  // too large to be counted
      exact.second_special[c] = std::numeric_limits<double>::infinity();
    }
  }
}

}  // namespace

// --- forward ---------------------------------------------------------------------------------

void ExactForward::choose_windows(std::span<const double> var) {
  for (std::size_t c = 0; c < pivot_.size(); ++c) {
    exact_.first_special[c] = exact_.second_special[c] = 0;
    // A float may be that far from the mean.
    const double rounding = 0x1p-22 * std::fabs(static_cast<double>(pivot_[c]));
    const double width = std::max(std::ldexp(std::sqrt(var[c] + eps_), deviations), rounding);
    exact_.known[c] = var[c] >= 0 && std::isfinite(width) && width > 0 ? 1 : 0;
    exact_.first_window[c] = exact_.known[c] != 0 ? in_range(exponent_of(width)) : 0;
    exact_.second_window[c] = exact_.known[c] != 0 ? in_range(2 * exponent_of(width)) : 0;
  }
}

kernels::ForwardSums ExactForward::arguments(const ChannelRange& channels) const {
  return {.x = x_,
          .channels = channels,
          .weight = weight_.empty() ? nullptr : weight_.data(),
          .pivot = pivot_.data(),
          .sum = nullptr,
          .sum_sq = nullptr};
}

void ExactForward::sum(const ChannelRange& channels) {
  if (any_known(channels)) {
    kernels::select(backend_).forward_in_fixed_point(arguments(channels), fixed_point(),
                                                     {.scratch = working_.scratch});
  }
  mark_unknown(channels);
}

bool ExactForward::needs_another(std::size_t c, bool is_last) const {
  const double n = working_.sums.back();
  if (exact_.again[c] != 0) {
    return !is_last;
  }
  if (!(n > 0) || exact_.first_special[c] != 0 || exact_.second_special[c] != 0) {
    return false;
  }
  const int bits = exact_.fine ? 2 * kernels::unit_bits : kernels::unit_bits;
  const double first_unit = std::ldexp(1.0, exact_.first_window[c] - bits);
  const double second_unit = std::ldexp(1.0, exact_.second_window[c] - bits);
  const double offset = std::fabs(working_.sums[c] / n);
  const double var = std::max(0.0, working_.sums[pivot_.size() + c] / n - offset * offset);
  const bool another_is_nearer = offset > 0x1p-22 * std::fabs(static_cast<double>(pivot_[c]));
  const double tolerance = exact_.fine ? 1e-14 : 0x1p-25;
  const double error =
      second_unit / 2 + offset * first_unit + (another_is_nearer ? 0x1p-52 * offset * offset : 0);
  if (error <= tolerance * (var + eps_)) {
    return false;
  }
  // Windows that fit already become narrower only about a pivot that is much nearer.
  return !is_last || (another_is_nearer && offset > std::ldexp(1.0, exact_.first_window[c] - 4));
}

bool ExactForward::settle(const ChannelRange& channels) {
  constexpr int most = 2;
  for (int time = 0; time < most; ++time) {
    bool any = false;
    for (std::size_t c = at(channels.begin); c < at(channels.end); ++c) {
      const bool was_outside = exact_.again[c] != 0;
      exact_.again[c] = needs_another(c, time > 0) ? 1 : 0;
      any = any || exact_.again[c] != 0;
      if (exact_.again[c] != 0 && !was_outside) {
        const auto channel = static_cast<std::int64_t>(c);
        move_pivot_to_mean({channel, channel + 1}, working_.sums, pivot_);
      }
    }
    if (!any) {
      return time > 0;
    }
    kernels::select(backend_).forward_magnitudes(arguments(channels), magnitudes(),
                                                 {.scratch = working_.scratch});
    find_exponents(channels);
    fit_windows(exact_, channels);
    sum(channels);
    exchange(channels);
  }
  return true;
}

// --- backward --------------------------------------------------------------------------------

void ExactBackward::choose_windows() {
  const Statistics& statistics = context_.statistics;
  for (std::size_t c = 0; c < exact_.first_window.size(); ++c) {
    exact_.first_special[c] = exact_.second_special[c] = 0;
    const double invstd = statistics.invstd[c];
    const double deviation = invstd > 0 ? 1 / invstd : std::fabs(0x1p-24 * statistics.mean[c]);
    const bool known =
        exact_.gradient_exponent[c] != ExactWorkspace::unknown && std::isfinite(deviation);
    const int window = exact_.gradient_exponent[c] + gradients;
    const int of_products = window + exponent_of(deviation) + deviations_of_products;
    exact_.known[c] = known ? 1 : 0;
    exact_.first_window[c] = known ? in_range(window) : 0;
    exact_.second_window[c] = known ? in_range(of_products) : 0;
  }
}

void ExactBackward::sum(const ChannelRange& channels) {
  if (any_known(channels)) {
    kernels::select(backend_).backward_in_fixed_point(
        {.upstream = upstream_of(context_, channels, working_),
         .channels = channels,
         .sum_dz = nullptr,
         .sum_dz_x = nullptr},
        fixed_point(), {.scratch = working_.scratch});
  }
  mark_unknown(channels);
  take_own(channels);
}

void ExactBackward::take_own(const ChannelRange& channels) {
  const std::size_t all = exact_.first.size();
  for (std::size_t c = at(channels.begin); c < at(channels.end); ++c) {
    const auto own = [&](double special, double of_group, const FixedPointSum& sum, int window) {
      return of_group != 0 && special != 0 ? special : value_of(sum, window);
    };
    working_.own_sums[c] = own(exact_.first_own_special[c], exact_.first_special[c],
                               exact_.first[c], exact_.first_window[c]);
    working_.own_sums[all + c] = own(exact_.second_own_special[c], exact_.second_special[c],
                                     exact_.second[c], exact_.second_window[c]);
  }
}

void ExactBackward::settle(const ChannelRange& channels) {
  bool any = false;
  for (std::size_t c = at(channels.begin); c < at(channels.end); ++c) {
    const int exponent = exact_.largest_exponent[c];
    const bool too_wide =
        exponent != ExactWorkspace::unknown && exact_.first_window[c] - exponent > widest;
    exact_.again[c] = exact_.again[c] != 0 || too_wide ? 1 : 0;
    any = any || exact_.again[c] != 0;
  }
  if (any) {
    kernels::select(backend_).backward_magnitudes(
        {.upstream = upstream_of(context_, channels, working_),
         .channels = channels,
         .sum_dz = nullptr,
         .sum_dz_x = nullptr},
        magnitudes(), {.scratch = working_.scratch});
    find_exponents(channels);
    fit_windows(exact_, channels);
    for (std::size_t c = at(channels.begin); c < at(channels.end); ++c) {
      // Lanes without an element say NaN then, and how many there are is no property of the batch.
      if (exact_.again[c] != 0 && !std::isfinite(context_.statistics.mean[c])) {
        exact_.second_special[c] = std::numeric_limits<double>::quiet_NaN();
      }
    }
    sum(channels);
    exchange(channels);
  }
  for (std::size_t c = at(channels.begin); c < at(channels.end); ++c) {
    const bool is_special = exact_.first_special[c] != 0 || exact_.second_special[c] != 0;
    if (exact_.largest_exponent[c] != ExactWorkspace::unknown && !is_special) {
      exact_.gradient_exponent[c] = exact_.largest_exponent[c];
    }
  }
}

}  // namespace syncbn::bn
