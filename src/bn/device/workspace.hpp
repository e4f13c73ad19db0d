// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "bn/device/exact.hpp"
#include "bn/place.hpp"
#include "comm/device/device_message.hpp"
#include "cuda/device_buffer.hpp"
#include "kernels/cuda/cuda.hpp"

namespace syncbn::bn {

/// A DeviceWorkspace is the device memory of a layer's passes.
struct DeviceWorkspace {
  explicit DeviceWorkspace(std::int64_t channels)
      : sums(sums_length(channels)),
        own_sums(sums_length(channels) * sizeof(double)),
        coefficients(2 * static_cast<std::size_t>(channels) * sizeof(double)),
        history(sizeof(std::uint64_t)) {}

  /// Makes room for the partial sums that kernels take of tensors like x, if it `needs` any: exact
  /// sums do not. Memory that was too small is kept, as a captured graph may use it.
  void reserve(const ConstTensorView& x, bool needs, const Place& place) {
    if (!needs) {
      return;
    }
    const std::size_t bytes = kernels::cuda::workspace_bytes(x.shape(), x.dtype(), x.layout());
    if (bytes > partial_bytes) {
      outgrown.push_back(std::exchange(partial, place.allocate(bytes)));
      partial_bytes = bytes;
    }
  }

  comm::DeviceMessage sums;         ///< [2C + 1] the group's
  cuda::DeviceBuffer own_sums;      ///< [2C + 1] this rank's, in a backward
  cuda::DeviceBuffer coefficients;  ///< [2, C] mean_dz and grad_slope
  cuda::DeviceBuffer history;       ///< one std::uint64_t: kernels::cuda::History::print
  std::shared_ptr<void> partial;
  std::size_t partial_bytes = 0;
  std::vector<std::shared_ptr<void>> outgrown;
  ForwardRecord::Impl inferred;      ///< statistics of an infer that nobody records
  std::optional<DeviceExact> exact;  ///< with Reproducibility::exact
};

}  // namespace syncbn::bn
