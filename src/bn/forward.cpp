// SPDX-License-Identifier: Apache-2.0
//
// forward   sums      n, s = sum(x - K), q = sum((x - K)^2)     one read of x
//           exchange  (s, q, n) summed over the group           one all-reduce of 2C + 1 (+ 8)
//           doubles finalize  mean, var, invstd; running statistics     O(C) normalize y one read
//           of x, one write of y
//
// K is the running mean rounded to float, or the last batch mean where none is tracked. If the
// reduced sums show that it was too far from the mean, the first two steps are repeated about the
// mean they gave: decided from the reduced values, hence alike on every rank, and at most once.

#include <algorithm>
#include <bit>
#include <cmath>

#include "syncbn/batch_norm.hpp"

#include "bn/validate.hpp"
#include "comm/fingerprint.hpp"
#include "comm/group.hpp"

namespace syncbn {
namespace {

/// What a forward shares with the other ranks' beyond its message: the pivot, and the options that
/// shape the result.
std::uint64_t shared_state(std::span<const float> pivot, const BatchNormOptions& options) {
  return comm::Fingerprint()
      .add(std::as_bytes(pivot))
      .add(std::bit_cast<std::uint64_t>(options.eps))
      .add(std::bit_cast<std::uint64_t>(options.momentum.value_or(-1.0)))
      .add(static_cast<std::uint64_t>(options.activation))
      .value();
}

float to_pivot(double mean) {
  const auto rounded = static_cast<float>(mean);
  return std::isfinite(rounded) ? rounded : 0.0F;
}

void validate(const ConstTensorView& x, const std::optional<ConstTensorView>& residual,
              const TensorView& y, std::int64_t channels, const BatchNormOptions& options) {
  require_channels(x, channels, options.name);
  require_like_x(x, y, "y");
  if (residual) {
    require_like_x(x, *residual, "residual");
  }
}

}  // namespace

void BatchNorm::forward(ConstTensorView x, TensorView y, Saved& saved) {
  forward_with(x, std::nullopt, y, saved);
}

void BatchNorm::forward(ConstTensorView x, ConstTensorView residual, TensorView y, Saved& saved) {
  forward_with(x, residual, y, saved);
}

void BatchNorm::infer(ConstTensorView x, TensorView y) {
  infer_with(x, std::nullopt, y);
}

void BatchNorm::infer(ConstTensorView x, ConstTensorView residual, TensorView y) {
  infer_with(x, residual, y);
}

void BatchNorm::forward_with(ConstTensorView x, std::optional<ConstTensorView> residual,
                             TensorView y, Saved& saved) {
  validate(x, residual, y, channels_, options_);
  take_group_statistics(comm::Pass::forward, x);
  normalize(x, statistics_, affine(), options_.activation, residual, y, options_.backend);
  update_running_statistics();
  saved.statistics = statistics_;
  saved.shape = x.shape();
  saved.dtype = x.dtype();
  saved.layout = x.layout();
  saved.had_residual = residual.has_value();
  saved.forward = ++forwards_;
}

void BatchNorm::infer_with(ConstTensorView x, std::optional<ConstTensorView> residual,
                           TensorView y) {
  validate(x, residual, y, channels_, options_);
  if (options_.track_running_stats) {
    take_running_statistics();
  } else {
    take_group_statistics(comm::Pass::infer, x);
  }
  normalize(x, statistics_, affine(), options_.activation, residual, y, options_.backend);
}

void BatchNorm::take_group_statistics(comm::Pass pass, ConstTensorView x) {
  if (options_.track_running_stats) {
    std::ranges::transform(running_mean_, pivot_.begin(), to_pivot);
  }
  comm::Descriptor what{.pass = pass,
                        .layer = options_.name,
                        .channels = channels_,
                        .dtype = x.dtype(),
                        .shared = shared_state(pivot_, options_)};
  forward_sums(x, pivot_, sums_, options_.backend);
  group_.group().exchange(what, sums_);
  if (pivot_is_far(sums_, options_.eps, x.dtype())) {
    ++pivot_retries_;
    move_pivot_to_mean(sums_, pivot_);
    what.pass = comm::Pass::second_sums;
    what.shared = shared_state(pivot_, options_);
    forward_sums(x, pivot_, sums_, options_.backend);
    group_.group().exchange(what, sums_);
  }
  finalize(sums_, pivot_, options_.eps, statistics_);
  move_pivot_to_mean(sums_, pivot_);
}

void BatchNorm::take_running_statistics() {
  statistics_.mean = running_mean_;
  statistics_.var = running_var_;
  statistics_.invstd.resize(running_var_.size());
  std::ranges::transform(running_var_, statistics_.invstd.begin(),
                         [&](double var) { return 1 / std::sqrt(var + options_.eps); });
}

void BatchNorm::update_running_statistics() {
  const double n = statistics_.count;
  if (!options_.track_running_stats || n == 0) {
    return;
  }
  ++num_batches_tracked_;
  const double newest = options_.momentum.value_or(1.0 / static_cast<double>(num_batches_tracked_));
  for (std::size_t c = 0; c < running_mean_.size(); ++c) {
    running_mean_[c] += newest * (statistics_.mean[c] - running_mean_[c]);
    if (n > 1) {  // one element has no unbiased variance
      running_var_[c] += newest * (statistics_.var[c] * (n / (n - 1)) - running_var_[c]);
    }
  }
}

}  // namespace syncbn
