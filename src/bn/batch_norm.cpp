// SPDX-License-Identifier: Apache-2.0
#include "syncbn/batch_norm.hpp"

#include <algorithm>

#include "bn/options.hpp"
#include "bn/passes.hpp"
#include "comm/group.hpp"

namespace syncbn {

BatchNorm::BatchNorm(std::int64_t channels, Communicator group, BatchNormOptions options)
    : channels_(bn::validated(channels, options)),
      group_(std::move(group)),
      options_(std::move(options)),
      working_(std::make_unique<bn::Workspace>()) {
  working_->layer = bn::identify(options_.name, group_.group());
  options_.name = working_->layer.name;
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
  pivot_.assign(c, 0.0);
  start_mean_ = running_mean_;
  start_var_ = running_var_;
  working_->options = bn::to_text(options_);
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
