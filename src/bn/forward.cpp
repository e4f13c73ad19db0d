// SPDX-License-Identifier: Apache-2.0
//
// clang-format off
// forward   sums       n, s = sum(x - K), q = sum((x - K)^2)      one read of x
//           exchange   (s, q, n) summed over the group            one all-reduce of 2C + 1 (+ 8) doubles
//           finalize   mean, var, invstd; running statistics      O(C)
//           normalize  y                                          one read of x, one write of y
// clang-format on
//
// K is the expected mean, rounded to float: the running mean, corrected for its start at 0 (as
// Adam's moments are: Kingma & Ba 2015, section 3), or the last batch mean where none is tracked.
// If the reduced sums show that it was too far from the mean, the first two steps are repeated
// about the mean they gave: decided from the reduced values, hence alike on every rank, and at most
// once.

#include <algorithm>
#include <bit>
#include <cmath>

#include "syncbn/batch_norm.hpp"

#include "bn/statistics.hpp"
#include "bn/validate.hpp"
#include "comm/fingerprint.hpp"
#include "comm/group.hpp"

namespace syncbn {
namespace {

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
  saved.layer = options_.name;
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

void BatchNorm::choose_pivot() {
  const double momentum = options_.momentum.value_or(1.0);
  const double missing = std::pow(1 - momentum, static_cast<double>(num_batches_tracked_));
  const double share = missing < 1 ? 1 - missing : 1;
  std::ranges::transform(running_mean_, pivot_.begin(),
                         [share](double mean) { return to_pivot(mean / share); });
}

std::uint64_t BatchNorm::shared_state() const {
  if (group_.size() == 1) {
    return 0;  // nobody to compare with
  }
  return comm::Fingerprint()
      .add(std::as_bytes(std::span(pivot_)))
      .add(std::as_bytes(std::span(running_mean_)))
      .add(std::as_bytes(std::span(running_var_)))
      .add(static_cast<std::uint64_t>(forwards_))
      .add(std::bit_cast<std::uint64_t>(options_.eps))
      .add(std::bit_cast<std::uint64_t>(options_.momentum.value_or(-1.0)))
      .add(static_cast<std::uint64_t>(options_.activation))
      .add(static_cast<std::uint64_t>(options_.parameter_gradients))
      .add(static_cast<std::uint64_t>(options_.affine))
      .value();
}

void BatchNorm::take_group_statistics(comm::Pass pass, ConstTensorView x) {
  if (options_.track_running_stats) {
    choose_pivot();
  }
  comm::Descriptor what{.pass = pass,
                        .layer = options_.name,
                        .channels = channels_,
                        .dtype = x.dtype(),
                        .shared = shared_state()};
  forward_sums(x, pivot_, sums_, options_.backend);
  group_.group().exchange(what, sums_);
  if (pivot_is_far(sums_, pivot_, options_.eps, x.dtype())) {
    ++pivot_retries_;
    move_pivot_to_mean(sums_, pivot_);
    what.pass = comm::Pass::second_sums;
    what.shared = shared_state();
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
                         [&](double var) { return inverse_std(var, options_.eps); });
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
