// SPDX-License-Identifier: Apache-2.0
#include "bn/host/block_plan.hpp"

#include <algorithm>
#include <cmath>

#include "kernels/kernels.hpp"

namespace syncbn::bn {
namespace {

constexpr std::int64_t cache_parts = 8;  ///< a block may take one of so many parts of the cache
constexpr double most_of_a_forward = 1.0 / 20;  ///< that exchanges may take

}  // namespace

channels::ChannelRange block(std::int64_t channels, std::int64_t blocks, std::int64_t k) {
  return {channels * k / blocks, channels * (k + 1) / blocks};
}

std::int64_t BlockPlan::wanted(const ConstTensorView& x) const {
  if (chosen_ != 0) {
    return std::min(chosen_, channels_);
  }
  const kernels::Kernels& kernels = kernels::select(backend_);
  const std::int64_t cache = kernels.cache_bytes();
  const std::int64_t both = 2 * x.shape().size() * static_cast<std::int64_t>(size_of(x.dtype()));
  const std::int64_t channel = std::max<std::int64_t>(1, both / channels_);
  const std::int64_t fit = cache / cache_parts / channel;
  const std::int64_t size = std::max(fit, kernels.least_channels(x));
  const bool all_fit = both <= cache;
  const bool none_fit = size > cache / 2 / channel;
  return all_fit || none_fit ? 1 : (channels_ + size - 1) / size;
}

BlockPlan::Forward BlockPlan::begin(const ConstTensorView& x, const comm::Group& group) const {
  const std::int64_t mine = wanted(x);
  const auto vote = static_cast<double>(mine);
  if (chosen_ != 0 || group.size() == 1) {
    return {mine, vote};
  }
  const bool is_cheap = vote * group.fastest() <= most_of_a_forward * forward_seconds_;
  return {blocks_, is_cheap ? vote : 1};
}

void BlockPlan::end(double mean_vote, double seconds) {
  forward_seconds_ = seconds;
  // Another number of blocks means messages of new lengths, so it changes by a factor of 2 or not
  // at all.
  const auto next = std::clamp<std::int64_t>(std::llround(mean_vote), 1, channels_);
  if (next >= 2 * blocks_ || 2 * next <= blocks_) {
    blocks_ = next;
  }
}

}  // namespace syncbn::bn
