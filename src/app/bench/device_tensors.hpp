// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <vector>

#include "syncbn/tensor_view.hpp"

#include "cuda/device_buffer.hpp"

namespace syncbn::app::bench {

/// DeviceTensors are what a layer on a device works on, in the device's memory.
struct DeviceTensors {
  cuda::DeviceBuffer x, y, dy, dx;
};

/// A DevicePool holds sets of tensors on the current device, with the same values in every set.
/// Sets are used in turn, so that each call finds its tensors in memory rather than in the L2: one
/// tensor of each set together exceed it four times. As there are 256 sets at most, tiny tensors
/// stay in the cache.
class DevicePool {
 public:
  /// Makes and fills the sets, and waits for the device.
  DevicePool(const Shape& shape, DType dtype, Layout layout, int rank, std::size_t cache_bytes,
             Device device);

  DeviceTensors& next();
  TensorView view(const cuda::DeviceBuffer& tensor) const {
    return {tensor.data(), dtype_, shape_, layout_, device_};
  }

 private:
  Shape shape_;
  DType dtype_;
  Layout layout_;
  Device device_;
  std::vector<DeviceTensors> sets_;
  std::size_t next_ = 0;
};

}  // namespace syncbn::app::bench
