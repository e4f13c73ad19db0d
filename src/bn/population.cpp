// SPDX-License-Identifier: Apache-2.0
//
// Moments of a rank: n, mean, m2 = sum((x - mean)^2). A batch of moments (n', mean', m2') is merged
// by Chan, Golub & LeVeque (1979), "Updating formulae and a pairwise algorithm for computing sample
// variances": with d = mean' - mean and N = n + n',
//
//   mean += d n' / N,   m2 += m2' + d^2 n n' / N
//
// The first batch's are taken as they are: where d^2 overflows, its product with n = 0 is NaN.
//
// Over the ranks, the first all-reduce gives M = sum(n mean) / sum(n), rounded. The second sums the
// ranks' moments about M, n (mean - M) and m2 + n (mean - M)^2, which are sums about a pivot as
// those of a forward, and from there on the same.
#include "syncbn/population.hpp"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <string>
#include <vector>

#include "syncbn/error.hpp"

#include "core/default_arithmetic.hpp"

namespace syncbn {

struct PopulationStatistics::Impl {
  std::vector<double> mean;  ///< [C]
  std::vector<double> m2;    ///< [C] sum of (x - mean)^2
  double count = 0;          ///< elements per channel

  std::vector<double> pivot = {};  ///< [C] of a batch's sums
  std::vector<double> sums = {};   ///< [2C + 1]
  Statistics batch = {};
};

namespace {

/// Makes the pivot of the next batch the mean so far, as far as sums of the type can be about it.
void choose_pivot(const std::vector<double>& mean, DType dtype, std::vector<double>& pivot) {
  pivot.resize(mean.size());
  std::ranges::transform(mean, pivot.begin(), [&](double value) {
    const double rounded = dtype == DType::f64 ? value : static_cast<float>(value);
    return std::isfinite(rounded) ? rounded : 0.0;
  });
}

void merge(PopulationStatistics::Impl& into, const Statistics& batch) {
  if (batch.count == 0) {
    return;
  }
  const double n = into.count;
  const double total = n + batch.count;
  for (std::size_t c = 0; c < into.mean.size(); ++c) {
    const double m2 = batch.var[c] * batch.count;
    if (n == 0) {
      into.mean[c] = batch.mean[c];
      into.m2[c] = m2;
      continue;
    }
    const double d = batch.mean[c] - into.mean[c];
    into.mean[c] += d * (batch.count / total);
    into.m2[c] += m2 + d * d * (n / total) * batch.count;
  }
  into.count = total;
}

}  // namespace

PopulationStatistics::PopulationStatistics(std::int64_t channels) {
  if (channels < 1 || channels > Shape::most_channels) {
    throw InvalidArgument("population statistics of " + std::to_string(channels) +
                          " channels (at least 1 and at most 2^40)");
  }
  const auto length = static_cast<std::size_t>(channels);
  impl_ = std::make_unique<Impl>(
      Impl{.mean = std::vector<double>(length), .m2 = std::vector<double>(length)});
}

PopulationStatistics::PopulationStatistics(PopulationStatistics&&) noexcept = default;
PopulationStatistics& PopulationStatistics::operator=(PopulationStatistics&&) noexcept = default;
PopulationStatistics::~PopulationStatistics() = default;

std::int64_t PopulationStatistics::channels() const {
  return static_cast<std::int64_t>(impl_->mean.size());
}

void PopulationStatistics::add(ConstTensorView x, PositionWeights position_weights) {
  const DefaultArithmetic arithmetic;
  if (x.device() != Device::cpu()) {
    throw NotConfigured(
        "population statistics of a tensor on a CUDA device (they are taken on the CPU). Copy x to "
        "the host's memory.");
  }
  if (x.shape().c != channels()) {
    throw InvalidArgument("x has " + std::to_string(x.shape().c) +
                          " channels (the population statistics have " +
                          std::to_string(channels()) + ")");
  }
  constexpr double eps = 0;
  choose_pivot(impl_->mean, x.dtype(), impl_->pivot);
  impl_->sums.resize(sums_length(channels()));
  for (int round = 0;; ++round) {
    forward_sums(x, impl_->pivot, impl_->sums, position_weights);
    if (!move_far_pivots(impl_->sums, impl_->pivot, eps, x.dtype(), round)) {
      break;
    }
  }
  finalize(impl_->sums, impl_->pivot, eps, impl_->batch);
  merge(*impl_, impl_->batch);
}

Statistics PopulationStatistics::finish(const Communicator& group) const {
  const DefaultArithmetic arithmetic;
  const std::size_t channels = impl_->mean.size();
  const double n = impl_->count;
  std::vector<double> mean(channels + 1);
  std::ranges::transform(impl_->mean, mean.begin(), [&](double value) { return n * value; });
  mean.back() = n;
  group.all_reduce(mean);
  const double total = mean.back();
  mean.pop_back();
  for (double& value : mean) {
    value /= total > 0 ? total : 1;
  }

  std::vector<double> sums(2 * channels + 1);
  for (std::size_t c = 0; c < channels && n > 0; ++c) {
    const double d = impl_->mean[c] - mean[c];
    sums[c] = n * d;
    sums[channels + c] = impl_->m2[c] + n * d * d;
  }
  sums.back() = n;
  group.all_reduce(sums);
  Statistics population;
  finalize(sums, mean, 0, population);
  return population;
}

}  // namespace syncbn
