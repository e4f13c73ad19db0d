// SPDX-License-Identifier: Apache-2.0
#include <span>
#include <string>

#include "syncbn/device_batch_norm.hpp"

#include "bn/device/memory.hpp"
#include "bn/saved_values.hpp"

namespace syncbn {

using bn::DeviceState;

void DeviceBatchNorm::save_state(StateDict& state, CudaStream stream,
                                 std::string_view prefix) const {
  const std::string base(prefix);
  const auto save = [&](const char* name, std::size_t array) {
    state.tensors[base + name] =
        bn::saved_values(base + name, state_->arrays.download(array, stream));
  };
  if (options_.affine) {
    save("weight", DeviceState::weight);
    save("bias", DeviceState::bias);
  }
  if (options_.track_running_stats) {
    save("running_mean", DeviceState::running_mean);
    save("running_var", DeviceState::running_var);
    std::int64_t batches = 0;
    state_->batches.download(std::as_writable_bytes(std::span(&batches, 1)), stream);
    cuda::StreamView(stream).synchronize();
    state.tensors[base + "num_batches_tracked"] = StateTensor::from(batches);
  }
}

void DeviceBatchNorm::load_state(const StateDict& state, CudaStream stream,
                                 std::string_view prefix) {
  BatchNorm host(channels_, Communicator::self(), options_);
  host.load_state(state, prefix);  // throws if the state is wrong
  take_state(host, stream);
}

void DeviceBatchNorm::save(const std::filesystem::path& file, CudaStream stream) const {
  StateDict state;
  save_state(state, stream);
  save_safetensors(state, file);
}

void DeviceBatchNorm::load(const std::filesystem::path& file, CudaStream stream) {
  BatchNorm host(channels_, Communicator::self(), options_);
  host.load(file);
  take_state(host, stream);
}

void DeviceBatchNorm::take_state(BatchNorm& host, CudaStream stream) {
  if (options_.affine) {
    state_->arrays.upload(DeviceState::weight, host.weight(), stream);
    state_->arrays.upload(DeviceState::bias, host.bias(), stream);
  }
  if (options_.track_running_stats) {
    state_->arrays.upload(DeviceState::running_mean, host.running_mean(), stream);
    state_->arrays.upload(DeviceState::running_var, host.running_var(), stream);
    const std::int64_t batches = host.num_batches_tracked();
    state_->batches.upload(std::as_bytes(std::span(&batches, 1)), stream);
  }
  const auto c = static_cast<std::size_t>(channels_);
  const std::vector<double> zeros(c, 0.0), ones(c, 1.0);
  state_->arrays.upload(DeviceState::start_mean, zeros, stream);
  state_->arrays.upload(DeviceState::start_var, ones, stream);
  state_->pivot.clear(stream);
  if (working_->exact) {
    working_->exact->forget(stream);
  }
  knows_mean_ = false;
  cuda::StreamView(stream).synchronize();
}

}  // namespace syncbn
