// SPDX-License-Identifier: Apache-2.0
#include "syncbn/batch_norm.hpp"

#include <algorithm>
#include <cmath>

#include "syncbn/error.hpp"

#include "bn/passes.hpp"
#include "bn/validate.hpp"
#include "comm/group.hpp"

namespace syncbn {
namespace {

std::int64_t validated(std::int64_t channels, const BatchNormOptions& options) {
  const std::string layer = "layer '" + options.name + "': ";
  if (channels < 1) {
    throw InvalidArgument(layer + std::to_string(channels) + " channels (at least 1)");
  }
  if (!(options.eps >= 0) || std::isinf(options.eps)) {
    throw InvalidArgument(layer + "eps = " + std::to_string(options.eps) +
                          " (a finite number of at least 0)");
  }
  if (options.momentum && !(*options.momentum >= 0 && *options.momentum <= 1)) {
    throw InvalidArgument(layer + "momentum = " + std::to_string(*options.momentum) +
                          " (between 0 and 1, or none for the average of all batches)");
  }
  if (options.channel_blocks < 0) {
    throw InvalidArgument(layer + "channel_blocks = " + std::to_string(options.channel_blocks) +
                          " (at least 1, or 0 for as many as suit the cache)");
  }
  require_slope(options.activation);
  return channels;
}

BatchNormOptions named(BatchNormOptions options, const Communicator& group) {
  if (options.name.empty()) {
    options.name = "batch_norm." + std::to_string(group.group().count_unnamed_layer());
  }
  return options;
}

}  // namespace

BatchNorm::BatchNorm(std::int64_t channels, Communicator group, BatchNormOptions options)
    : channels_(validated(channels, options)),
      group_(std::move(group)),
      options_(named(std::move(options), group_)),
      working_(std::make_unique<bn::Workspace>()) {
  const auto c = static_cast<std::size_t>(channels);
  if (options_.affine) {
    weight_.assign(c, 1.0);
    bias_.assign(c, 0.0);
    weight_grad_.assign(c, 0.0);
    bias_grad_.assign(c, 0.0);
  }
  if (options_.track_running_stats) {
    running_mean_.assign(c, 0.0);
    running_var_.assign(c, 1.0);
  }
  pivot_.assign(c, 0.0F);
  if (options_.reproducibility == Reproducibility::exact) {
    working_->exact.emplace(channels);
  }
  working_->statistics = {.mean = std::vector<double>(c),
                          .var = std::vector<double>(c),
                          .invstd = std::vector<double>(c)};
}

BatchNorm::BatchNorm(BatchNorm&&) noexcept = default;
BatchNorm& BatchNorm::operator=(BatchNorm&&) noexcept = default;
BatchNorm::~BatchNorm() = default;

void BatchNorm::zero_grad() {
  std::ranges::fill(weight_grad_, 0.0);
  std::ranges::fill(bias_grad_, 0.0);
}

}  // namespace syncbn
