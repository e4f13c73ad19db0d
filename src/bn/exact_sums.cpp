// SPDX-License-Identifier: Apache-2.0
#include "bn/exact_sums.hpp"

#include <cmath>
#include <limits>

#include "bn/passes.hpp"
#include "kernels/statistics.hpp"
#include "kernels/windows.hpp"

namespace syncbn::bn {
namespace {

using kernels::FixedPointSum;
using kernels::Windows;

void set_windows(ExactWorkspace& exact, std::size_t c, const Windows& windows) {
  exact.first_window[c] = windows.first;
  exact.second_window[c] = windows.second;
  exact.known[c] = windows.known ? 1 : 0;
}

/// Fits the windows of channels to be taken again to their largest terms.
void fit_windows(ExactWorkspace& exact, const ChannelRange& channels) {
  for (std::size_t c = at(channels.begin); c < at(channels.end); ++c) {
    if (exact.again[c] == 0) {
      continue;
    }
    exact.first_window[c] = kernels::fitted_window(exact.first_exponent[c]);
    exact.second_window[c] = kernels::fitted_window(exact.second_exponent[c]);
    exact.known[c] = 1;
    if (kernels::is_too_large_to_count(exact.second_exponent[c])) {
      exact.second_special[c] = std::numeric_limits<double>::infinity();
    }
  }
}

}  // namespace

// --- forward ---------------------------------------------------------------------------------

void ExactForward::choose_windows(std::span<const double> var) {
  for (std::size_t c = 0; c < pivot_.size(); ++c) {
    exact_.first_special[c] = exact_.second_special[c] = 0;
    set_windows(exact_, c, kernels::forward_windows(var[c], eps_, pivot_[c]));
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
  if (exact_.again[c] != 0) {
    return !is_last;
  }
  if (exact_.first_special[c] != 0 || exact_.second_special[c] != 0) {
    return false;
  }
  const Windows windows{exact_.first_window[c], exact_.second_window[c], true};
  const kernels::ForwardTotals totals{.sum = working_.sums[c],
                                      .sum_sq = working_.sums[pivot_.size() + c],
                                      .count = working_.sums.back(),
                                      .terms = exact_.terms};
  return kernels::is_too_coarse(totals, windows, pivot_[c], eps_, exact_.fine, is_last);
}

bool ExactForward::is_settled(const ChannelRange& channels) const {
  bool settled = true;
  for (std::size_t c = at(channels.begin); c < at(channels.end); ++c) {
    settled = settled && !needs_another(c, false);
  }
  return settled;
}

void ExactForward::settle(const ChannelRange& channels) {
  constexpr int most = 2;
  for (int time = 0; time < most; ++time) {
    bool any = false;
    for (std::size_t c = at(channels.begin); c < at(channels.end); ++c) {
      const bool was_outside = exact_.again[c] != 0;
      exact_.again[c] = needs_another(c, time > 0) ? 1 : 0;
      any = any || exact_.again[c] != 0;
      if (exact_.again[c] != 0 && !was_outside) {
        pivot_[c] =
            kernels::nearest_pivot(working_.sums[c] / working_.sums.back(), pivot_[c], exact_.fine);
      }
    }
    if (!any) {
      return;
    }
    kernels::select(backend_).forward_magnitudes(arguments(channels), magnitudes(),
                                                 {.scratch = working_.scratch});
    find_exponents(channels);
    fit_windows(exact_, channels);
    sum(channels);
    exchange(channels);
  }
}

// --- backward --------------------------------------------------------------------------------

void ExactBackward::choose_windows() {
  const Statistics& statistics = context_.statistics;
  for (std::size_t c = 0; c < exact_.first_window.size(); ++c) {
    exact_.first_special[c] = exact_.second_special[c] = 0;
    set_windows(exact_, c,
                kernels::backward_windows(exact_.gradient_exponent[c], statistics.mean[c],
                                          statistics.invstd[c]));
  }
}

template <class Run>
void ExactBackward::in_parts(const ChannelRange& channels, Run run) {
  const kernels::Upstream upstream = upstream_of(context_, channels, working_);
  in_range_of(context_.x.dtype(), backend_, channels, context_.statistics, working_,
              [&](const kernels::Kernels& kernels, const ChannelRange& part) {
                run(kernels, kernels::BackwardSums{upstream, part, nullptr, nullptr});
              });
}

void ExactBackward::sum(const ChannelRange& channels) {
  if (any_known(channels)) {
    in_parts(
        channels, [&](const kernels::Kernels& kernels, const kernels::BackwardSums& arguments) {
          kernels.backward_in_fixed_point(arguments, fixed_point(), {.scratch = working_.scratch});
        });
  }
  mark_unknown(channels);
  take_own(channels);
}

void ExactBackward::take_own(const ChannelRange& channels) {
  const std::size_t all = exact_.first.size();
  for (std::size_t c = at(channels.begin); c < at(channels.end); ++c) {
    const auto own = [&](double special, double of_group, const FixedPointSum& sum, int window) {
      return of_group != 0 && special != 0 ? special : kernels::value_of(sum, window);
    };
    working_.own_sums[c] = own(exact_.first_own_special[c], exact_.first_special[c],
                               exact_.first[c], exact_.first_window[c]);
    working_.own_sums[all + c] = own(exact_.second_own_special[c], exact_.second_special[c],
                                     exact_.second[c], exact_.second_window[c]);
  }
}

bool ExactBackward::needs_another(std::size_t c) const {
  return exact_.again[c] != 0 ||
         kernels::is_too_wide(exact_.first_window[c], exact_.largest_exponent[c]);
}

bool ExactBackward::is_settled(const ChannelRange& channels) const {
  bool settled = true;
  for (std::size_t c = at(channels.begin); c < at(channels.end); ++c) {
    settled = settled && !needs_another(c);
  }
  return settled;
}

void ExactBackward::settle(const ChannelRange& channels) {
  for (std::size_t c = at(channels.begin); c < at(channels.end); ++c) {
    exact_.again[c] = needs_another(c) ? 1 : 0;
  }
  in_parts(channels, [&](const kernels::Kernels& kernels, const kernels::BackwardSums& arguments) {
    kernels.backward_magnitudes(arguments, magnitudes(), {.scratch = working_.scratch});
  });
  find_exponents(channels);
  fit_windows(exact_, channels);
  for (std::size_t c = at(channels.begin); c < at(channels.end); ++c) {
    // With such a mean, lanes without an element yield a NaN too. How many lanes those are is no
    // property of the batch, so the sum is a NaN in any case.
    if (exact_.again[c] != 0 && !std::isfinite(context_.statistics.mean[c])) {
      exact_.second_special[c] = std::numeric_limits<double>::quiet_NaN();
    }
  }
  sum(channels);
  exchange(channels);
}

void ExactBackward::remember_exponents(const ChannelRange& channels) {
  for (std::size_t c = at(channels.begin); c < at(channels.end); ++c) {
    const bool is_special = exact_.first_special[c] != 0 || exact_.second_special[c] != 0;
    if (exact_.largest_exponent[c] != kernels::no_exponent && !is_special) {
      exact_.gradient_exponent[c] = exact_.largest_exponent[c];
    }
  }
}

}  // namespace syncbn::bn
