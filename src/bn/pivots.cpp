// SPDX-License-Identifier: Apache-2.0
#include "bn/pivots.hpp"

#include <algorithm>
#include <cmath>

#include "kernels/statistics.hpp"

namespace syncbn::bn {
namespace {

double to_move_to(std::size_t channel, std::span<const double> sums, std::span<const double> pivot,
                  DType dtype) {
  constexpr double margin = 16;
  const double n = sums.back();
  const double offset = sums[channel] / n;
  const double mean = pivot[channel] + offset;
  const double uncertainty = margin * rounding_of_sums(n, dtype) * std::fabs(offset);
  return std::fabs(mean) < uncertainty ? 0 : to_pivot(mean, dtype);
}

}  // namespace

bool pivot_is_far(std::size_t channel, std::span<const double> sums, std::span<const double> pivot,
                  double eps, double nearness, DType dtype) {
  const double n = sums.back();
  const double sum_sq = sums[pivot.size() + channel];
  const double offset = sums[channel] / n;
  const double var = std::max(0.0, sum_sq / n - offset * offset);
  const bool is_near = std::isfinite(sum_sq) && offset * offset <= nearness * (var + eps);
  if (is_near || !(n > 0) || !std::isfinite(sums[channel]) || std::isnan(sum_sq)) {
    return false;
  }
  return to_move_to(channel, sums, pivot, dtype) != pivot[channel];
}

void move_pivot(std::size_t channel, std::span<const double> sums, std::span<double> pivot,
                DType dtype) {
  if (sums.back() > 0) {
    pivot[channel] = to_move_to(channel, sums, pivot, dtype);
  }
}

bool left_float(std::size_t channel, std::span<const double> sums, double eps) {
  // Squares of differences that are no smaller than this have all their digits in float.
  constexpr double least = 0x1p-100;
  const double n = sums.back();
  const double sum_sq = sums[sums.size() / 2 + channel];
  return n > 0 &&
         (!std::isfinite(sums[channel]) || !std::isfinite(sum_sq) || sum_sq / n + eps < least);
}

}  // namespace syncbn::bn
