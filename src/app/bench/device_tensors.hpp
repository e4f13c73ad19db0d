// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <vector>

#include "syncbn/tensor_view.hpp"

#include "cuda/device_buffer.hpp"

namespace syncbn::app::bench {

/// What a layer on a device works on, in its memory.
struct DeviceTensors {
  cuda::DeviceBuffer x, y, dy, dx;
};

/// Tensors of the current device, with the same values in every set. Used in turn, each call finds
/// its tensors in memory rather than in the L2: one tensor of every set exceed it four times. Tiny
/// ones stay in the cache: there are 256 sets at most.
class DevicePool {
 public:
  /// Waits for the device.
  DevicePool(const Shape& shape, DType dtype, Layout layout, int rank, std::size_t cache_bytes);

  DeviceTensors& next();
  TensorView view(const cuda::DeviceBuffer& tensor) const {
    return {tensor.data(), dtype_, shape_, layout_};
  }

 private:
  Shape shape_;
  DType dtype_;
  Layout layout_;
  std::vector<DeviceTensors> sets_;
  std::size_t next_ = 0;
};

}  // namespace syncbn::app::bench
