// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cmath>
#include <type_traits>

#include "core/visit_dtype.hpp"

#include "kernels/reference/elements.hpp"
#include "kernels/reference/reference.hpp"
#include "kernels/reference/upstream.hpp"

namespace syncbn::kernels::reference {
namespace {

/// Calls add(first, q, r) for the terms `first` and q * r of every element of channel c.
template <class T, class Add>
void for_terms(const ForwardSums& arguments, std::int64_t c, Add add) {
  for_each_element(
      arguments.x, arguments.weight, c,
      [&](std::int64_t i, double w) {
        const double d = load<T>(arguments.x.data(), i) - arguments.pivot[c];
        add(w * d, w * d, d);
      },
      [](std::int64_t) {});
}
template <class T, class Add>
void for_terms(const BackwardSums& arguments, std::int64_t c, Add add) {
  const Upstream& upstream = arguments.upstream;
  for_each_element(
      upstream.data, upstream.weight, c,
      [&](std::int64_t i, double) {
        const Element element = upstream_element<T>(upstream, c, i);
        add(element.dz, element.dz, element.centered);
      },
      [](std::int64_t) {});
}

const ConstTensorView& tensor(const ForwardSums& arguments) {
  return arguments.x;
}
const ConstTensorView& tensor(const BackwardSums& arguments) {
  return arguments.upstream.data;
}

/// Tells whether a term v lies outside of its window, given sum = M + v and grid = M.
bool is_far(double sum, double grid) {
  return channels::is_outside(channels::units(sum, grid) + channels::signed_offset);
}

template <class Arguments>
void sum_in_fixed_point(const Arguments& arguments, const ChannelRange& range,
                        const channels::ExactChannels& to) {
  visit_dtype(tensor(arguments).dtype(), [&]<class T>() {
    for (std::int64_t c = range.begin; c < range.end; ++c) {
      const double first_grid = channels::grid(to.first_window[c]);
      const double second_grid = channels::grid(to.second_window[c]);
      channels::FixedPointSum first, second;
      double largest = 0;
      bool outside = false;
      for_terms<T>(arguments, c, [&](double p, double q, double r) {
        const double first_sum = p + first_grid;
        const double second_sum = std::fma(q, r, second_grid);
        largest = std::max(largest, std::fabs(p));
        if (is_far(first_sum, first_grid) || is_far(second_sum, second_grid)) {
          outside = true;
          return;
        }
        first.coarse.add(channels::units(first_sum, first_grid));
        second.coarse.add(channels::units(second_sum, second_grid));
        if (std::is_same_v<T, double>) {
          const double first_rest = p - (first_sum - first_grid);
          const double second_rest = std::fma(q, r, -(second_sum - second_grid));
          first.fine.add(channels::units(first_rest + first_grid * channels::finer,
                                         first_grid * channels::finer));
          second.fine.add(channels::units(second_rest + second_grid * channels::finer,
                                          second_grid * channels::finer));
        }
      });
      constexpr bool is_backward = std::is_same_v<Arguments, BackwardSums>;
      channels::put_tally(to, c, first, second, is_backward ? largest : 0, outside);
    }
  });
}

template <class Arguments>
void find_magnitudes(const Arguments& arguments, const ChannelRange& range,
                     const channels::ExactChannels& to) {
  visit_dtype(tensor(arguments).dtype(), [&]<class T>() {
    for (std::int64_t c = range.begin; c < range.end; ++c) {
      channels::Magnitude first{}, second{};
      const auto see = [](channels::Magnitude& of, double term) {
        of.largest = std::max(of.largest, std::fabs(term));
        of.special += std::isfinite(term) ? 0 : term;
      };
      for_terms<T>(arguments, c, [&](double p, double q, double r) {
        see(first, p);
        see(second, q * r);
      });
      channels::put_magnitudes(to, c, first, second);
    }
  });
}

}  // namespace

void forward_in_fixed_point(const ForwardSums& arguments, const ChannelRange& range,
                            const channels::ExactChannels& to, const Run&) {
  sum_in_fixed_point(arguments, range, to);
}

void backward_in_fixed_point(const BackwardSums& arguments, const ChannelRange& range,
                             const channels::ExactChannels& to, const Run&) {
  sum_in_fixed_point(arguments, range, to);
}

void forward_magnitudes(const ForwardSums& arguments, const ChannelRange& range,
                        const channels::ExactChannels& to, const Run&) {
  find_magnitudes(arguments, range, to);
}

void backward_magnitudes(const BackwardSums& arguments, const ChannelRange& range,
                         const channels::ExactChannels& to, const Run&) {
  find_magnitudes(arguments, range, to);
}

}  // namespace syncbn::kernels::reference
