// SPDX-License-Identifier: Apache-2.0
#include "syncbn/batch_norm.hpp"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <sstream>
#include <string_view>

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

// What the ranks must have in common, each difference to be seen; in 96 bytes as a rule.
std::string to_text(const BatchNormOptions& options) {
  std::ostringstream text;
  const auto number = [&](double value) {
    std::array<char, 32> digits{};  // the fewest that mean this number
    text << std::string_view(digits.data(), std::to_chars(digits.begin(), digits.end(), value).ptr);
  };
  text << "eps ";
  number(options.eps);
  if (options.momentum) {
    text << ", momentum ";
    number(*options.momentum);
  } else {
    text << ", average of all batches";
  }
  if (options.activation.negative_slope != 1) {
    text << ", slope ";
    number(options.activation.negative_slope);
  }
  text << (options.affine ? "" : ", not affine")
       << (options.track_running_stats ? "" : ", untracked")
       << (options.parameter_gradients == GradientScope::group ? ", group's gradients" : "")
       << (options.reproducibility == Reproducibility::exact ? ", exact" : "");
  if (options.channel_blocks != 0) {
    text << ", " << options.channel_blocks << " blocks";
  }
  return text.str();
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
  working_->options = to_text(options_);
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
