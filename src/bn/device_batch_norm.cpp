// SPDX-License-Identifier: Apache-2.0
//
// A DeviceBatchNorm puts the steps of host/forward.cpp and host/backward.cpp, where the formulas
// are, on a stream. All that it knows per channel is in device memory.

#include "syncbn/device_batch_norm.hpp"

#include <utility>
#include <vector>

#include "bn/device/memory.hpp"
#include "bn/options.hpp"
#include "bn/validate.hpp"

namespace syncbn {

using bn::DeviceState;
using bn::DeviceStatistics;
using bn::DeviceWorkspace;

DeviceSaved::DeviceSaved() = default;
DeviceSaved::DeviceSaved(DeviceSaved&&) noexcept = default;
DeviceSaved& DeviceSaved::operator=(DeviceSaved&&) noexcept = default;
DeviceSaved::~DeviceSaved() = default;

const double* DeviceSaved::mean() const {
  return statistics_ ? statistics_->arrays[DeviceStatistics::mean] : nullptr;
}
const double* DeviceSaved::var() const {
  return statistics_ ? statistics_->arrays[DeviceStatistics::var] : nullptr;
}
const double* DeviceSaved::invstd() const {
  return statistics_ ? statistics_->arrays[DeviceStatistics::invstd] : nullptr;
}

DeviceBatchNorm::DeviceBatchNorm(std::int64_t channels, DeviceCommunicator group,
                                 BatchNormOptions options)
    : channels_(bn::validated(channels, options)),
      group_(std::move(group)),
      options_(std::move(options)),
      state_(std::make_unique<DeviceState>(channels)),
      working_(std::make_unique<DeviceWorkspace>(channels)) {
  working_->layer = bn::identify(options_.name, group_.sum());
  options_.name = working_->layer.name;
  working_->options = bn::to_text(options_);
  if (options_.reproducibility == Reproducibility::exact) {
    working_->exact.emplace(channels, group_.size());
  }
  const auto c = static_cast<std::size_t>(channels);
  const std::vector<double> zeros(c, 0.0), ones(c, 1.0);
  state_->arrays.upload(DeviceState::weight, ones, nullptr);
  state_->arrays.upload(DeviceState::bias, zeros, nullptr);
  state_->arrays.upload(DeviceState::running_mean, zeros, nullptr);
  state_->arrays.upload(DeviceState::running_var, ones, nullptr);
  state_->arrays.upload(DeviceState::start_mean, zeros, nullptr);
  state_->arrays.upload(DeviceState::start_var, ones, nullptr);
  state_->gradients_of.clear(nullptr);
  state_->batches.clear(nullptr);
  state_->pivot.clear(nullptr);
  cuda::StreamView(nullptr).synchronize();
}

DeviceBatchNorm::DeviceBatchNorm(DeviceBatchNorm&&) noexcept = default;
DeviceBatchNorm& DeviceBatchNorm::operator=(DeviceBatchNorm&&) noexcept = default;
DeviceBatchNorm::~DeviceBatchNorm() = default;

double* DeviceBatchNorm::weight() {
  return options_.affine ? state_->arrays[DeviceState::weight] : nullptr;
}
double* DeviceBatchNorm::bias() {
  return options_.affine ? state_->arrays[DeviceState::bias] : nullptr;
}
double* DeviceBatchNorm::weight_grad() {
  return options_.affine ? state_->gradients_of[DeviceState::weight_grad] : nullptr;
}
double* DeviceBatchNorm::bias_grad() {
  return options_.affine ? state_->gradients_of[DeviceState::bias_grad] : nullptr;
}
double* DeviceBatchNorm::running_mean() {
  return options_.track_running_stats ? state_->arrays[DeviceState::running_mean] : nullptr;
}
double* DeviceBatchNorm::running_var() {
  return options_.track_running_stats ? state_->arrays[DeviceState::running_var] : nullptr;
}
std::int64_t* DeviceBatchNorm::num_batches_tracked() {
  return options_.track_running_stats ? state_->batches.as<std::int64_t>() : nullptr;
}

void DeviceBatchNorm::zero_grad(CudaStream stream) {
  state_->gradients_of.clear(stream);
}

}  // namespace syncbn
