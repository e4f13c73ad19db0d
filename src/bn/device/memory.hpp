// SPDX-License-Identifier: Apache-2.0
#pragma once

// These structs hold what a layer keeps in device memory.

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "syncbn/device_batch_norm.hpp"

#include "bn/device/exact.hpp"
#include "bn/options.hpp"
#include "comm/device/device_sum.hpp"
#include "cuda/device_buffer.hpp"
#include "kernels/cuda/cuda.hpp"

namespace syncbn::bn {

/// Holds kCount arrays of C doubles in device memory.
template <std::size_t kCount>
class Arrays {
 public:
  explicit Arrays(std::int64_t channels) : channels_(channels), memory_(kCount * bytes_of_one()) {}

  double* operator[](std::size_t k) const {
    return memory_.as<double>() + static_cast<std::int64_t>(k) * channels_;
  }
  void upload(std::size_t k, std::span<const double> values, CudaStream stream) {
    memory_.upload(std::as_bytes(values), stream, k * bytes_of_one());
  }
  std::vector<double> download(std::size_t k, CudaStream stream) const {
    std::vector<double> values(static_cast<std::size_t>(channels_));
    memory_.download(std::as_writable_bytes(std::span(values)), stream, k * bytes_of_one());
    cuda::StreamView(stream).synchronize();
    return values;
  }
  /// Copies the j-th array of `others` into array k.
  template <std::size_t kOther>
  void copy(std::size_t k, const Arrays<kOther>& others, std::size_t j, CudaStream stream) {
    memory_.copy(others.memory_, bytes_of_one(), stream, k * bytes_of_one(), j * bytes_of_one());
  }
  void clear(CudaStream stream) { memory_.clear(stream); }

 private:
  template <std::size_t kOther>
  friend class Arrays;

  std::size_t bytes_of_one() const { return static_cast<std::size_t>(channels_) * sizeof(double); }

  std::int64_t channels_;
  cuda::DeviceBuffer memory_;
};

struct DeviceStatistics {
  enum : std::size_t { mean, var, invstd, scale, shift, count };

  explicit DeviceStatistics(std::int64_t channels) : arrays(channels) {}

  Arrays<count> arrays;
};

struct DeviceState {
  enum : std::size_t { weight, bias, running_mean, running_var, start_mean, start_var, count };
  enum : std::size_t { weight_grad, bias_grad, gradients };

  explicit DeviceState(std::int64_t channels)
      : arrays(channels),
        gradients_of(channels),
        batches(sizeof(std::int64_t)),
        pivot(static_cast<std::size_t>(channels) * sizeof(double)) {}

  channels::RunningStatistics running() const {
    return {arrays[running_mean], arrays[running_var], arrays[start_mean], arrays[start_var]};
  }

  Arrays<count> arrays;
  Arrays<gradients> gradients_of;
  cuda::DeviceBuffer batches;  ///< one std::int64_t
  cuda::DeviceBuffer pivot;    ///< [C] doubles
};

struct DeviceWorkspace {
  enum : std::size_t { mean_dz, grad_slope, scale, shift, count };

  explicit DeviceWorkspace(std::int64_t channels)
      : arrays(channels),
        sums(sums_length(channels)),
        own_sums(sums_length(channels) * sizeof(double)),
        history(sizeof(std::uint64_t)) {}

  /// Makes room for the partial sums that kernels take of tensors like x, if it `needs` any: exact
  /// sums do not. A buffer that was too small is kept, as a captured graph may use it.
  void reserve(const ConstTensorView& x, bool needs) {
    if (!needs) {
      return;
    }
    const std::size_t bytes = kernels::cuda::workspace_bytes(x.shape(), x.dtype(), x.layout());
    if (bytes > partial.bytes()) {
      outgrown.push_back(std::exchange(partial, cuda::DeviceBuffer(bytes)));
    }
  }

  Arrays<count> arrays;
  comm::DeviceMessage sums;     ///< [2C + 1] the group's
  cuda::DeviceBuffer own_sums;  ///< [2C + 1] this rank's, in a backward
  cuda::DeviceBuffer history;   ///< one std::uint64_t: kernels::cuda::History::print
  cuda::DeviceBuffer partial;
  std::vector<cuda::DeviceBuffer> outgrown;
  std::optional<DeviceExact> exact;  ///< with Reproducibility::exact
  Identity layer;                    ///< the layer that owns this memory
  std::string options;               ///< the layer's, for the ranks to compare
};

}  // namespace syncbn::bn
